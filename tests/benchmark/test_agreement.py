"""Two records of one run: equal bits where everything that decides bits agrees, a tolerance elsewhere."""

import pytest

from benchmark.records.agreement import TOLERANCE, compare, seeds_of
from benchmark.records.tree import read_records
from tests.sweep.trees import HERE

RECORD = read_records(HERE / "reference")[0][1]


def changed(score=0.0, **provenance):
    """The record as another run of it would have come out: ``score`` is added to one AUC, and weights differ by it."""
    other = RECORD.model_copy(deep=True)
    for name, value in provenance.items():
        setattr(other.provenance, name, value)
    if score:
        other.scores["click"].metrics["auc"] += score
        other.curve[1].loss["click"] += score
        other.weights_fingerprint = "0" * 32
    return other


def test_the_same_bits_are_equal():
    assert compare(RECORD, changed()).state == "equal"


@pytest.mark.parametrize("name", ["machine", "times_kind", "commit", "jobs", "started", "cpu", "python", "data_code"])
def test_equal_bits_are_promised_whatever_decides_no_bits(name):
    value = 7 if name == "jobs" else "another"
    verdict = compare(RECORD, changed(1e-9, **{name: value}))
    assert verdict.state == "different"
    assert any("have to be equal bit for bit" in line for line in verdict.lines)
    assert any("the curves part at epoch 2: loss 'click'" in line for line in verdict.lines)


@pytest.mark.parametrize(
    ("name", "value", "title"),
    [
        (
            "bits_kind",
            "x86_64 AuthenticAMD, native (torch AVX512, numpy X86_V3), 1 thread(s)",
            "kind of machine for bits",
        ),
        ("bits_kind", None, "kind of machine for bits"),  # written before kinds were kept: unknown
        ("code_fingerprint", "0" * 16, "code"),
        ("data_fingerprint", "0" * 32, "data"),
        ("packages", {"torch": "9.9"}, "packages"),
    ],
    ids=["kind", "unknown kind", "code", "data", "packages"],
)
@pytest.mark.parametrize("recorded", [True, False], ids=["as recorded", "as it is now"])
def test_where_something_parts_or_is_unknown_scores_are_compared_within_the_tolerance(name, value, title, recorded):
    def verdict(score):
        other = changed(score, **{name: value})
        return compare(other, RECORD) if recorded else compare(RECORD, other)

    near, far = verdict(TOLERANCE / 2), verdict(2 * TOLERANCE)
    assert (near.state, far.state) == ("within tolerance", "different")
    for found in (near, far):
        assert any(line.startswith(f"{title}: recorded ") for line in found.lines)
        assert not any("have to be equal" in line for line in found.lines)
    if value is None:
        assert any("unknown" in line for line in near.lines)
    assert verdict(0.0).state == "equal"


def test_scores_that_hang_on_few_rows_have_a_coarser_tolerance():
    for score, state in ((0.005, "within tolerance"), (0.02, "different")):
        other = changed(1e-6, bits_kind="another")
        other.scores["click"].metrics["calibration_error"] += score
        verdict = compare(RECORD, other)
        assert verdict.state == state and any("calibration_error); tolerance 0.01" in line for line in verdict.lines)


def test_on_another_kind_of_machine_a_score_may_differ_as_between_seeds():
    """Training makes of another rounding at most what it makes of another seed, and of some runs that is much."""
    seeds = [RECORD, changed(0.01), changed(-0.01)]  # standard deviation .01: two of three differ by up to .14
    for score, state in ((0.13, "within tolerance"), (0.15, "different")):
        verdict = compare(RECORD, changed(score, bits_kind="another"), seeds)
        assert verdict.state == state
        assert any("(click, auc); tolerance 0.14, as between two of its 3 seeds" in line for line in verdict.lines)
    assert compare(RECORD, changed(0.13, bits_kind="another"), seeds[:2]).state == "different", "two tell too little"
    same = [RECORD, changed(), changed()]
    assert compare(RECORD, changed(TOLERANCE / 2, bits_kind="another"), same).state == "within tolerance"
    assert compare(RECORD, changed(1e-9), seeds).state == "different", (
        "where equal bits are promised, nothing less does"
    )


def test_a_score_that_is_gone_is_a_difference_within_no_tolerance():
    other = changed(bits_kind="another")
    other.scores["click"].metrics["auc"] = None
    assert compare(RECORD, other).state == "different"


def test_the_seeds_of_a_run_are_its_finished_records_that_differ_in_the_seed_alone():
    another = RECORD.model_copy(update={"key": RECORD.key.model_copy(update={"seed": RECORD.key.seed + 1})})
    failed = another.model_copy(update={"status": "failed"})
    records, _ = read_records(HERE / "reference")
    assert seeds_of(RECORD, [*records, another, failed]) == [RECORD, another]
