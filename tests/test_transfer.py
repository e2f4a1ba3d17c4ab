"""Every measure against matrices worked out by hand."""

from __future__ import annotations

import pytest

from benchmark.analysis import transfer

# Two old tasks, one new: a was .80 and ends at .77, b was .60 and ends at .61.
ONE_NEW = [{"a": 0.80, "b": 0.60}, {"a": 0.77, "b": 0.61, "new": 0.70}]
# A chain: b is learnt at stage 1, c at stage 2. a peaks at stage 1, so best earlier differs from first.
CHAIN = [{"a": 0.70}, {"a": 0.75, "b": 0.80}, {"a": 0.72, "b": 0.74, "c": 0.90}]


def test_degradation_is_first_minus_last() -> None:
    assert transfer.degradation(ONE_NEW, ["a", "b"]) == pytest.approx({"a": 0.03, "b": -0.01})
    assert transfer.degradation(CHAIN, ["a", "b"]) == pytest.approx({"a": -0.02, "b": 0.06})


def test_mean_and_worst_degradation() -> None:
    assert transfer.mean_degradation(ONE_NEW, ["a", "b"]) == pytest.approx(0.01)
    assert transfer.worst_degradation(ONE_NEW, ["a", "b"]) == pytest.approx(0.03)


def test_backward_transfer_is_minus_mean_degradation() -> None:
    assert transfer.backward_transfer(ONE_NEW, ["a", "b"]) == pytest.approx(-0.01)
    assert transfer.backward_transfer(CHAIN, ["a", "b"]) == pytest.approx((0.02 - 0.06) / 2)


def test_forgetting_takes_the_best_earlier_stage() -> None:
    assert transfer.forgetting(CHAIN, ["a", "b"]) == pytest.approx((0.03 + 0.06) / 2)
    # With one new task both definitions agree.
    assert transfer.forgetting(ONE_NEW, ["a", "b"]) == pytest.approx(transfer.mean_degradation(ONE_NEW, ["a", "b"]))


def test_no_change_is_exactly_zero() -> None:
    same = [{"a": 0.1 + 0.2}, {"a": 0.1 + 0.2, "new": 0.5}]
    assert transfer.mean_degradation(same, ["a"]) == 0.0
    assert str(transfer.backward_transfer(same, ["a"])) == "0.0"  # not -0.0


def test_gain_and_distance_to_joint_have_opposite_signs() -> None:
    assert transfer.gain(0.70, 0.65) == pytest.approx(0.05)
    assert transfer.distance_to_joint(0.70, 0.75) == pytest.approx(0.05)


def test_delta_m_is_the_mean_relative_gain() -> None:
    assert transfer.delta_m({"a": 0.88, "b": 0.45}, {"a": 0.80, "b": 0.50}) == pytest.approx((0.10 - 0.10) / 2)
    turned = transfer.delta_m({"a": 0.88, "b": 0.45}, {"a": 0.80, "b": 0.50}, {"a": True, "b": False})
    assert turned == pytest.approx(0.10)


def test_gain_above_chance_is_relative_to_what_exceeds_guessing() -> None:
    assert transfer.gain_above_chance(0.62, 0.60) == pytest.approx(0.2)
    assert transfer.gain_above_chance(0.62, 0.50) is None
    assert transfer.gain_above_chance(0.62, 0.45) is None


@pytest.mark.parametrize(
    "stages",
    [
        [{"a": None}, {"a": 0.5}],
        [{"a": 0.5}, {"a": None}],
        [{"a": 0.5}, {}],
        [{}, {"b": 0.5}],
        [],
        # Learnt but undefined at stage 0: stage 1 must not step in as the "first" score.
        [{"a": None}, {"a": 0.6}, {"a": 0.5}],
    ],
)
def test_what_is_undefined_is_none(stages: list[dict[str, float | None]]) -> None:
    assert transfer.degradation(stages, ["a"]) == {"a": None}
    assert transfer.mean_degradation(stages, ["a"]) is None
    assert transfer.worst_degradation(stages, ["a"]) is None
    assert transfer.backward_transfer(stages, ["a"]) is None


def test_undefined_references_make_undefined_measures() -> None:
    assert transfer.gain(None, 0.5) is None
    assert transfer.gain(0.5, None) is None
    assert transfer.delta_m({"a": 0.5}, {}) is None
    assert transfer.delta_m({"a": 0.5}, {"a": 0.0}) is None
    assert transfer.delta_m({}, {}) is None
    assert transfer.mean_degradation(ONE_NEW, []) is None
    assert transfer.forgetting([{"a": None}, {"a": 0.5}], ["a"]) is None
