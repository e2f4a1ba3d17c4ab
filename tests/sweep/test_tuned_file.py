"""tuned.toml: one table a study, in one order, and what people wrote into it stays."""

import tomllib
from types import SimpleNamespace

import pytest

from benchmark.core.errors import UsageError
from benchmark.planning.suite import Searched
from benchmark.report.model import Cell, Row
from benchmark.report.search import _chosen, _unequal
from benchmark.tuning.files import write_tuned

TRIED = {"l2": "1e-7 to 1e-2", "lora.rank": "1, 2"}


def study(dataset, method, values):
    run = SimpleNamespace(key=SimpleNamespace(seed=0, budget={"epochs": 2}, selection="best mean validation AUC"))
    best = None if values is None else SimpleNamespace(score=0.6, number=3, values=values)
    return SimpleNamespace(
        dataset=dataset, method=method, budgeted=5, failed=0, arms=("joint",), default_runs=[run],
        trials=[SimpleNamespace(score=0.5)], best=best, space=SimpleNamespace(described=lambda: TRIED),
    )  # fmt: skip


STUDIES = [
    study("census_income@5pct", "zz", {"hidden": [128, 64], "balancing": "equal", "l2": 1e-7}),
    study("byterec", "mmoe", {"experts": 3}),
    study("census_income@5pct", "aa", {}),
    study("byterec", "without_score", None),
]


def test_the_file_is_the_same_in_whatever_order_studies_end(tmp_path):
    texts = []
    for name, order in (("one", STUDIES), ("two", [*reversed(STUDIES), STUDIES[1]])):
        for found in order:
            path = write_tuned(tmp_path / name, found)
        texts.append(path.read_text())
    assert texts[0] == texts[1] and "5 trials (0 failed) of joint" in texts[0]
    assert tomllib.loads(texts[0])["dataset_config"] == {
        "byterec": {"mmoe": {"experts": 3}},
        "census_income@5pct": {"aa": {}, "zz": {"hidden": [128, 64], "balancing": "equal", "l2": 1e-7}},
    }


def test_notes_in_the_file_stay_and_a_study_replaces_its_own_table_alone(tmp_path):
    for found in STUDIES[:2]:
        path = write_tuned(tmp_path, found)
    path.write_text("# mine\n" + path.read_text().replace("l2 =", "# a small one\nl2 ="))
    write_tuned(tmp_path, study("byterec", "mmoe", {"experts": 8}))
    text = path.read_text()
    assert text.startswith("# mine") and "# a small one\nl2 = 1e-07" in text
    assert tomllib.loads(text)["dataset_config"]["byterec"] == {"mmoe": {"experts": 8}}


def test_the_table_of_a_search_shows_what_was_chosen_for_arms_too(tmp_path):
    path = write_tuned(tmp_path, study("byterec", "mmoe", {"l2": 1e-5, "lora.rank": 2, "lora.alpha": 22.4}))
    tables = tomllib.loads(path.read_text())
    assert tables["dataset_config"]["byterec"]["mmoe"] == {"l2": 1e-5}
    assert tables["dataset_arm_config"]["byterec"]["mmoe"]["lora"] == {"rank": 2, "alpha": 22.4}
    searched = Searched.model_validate(tables["search"]["byterec"]["mmoe"]).model_dump()
    chosen = _chosen(SimpleNamespace(config='{"l2": 1e-05, "tower": [4]}'), searched)
    assert chosen == "l2 1e-05, lora.rank 2, lora.alpha 22.4"


def test_the_table_of_a_search_says_when_methods_had_unequal_chances():
    def said(*searched):
        rows = [{"seeds": Cell(float(seeds)), "arms": Cell(text=arms)} for seeds, arms in searched]
        return _unequal([Row({"method": Cell(text=f"M{i}"), **cells}) for i, cells in enumerate(rows)])

    assert said((3, "joint"), (3, "joint"), (3, "scratch")) == said() == ()
    assert said((1, "joint"), (3, "joint, lora"), (1, "scratch")) == (
        "Not equal chances: trials differ in seeds (M0 1, M1 3, M2 1) and in arms (M0 joint, M1 joint, lora).",
    )


def test_a_file_that_is_no_toml_is_named_and_kept(tmp_path):
    (tmp_path / "tuned.toml").write_text("[half")
    with pytest.raises(UsageError, match=r"tuned\.toml: not valid TOML"):
        write_tuned(tmp_path, STUDIES[0])
    assert (tmp_path / "tuned.toml").read_text() == "[half"
