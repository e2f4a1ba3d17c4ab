"""`mb.analyse` gives the numbers of the tables as frames, and the tests' results as values."""

from pathlib import Path

import pandas as pd
import pytest

import benchmark as mb
from benchmark.analysis.verdicts import Outcome, Verdict, worst
from benchmark.core.errors import UsageError
from tests.report import made


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.write(tmp_path_factory.mktemp("tree"), made.study({"shared_bottom": 0.94, "mpt_rec": 0.95}))


@pytest.fixture(scope="module")
def found(tree: Path):
    return mb.analyse(tree)


@pytest.fixture(scope="module")
def tables(tree: Path) -> dict[str, pd.DataFrame]:
    return mb.tables(tree)


@pytest.mark.parametrize(
    ("part", "table", "column"),
    [("degradation", "no_degradation", "degradation"), ("differences", "paired_differences", "difference")],
)
def test_tests_are_those_of_the_tables(found, tables, part: str, table: str, column: str) -> None:
    frame, written = getattr(found, part), tables[f"{table}-census"]
    assert len(frame) == len(written) > 0
    assert frame.value.tolist() == pytest.approx(written[column].tolist())
    assert frame.margin.notna().all() and set(frame.outcome) <= {outcome.name.lower() for outcome in Outcome}


def test_front_is_that_of_the_table(found, tables) -> None:
    (name,) = [name for name in tables if name.startswith("pareto-")]
    written = tables[name]
    assert (found.front.dominated_by == 0).tolist() == (written.front == "front").tolist()
    assert found.front.gain.tolist() == pytest.approx(written.gain.tolist())
    gains = found.gain.set_index(["title", "arm"]).value
    assert found.front.set_index(["title", "arm"]).gain.to_dict() == gains.to_dict()


def test_scores_are_the_means_of_the_records(tree: Path, found) -> None:
    runs = mb.load(tree)
    means = runs[runs.auc.notna()].groupby(["method", "arm", "task"]).auc.mean()
    shown = found.scores[(found.scores.metric == "auc") & ~found.scores.unstable]
    assert len(shown) > 5
    for row in shown.itertuples():
        assert row.value == pytest.approx(means[row.method, row.arm, row.task])


def test_claims_have_names_and_results(found) -> None:
    assert found.claims.name.is_unique and found.claims.word.notna().all()


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        mb.analyse(tmp_path)


def test_the_worst_verdict_of_several_tasks() -> None:
    counted = Verdict(Outcome.UNDECIDED, worse=3, seeds=3)
    order = [Verdict(Outcome.DEGRADED), counted, Verdict(Outcome.ONE_SEED), Verdict(Outcome.IMPROVED),
             Verdict(Outcome.NO_DEGRADATION), Verdict(Outcome.EQUIVALENT), Verdict(Outcome.UNCHANGED)]  # fmt: skip
    assert [worst(reversed(order[place:])) for place in range(len(order))] == order
    assert worst([]).outcome is Outcome.NO_RUNS
