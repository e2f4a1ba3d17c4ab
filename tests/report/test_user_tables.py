"""Metrics per user in tables: their gains are judged by seeds and users, and are there only where there are users."""

import numpy as np
import pytest

from benchmark.analysis.groups import group_records
from benchmark.core.seeding import numpy_stream
from benchmark.records.record import UserNoise
from benchmark.records.row_noise import user_noise
from benchmark.report.user_tables import TITLES, user_metrics
from tests.report.made import study

USERS = np.arange(400)


def with_users(records, rows="same users"):
    """Every score gets metrics per user. The users move all seeds of a row alike, and other rows otherwise."""
    for record in records:
        for scores in record.scores.values():
            influences = numpy_stream("users", record.key.method, record.key.arm).normal(
                0, 0.01 / len(USERS) ** 0.5, len(USERS)
            )
            scores.metrics |= dict.fromkeys(TITLES, scores.metrics["auc"])
            scores.users = UserNoise(
                scored=400, excluded=7, noise=user_noise(dict.fromkeys(TITLES, influences), USERS, rows)
            )
    return records


def gains(records):
    (group,) = group_records(records, {})
    table = user_metrics(group, "education", "x")
    assert "400 scored, 7 excluded" in " ".join(table.footer)
    return {(row.cells["method"].text, row.cells["arm"].text): row.cells["gain_gauc"] for row in table.rows}


def test_the_interval_of_a_gain_holds_the_noise_of_the_users():
    quiet, loud = study({"mmoe": 0.94}), with_users(study({"mmoe": 0.94}))
    for record in with_users(quiet):
        for scores in record.scores.values():
            scores.users.noise.clear()
    seeds_alone, both = gains(quiet)["mmoe", "joint"], gains(loud)["mmoe", "joint"]
    assert both.value == pytest.approx(seeds_alone.value)
    assert both.half_width > 1.5 * seeds_alone.half_width


def test_users_that_differ_are_not_compared_user_by_user():
    records = with_users(study({"mmoe": 0.94}))
    for record in records:
        if record.key.arm == "joint":
            with_users([record], rows="other users")
    (group,) = group_records(records, {})
    variant = next(variant for variant in group.variants if variant.method == "mmoe")
    assert not group.score(variant, "joint", "education", "gauc").knows_rows
    assert group.score(variant, "frozen", "education", "gauc").knows_rows


def test_without_users_there_is_no_table():
    (group,) = group_records(study({"mmoe": 0.94}), {})
    assert user_metrics(group, "education", "x") is None
