"""The tables of the tests, the comparison with another tree, and the published numbers."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark import report
from benchmark.analysis import stats
from benchmark.analysis.comparisons import against_reference, degradations, worse_than_best, worst_verdict
from benchmark.analysis.front import dominated_by
from benchmark.analysis.groups import Options, Sample, group_records
from benchmark.core.errors import UsageError
from benchmark.planning.suite import load_suite
from benchmark.records.claims import Claim, read_claims
from benchmark.records.record import read_record, run_directory, run_id, write_record
from benchmark.records.row_noise import row_noise
from benchmark.records.saturation import saturated_tasks
from benchmark.records.tree import read_records
from benchmark.report import claims as judging
from benchmark.report import published
from benchmark.report.figures.arrays import cliques
from benchmark.report.measures import cell_of
from benchmark.report.model import Cell
from benchmark.report.verdicts import words
from tests.report import made
from tests.report.conftest import TITLES


def group(out: Path, **options: object):
    return group_records(read_records(out)[0], TITLES, Options(roots=(out,), **options))[0]


def test_a_difference_needs_seeds_and_test_rows(predicted: Path) -> None:
    found = {(c.variant.method, c.arm): c for c in against_reference(group(predicted))}
    item = found["shared_bottom", "frozen"]
    assert item.estimate.row_error > 0 and item.p < 0.05
    assert words(item.verdict()) == "worse"
    assert found["single_task", "frozen"].sample.knows_rows  # stands against each arm
    # The same differences over seeds, with few rows behind them: no claim.
    noisy = {seed: 30 * vector for seed, vector in item.sample.rows.items()}
    unsure = replace(item, sample=replace(item.sample, rows=noisy))
    assert unsure.estimate.seed_error == item.estimate.seed_error
    assert words(unsure.verdict()) == "cannot be shown with 100 positives"


def test_one_interval_decides_p_stars_and_verdict(predicted: Path) -> None:
    for item in [*against_reference(group(predicted)), *degradations(group(predicted))]:
        if item.bounds is not None and item.tested:
            low, high = item.bounds
            assert (item.p < 0.05) == (low > 0 or high < 0)
            assert item.worst == (high if item.harm else -low)


def test_families_are_an_arm_and_a_task_and_facts_belong_to_none(tmp_path: Path) -> None:
    records = []
    for seed in range(3):
        for place, name in enumerate(("a", "b", "c")):
            noise = 0.001 * ((seed + place) % 3)
            records.append(made.record(name, "stage0", seed, {"income": 0.9}, old=["income"]))
            for arm, after in (("frozen", 0.9), ("finetune", 0.85 + noise)):
                records.append(made.record(name, arm, seed, {"income": after, "education": 0.8}, old=["income"]))
    found = degradations(group(made.write(tmp_path, records)))
    frozen = [item for item in found if item.arm == "frozen"]
    assert [words(item.verdict()) for item in frozen] == ["unchanged"] * 3
    assert all(item.p is None and item.bounds == (0.0, 0.0) for item in frozen)
    assert {item.family for item in found if item.arm == "finetune"} == {3}
    assert all(words(item.verdict()) == "degraded (seeds only)" for item in found if item.arm == "finetune")


def test_other_test_rows_are_never_compared(predicted: Path) -> None:
    path = min(predicted.glob("runs/census/shared_bottom/frozen/*/predictions.npz"))
    arrays = dict(np.load(path))
    arrays["labels_education"] = arrays["labels_education"][::-1]
    np.savez(path, **arrays)
    found = {(c.variant.method, c.arm): c for c in against_reference(group(predicted))}
    assert not found["shared_bottom", "frozen"].sample.knows_rows
    assert found["shared_bottom", "joint"].sample.knows_rows


def test_a_truncated_predictions_file_counts_as_absent(predicted: Path) -> None:
    path = min(predicted.glob("runs/census/shared_bottom/frozen/*/predictions.npz"))
    path.write_bytes(path.read_bytes()[:200])
    found = {(c.variant.method, c.arm): c for c in against_reference(group(predicted))}
    assert not found["shared_bottom", "frozen"].sample.knows_rows


def test_records_that_know_their_rows_need_no_predictions(predicted: Path) -> None:
    """The same table from what the records carry as from the predictions."""
    before = against_reference(group(predicted))
    for path in predicted.glob("runs/*/*/*/*/predictions.npz"):
        arrays = np.load(path)
        record = read_record(path.parent / "record.json")
        record.scores["education"].rows = row_noise("binary", arrays["logits_education"], arrays["labels_education"])
        write_record(path.parent, record)
        path.unlink()
    after = against_reference(group(predicted))
    assert [item.estimate for item in after] == [item.estimate for item in before]
    assert any(item.sample.knows_rows for item in after)


def test_verdicts_of_no_degradation(tmp_path: Path) -> None:
    records = []
    generator = np.random.default_rng(0)
    for seed in range(8):
        base = 0.9 + 0.001 * seed
        losses = {
            "same": 0.0,
            "near": 0.0001,
            "worse": 0.02,
            "better": -0.02,
            "noisy": 0.003,
            "gone": 0.3 * (seed == 1),
        }
        for name, loss in losses.items():
            noise = {"same": 0.0, "noisy": 0.01}.get(name, 0.0002) * generator.normal()
            records.append(made.record(name, "stage0", seed, {"income": base}, old=["income"]))
            after = {"income": base - loss + noise, "education": 0.8}
            records.append(made.record(name, "joint", seed, after, old=["income"]))
    items = {c.variant.method: c for c in degradations(group(made.write(tmp_path, records)))}
    assert {name: words(item.verdict()) for name, item in items.items()} == {
        "same": "unchanged",
        "near": "equivalent (seeds only)",
        "worse": "degraded (seeds only)",
        "better": "improved (seeds only)",
        "noisy": "undecided",
        "gone": "unstable: worse on 2 of 8 seeds",
    }
    assert items["near"].worst < 0.001 and items["worse"].worst > 0.02
    shown = cell_of(items["gone"].sample, 8)
    assert shown.half_width is None and max(shown.seeds) == pytest.approx(0.3, abs=0.01) and "†" in shown.marks


def test_a_loss_on_every_seed_is_said_where_the_seeds_are_too_few_for_the_mean(tmp_path: Path) -> None:
    records = []
    for seed, loss in enumerate((0.02, 0.03, 0.045)):
        records.append(made.record("m", "stage0", seed, {"income": 0.9}, old=["income"]))
        after = {"income": 0.9 - loss, "education": 0.8}
        records.append(made.record("m", "finetune", seed, after, old=["income"]))
    item = degradations(group(made.write(tmp_path, records)))[0]
    steady, noisy = ({seed: np.full(512, size) for seed in range(3)} for size in (1e-4, 1e-2))
    known = replace(item, sample=replace(item.sample, rows=steady), family=4)
    assert known.p > 0.05 and words(known.verdict()) == "undecided: worse on 3 of 3 seeds"
    assert words(replace(known, family=1).verdict()) == "degraded"
    explained = replace(item, sample=replace(item.sample, rows=noisy), family=4)  # s.e. .2 from rows
    assert "worse on" not in words(explained.verdict())
    several = [replace(known, task="a"), replace(explained, task="b")]
    assert worst_verdict(several, item.variant, "finetune").worse_on_every_seed


def test_the_margin_decides_about_harm_and_may_differ_by_task(tmp_path: Path) -> None:
    records = []
    for seed in range(6):
        records.append(made.record("m", "stage0", seed, {"income": 0.9}, old=["income"]))
        after = {"income": 0.9 - 0.003 - 0.0002 * seed, "education": 0.8}
        records.append(made.record("m", "joint", seed, after, old=["income"]))
    out = made.write(tmp_path, records)
    assert words(degradations(group(out))[0].verdict()) == "degraded (seeds only)"
    for margin in (0.01, {"income": 0.01}, {"census/income": 0.01, "income": 0.001}, {"auc": 0.01}, {"default": 0.01}):
        assert words(degradations(group(out, margin=margin))[0].verdict()) == "degraded, within the margin (seeds only)"


def test_what_would_decide_is_a_number_of_seeds_or_of_rows(predicted: Path) -> None:
    item = next(c for c in against_reference(group(predicted)) if c.variant.method == "shared_bottom")
    flat = {0: 0.0011, 1: -0.0009, 2: 0.0014, 3: -0.0012}
    still = replace(item, sample=Sample(flat, score=True), family=1)
    needed = int(re.search(r"about (\d+) seeds", still.deciding())[1])
    spread = stats.standard_deviation(list(flat.values())) ** 2
    harm = -stats.mean(list(flat.values()))
    assert stats.crossed_error(spread, needed, None).half_width() < still.margin - harm
    assert stats.crossed_error(spread, needed - 1, None).half_width() >= still.margin - harm
    rows = {seed: np.full(512, 0.001) for seed in flat}  # s.e. .023 from rows
    assert "more test rows" in replace(still, sample=replace(still.sample, rows=rows)).deciding()


def test_what_is_worse_than_the_best() -> None:
    best = Sample({0: 0.900, 1: 0.901, 2: 0.902})
    near = Sample({0: 0.899, 1: 0.902, 2: 0.901})
    far = Sample({0: 0.800, 1: 0.801, 2: 0.8021})
    lucky = Sample({0: 0.99})
    assert worse_than_best([best, near, far, lucky]) == {2}
    assert worse_than_best([lucky, Sample({0: 0.5})]) == set()  # one seed: no test
    assert worse_than_best([]) == set()


# ---- claims ------------------------------------------------------------------------------------------------------


def claim(**changes: object) -> Claim:
    given = {"name": "c", "text": "A sentence", "question": "better", "method": "mpt_rec", "arm": "frozen"}
    return Claim(**(given | changes))


def verdicts(out: Path, *claims: Claim) -> list[judging.Verdict]:
    return judging.judge(read_records(out)[0], claims, TITLES, roots=(out,))


def test_claims_are_supported_contradicted_undecided_or_not_run(predicted: Path) -> None:
    better, worse, harmless, unrun, alone = verdicts(
        predicted,
        claim(against=("shared_bottom",)),
        claim(name="w", method="shared_bottom", against=("mpt_rec",)),
        claim(name="h", question="no_harm"),
        claim(name="u", against_arms=("lora",), equal_weights=1.2),
        claim(name="a", method="ple"),
    )
    assert (better.word, worse.word, harmless.word) == ("supported", "contradicted", "supported")
    assert (unrun.word, alone.word) == ("not run", "not run")
    assert "runs of ple" in alone.deciding and "lora" in unrun.deciding
    assert better.value > 0 > worse.value and better.low > 0 > worse.high
    assert better.contest == "education, against Shared-Bottom, frozen"
    assert better.table == "paired_differences-census"
    assert len(better.run_ids) == 6 and set(better.run_ids) <= {r.run_id for r in read_records(predicted)[0]}
    assert "same number on every seed" in harmless.found


def test_what_comes_on_top_of_the_prompt_is_no_other_way_than_the_prompt(tmp_path: Path) -> None:
    """LoRA on the prompt method trains the prompt, too; a linear probe there does without it."""
    records = made.study({"shared_bottom": 0.94, "mpt_rec": 0.95}, range(5), arms=("lora", "linear_probe"))
    ways = {"against_arms": ("lora", "linear_probe")}
    (against_all,) = verdicts(made.write(tmp_path / "all", records), claim(**ways))
    against = {(r.key.method, r.key.arm) for r in records if r.run_id in against_all.run_ids}
    assert ("mpt_rec", "lora") not in against
    only = [r for r in records if (r.key.method, r.key.arm) != ("shared_bottom", "lora")]
    (probes,) = verdicts(made.write(tmp_path / "probes", only), claim(**ways))
    assert "linear probe" in probes.contest
    alone = [r for r in only if r.key.arm != "linear_probe"]
    (none,) = verdicts(made.write(tmp_path / "none", alone), claim(**ways))
    assert none.word == "not run"
    # An ordinary comparison of arms still has the row.
    (table,) = [t for t in report.report(tmp_path / "all", TITLES).tables if t.name.startswith("across_arms")]
    assert "LoRA: trained beside all that the frozen row" in " ".join(table.footer)


def test_claims_about_the_old_tasks_are_judged_where_no_new_task_comes(tmp_path: Path) -> None:
    """The suite of the paper's two-task stage states its own claims; they get a verdict."""
    stated = load_suite("paper_two_task")
    assert stated.claim is not None and 2 <= sum(each.primary for each in stated.claim) <= 6
    alone = [r for r in census(dataset="census_income@two_task", new_tasks=[]) if r.key.arm in ("stage0", "scratch")]
    found = {verdict.claim.name: verdict for verdict in verdicts(made.write(tmp_path, alone), *stated.claim)}
    assert set(found) == {"best_of_all", "better_than_single_task"}
    assert all(verdict.word != "not run" and verdict.run_ids for verdict in found.values())
    assert found["best_of_all"].problem == "census_income@two_task"
    # Claims about a new task have no meaning there and are left out.
    assert [v.claim.name for v in judging.judge(read_records(tmp_path)[0], None, TITLES)] == ["best_on_old_tasks"]


def test_an_undecided_claim_says_what_would_decide_it(tmp_path: Path) -> None:
    out = made.write(tmp_path, made.study({"shared_bottom": 0.94, "mpt_rec": 0.9401}))
    found = verdicts(out, claim())[0]
    assert found.word == "undecided" and "seeds" in found.deciding
    assert found.low < 0 < found.high


def test_too_many_weights_contradict_a_claim_about_weights(predicted: Path) -> None:
    base = {"question": "as_good", "against": ("mpt_rec",), "against_arms": ("joint",), "margin": 0.5}
    few, many = verdicts(predicted, claim(most_weights=0.2, **base), claim(name="m", most_weights=0.01, **base))
    assert (few.word, many.word) == ("supported", "contradicted")
    assert "% of the weights" in many.found


def test_primary_claims_share_the_level_among_themselves(predicted: Path) -> None:
    alone = verdicts(predicted, claim(primary=True))[0]
    first, *_ = verdicts(
        predicted, claim(primary=True), claim(name="b", primary=True, against=("shared_bottom",)), claim(name="c2")
    )
    assert first.high - first.low > alone.high - alone.low


def test_the_claims_of_the_paper_come_first_in_every_report(predicted: Path) -> None:
    found = report.report(predicted, TITLES)
    assert found.tables[0].name == "claims"
    assert len(found.tables[0].rows) == len(judging.default_claims()) == 5
    own = report.report(predicted, TITLES, claims=[claim(against=("shared_bottom",)).model_dump()])
    assert [row.cells["verdict"].text for row in own.tables[0].rows] == ["supported"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[claim]]\nname = 'x'", "'text'"),
        ("[[claim]]\nname = 'x'\ntext = 'y'\nquestion = 'better'\nmethod = 'm'\nagaints = ['n']", "against"),
        ("[[claim]]\nname = 'x'\ntext = 'y'\nquestion = 'best'\nmethod = 'm'", "'question'"),
        ("title = 'x'", "[[claim]]"),
        ("[[claim", "not valid TOML"),
    ],
)
def test_a_wrong_claims_file_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as refused:
        read_claims(path)
    assert message in str(refused.value) and str(path) in str(refused.value)


def test_pareto_fronts_by_hand() -> None:
    losses_and_gains = [(0.0, 0.5), (0.1, 0.6), (0.2, 0.6), (0.0, 0.5), None]
    points = [None if point is None else (-point[0], point[1]) for point in losses_and_gains]
    assert dominated_by(points) == [0, 0, 1, 0, None]  # equal points do not dominate each other


def test_cliques_by_hand() -> None:
    assert cliques([1.0, 1.4, 2.2, 3.9], 1.0) == [(0, 1), (1, 2)]
    assert cliques([1.0, 1.1, 1.2], 1.0) == [(0, 2)]
    assert cliques([1.0, 3.0], 1.0) == []


# ---- compare -----------------------------------------------------------------------------------------------------


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A new method on another machine, on the data of the reference."""
    records = [r for r in made.study({"my_method": 0.96}) if r.key.method == "my_method"]
    for record in records:
        record.provenance.cpu = "My CPU"
    return made.write(tmp_path / "mine", records)


def test_compare_puts_the_new_method_beside_the_reference(built: Path, mine: Path) -> None:
    found = report.compare(mine, [built], TITLES)
    assert found.problems == ()
    table = next(t for t in found.tables if t.name.startswith("new_task"))
    rows = {(r.cells["method"].text, r.cells["arm"].text): r.cells for r in table.rows}
    own, theirs = rows["my_method (yours)", "frozen"], rows["Shared-Bottom", "frozen"]
    assert own["seconds"].value == 20 and theirs["seconds"].code == "machine"
    assert own["gain"].value is not None  # over the reference tree's single-task runs
    paired = next(t for t in found.tables if t.name.startswith("paired"))
    assert "my_method (yours)" in paired.caption
    assert "torch" not in "".join(t.name for t in found.tables)


def test_compare_says_what_has_no_counterpart(built: Path, mine: Path) -> None:
    records = made.study({"my_method": 0.96}, dataset="elsewhere")
    other = made.study({"my_method": 0.96})
    for record in other:
        record.key.budget = {"epochs": 1}
        record.run_id = run_id(record.key)
    shutil.rmtree(mine / "runs")
    found = report.compare(made.write(mine, records + other), [built], TITLES)
    assert found.tables == ()
    assert sorted(found.problems) == [
        "census: the reference records differ in budget (batch_size): none in yours, 256 there. "
        "Run yours with --set budget.batch_size=256 --set budget.epochs=30 "
        "--set budget.learning_rate=0.001 --set budget.patience=5.",
        "elsewhere: no reference records of this dataset. The reference has census. "
        "Run yours on census (--datasets census).",
    ]


def test_compare_refuses_other_data_under_the_same_name(built: Path, mine: Path) -> None:
    for path in mine.glob("runs/*/*/*/*/record.json"):
        record = read_record(path)
        record.provenance.data_fingerprint = "e"
        write_record(path.parent, record)
    assert "differ in data: e in yours, d there" in report.compare(mine, [built], TITLES).problems[0]


# ---- published numbers -------------------------------------------------------------------------------------------


def test_every_published_number_can_be_read_and_has_a_source() -> None:
    count = 0
    for block in published._content()["block"]:
        assert block["source"] in ("P*", "R", "R!")
        assert block["source"] != "R!" or block.get("doubt"), "a suspect number says why"
        for values in block["methods"].values():
            assert len(values) == len(block["tasks"])
            for text in values:
                published.parse(text)
                count += 1
    assert count > 150


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.9517", (0.9517, 0.00005, None)),
        ("0.9448 +- 0.0016", (0.9448, 0.00005, 0.0016)),
        ("-0.0036", (-0.0036, 0.00005, None)),
        ("21K", (21_000, 500, None)),
        ("9.3", (9.3, 0.05, None)),
        ("27063", (27_063, 0.5, None)),
    ],
)
def test_printed_numbers_carry_their_rounding(text: str, expected: tuple) -> None:
    found = published.parse(text)
    assert (found.value, found.rounding, found.deviation) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("quantity", "printed", "ours", "expected"),
    [
        ("auc", "0.8626", Cell(0.8640, 0.0030), ("reached", "")),
        ("auc", "0.8626", Cell(0.8600, 0.0020), ("not reached", "")),
        ("auc", "0.8133", Cell(0.8660, 0.0040), ("above", "")),
        ("auc", "0.8626", Cell(0.8660, 0.0020), ("reached", "")),  # the interval starts within the tolerance
        ("auc", "0.8626", Cell(0.8600, 0.0030), ("open", "± 0.003 of the seeds")),
        ("auc", "0.9926", Cell(0.57, 0.89), ("open", "± 0.89 of the seeds")),
        ("auc", "0.9926", Cell(0.63, seeds=(0.19, 0.63, 0.995)), ("open", "seeds unstable")),
        ("auc", "0.8626", Cell(0.9), ("open", "one seed")),
        ("paper_trained", "21K", Cell(20_738.0), ("reached", "")),
        ("paper_trained", "21K", Cell(10_369.0), ("not reached", "")),
        ("paper_share", "9.3", Cell(9.2346), ("reached, up to rounding", "")),
        ("paper_share", "9.3", Cell(9.19), ("not reached", "")),
        ("forward_share", "9", Cell(9.30), ("reached", "")),
    ],
)
def test_rounding_is_no_miss_and_noise_is_no_hit(quantity: str, printed: str, ours: Cell, expected: tuple) -> None:
    assert published.verdict(quantity, published.parse(printed), ours) == expected


def census(**changes: object) -> list:
    records = made.study({"shared_bottom": 0.94, "mpt_rec": 0.9426}, dataset="census_income")
    for record in records:
        for name, value in changes.items():
            setattr(record.key, name, value)
        record.run_id = run_id(record.key)
    return records


def judged(out: Path, records: list, **options: object) -> dict[tuple[str, ...], str]:
    found = report.report(made.write(out, records), TITLES, **options)
    table = next(t for t in found.tables if t.name.startswith("published"))
    keys = ("title", "source", "method", "task", "quantity")
    spoken = {}
    for row in table.rows:
        why = row.cells["why"].text
        spoken[tuple(row.cells[k].text for k in keys)] = row.cells["verdict"].text + (f": {why}" if why else "")
    return spoken


def test_published_numbers_are_judged_only_under_their_conditions(tmp_path: Path) -> None:
    auc = ("Table 5", "P*", "MPT-Rec", "education", "AUC")
    table3 = ("Table 3", "P*", "MPT-Rec", "income", "AUC")
    found = judged(tmp_path / "a", census())
    assert found[auc] == "open: ± 0.0022 of the seeds"
    assert found["Table 5", "P*", "Shared-Bottom", "education", "parameters, paper's count"] == "not reached"
    starred = found["Table 5", "P*", "Shared-Bottom", "education", "AUC"]
    assert starred.startswith("above: the published baseline is weak")
    assert found[table3].startswith("not comparable: there education is an input feature (run census_income@two_task")
    alone = [r for r in census(dataset="census_income@two_task", new_tasks=[]) if r.key.arm in ("stage0", "scratch")]
    assert judged(tmp_path / "two", alone)[table3].startswith("not reached: the released code tunes on test AUC")
    assert found["Table 5", "P*", "maml", "education", "AUC"] == "not comparable: no such run here"
    found = judged(tmp_path / "b", census(budget={"epochs": 3, "batch_size": 1024}))
    assert found[auc] == "not comparable: epochs 30 there, 3 here"
    found = judged(tmp_path / "c", census(dataset="census_income@5pct"))
    assert found[auc] == "not comparable: other rows (there all, here 5pct)"
    own = {("census_income", "mpt_rec"): {"width": 8}, ("census_income", "shared_bottom"): {"width": 4}}
    found = judged(tmp_path / "d", census(), own_configs=own)
    assert found[auc] == "not comparable: width 8 there, 4 here"
    assert found["Table 5", "P*", "Shared-Bottom", "education", "AUC"] == starred


@pytest.mark.parametrize("tasks", [(["income", "education"], ["marital"]), (["income"], ["marital", "education"])])
def test_another_problem_of_the_dataset_is_compared_with_no_published_number(tmp_path: Path, tasks: tuple) -> None:
    old, new = tasks
    found = report.report(made.write(tmp_path, census(old_tasks=old, new_tasks=new)), TITLES)
    assert found.tables and not any(table.name.startswith("published") for table in (*found.tables, *found.paper))


def test_what_was_set_in_place_of_the_methods_own_values_stands_below_wide_and_compact_tables(tmp_path: Path) -> None:
    own = {("census_income", method): {"width": 4} for method in ("single_task", "shared_bottom", "mpt_rec")}
    changed = own | {("census_income", method): {"width": 8, "depth": 1} for method in ("single_task", "mpt_rec")}

    def said(out: Path, **options: object) -> dict[str, list[str]]:
        found = report.report(out, TITLES, **options)
        tables = {table.name: table for table in found.tables} | {f"paper/{t.name}": t for t in found.paper}
        return {n: [line for line in t.footer if line.startswith("Not the methods' own")] for n, t in tables.items()}

    out = made.write(tmp_path / "a", census())
    assert not any(said(out, own_configs=own).values()) and not any(said(out).values())
    lines = said(out, own_configs=changed)
    values = "SingleTask and MPT-Rec width 4 (own: 8)."
    for name in ("new_task", *(f"paper/{kind}" for kind in ("old_tasks", "harm", "new_task", "trade_off", "metrics"))):
        assert lines[f"{name}-census_income"] == [f"Not the methods' own values: {values}"], name
    for name in ("claims", "paper/claims"):  # of several problems
        assert lines[name] == [f"Not the methods' own values on census_income: {values}"], name
    # A row whose label names the value says it already.
    widths = [made.record("mpt_rec", "stage0", 0, {"income": 0.9}, dataset="census_income", config={"width": width})
              for width in (4, 8)]  # fmt: skip
    assert not any(said(made.write(tmp_path / "named", widths), own_configs=own).values())


def test_predictions_are_found_in_either_tree(predicted: Path, tmp_path: Path) -> None:
    records = [r for r in made.study({"my_method": 0.96}) if r.key.method == "my_method"]
    mine = made.write(tmp_path / "mine", records)
    source = dict(np.load(min(predicted.glob("runs/census/mpt_rec/frozen/*/predictions.npz"))))
    for record in records:
        if record.key.arm == "frozen":
            np.savez(run_directory(mine, record.key) / "predictions.npz", **source)
    found = report.compare(mine, [predicted], TITLES)
    table = next(t for t in found.tables if t.name.startswith("paired"))
    rows = {(r.cells["method"].text, r.cells["arm"].text): r.cells["error_rows"] for r in table.rows}
    assert rows["Shared-Bottom", "frozen"].value is not None
    assert rows["Shared-Bottom", "joint"].code == "no rows"


def verdict(problem: str, word: str, value: float | None, name: str = "a", detectable: float | None = None):
    claim = Claim(name=name, text=f"claim {name}", question="better", method="mpt_rec", primary=True)
    return judging.Verdict(claim, problem, word, value, detectable=detectable)


def test_over_problems_a_claim_is_counted_and_its_worst_and_best_number_shown() -> None:
    found = [
        verdict("one", "supported", 0.02, detectable=0.004),
        verdict("two", "undecided", -0.01, detectable=0.03),
        verdict("three", "supported", 0.01, detectable=0.01),
        verdict("one", "not run", None, name="b"),
    ]
    table = judging.overall(found)
    assert table is not None
    first, second = ({key: cell.value for key, cell in row.cells.items()} for row in table.rows)
    assert [first[word] for word in judging.WORDS] == [2, 0, 1, 0]
    assert (first["lowest"], first["median"], first["highest"], first["detectable"]) == (-0.01, 0.01, 0.02, 0.01)
    assert second["not run"] == 1 and second["lowest"] is second["detectable"] is None
    assert judging.overall(found[:1]) is None, "a single problem needs no count"


def test_a_verdict_says_the_smallest_difference_that_it_could_have_found(predicted: Path) -> None:
    found = judging.judge(read_records(predicted)[0], titles=TITLES, roots=(predicted,))
    tested = [v for v in found if v.low is not None and v.low < v.high]
    assert tested and all(v.detectable > (v.high - v.low) / 2 for v in tested), "80 % power needs more"
    assert all(v.detectable is None for v in found if v.low is None or v.low == v.high)


def test_no_claim_is_stated_from_an_unfair_comparison() -> None:
    records = made.study({"shared_bottom": 0.940, "mpt_rec": 0.946}, range(4))
    claims = (claim(name="one"), claim(name="two", method="absent"))
    stated = judging.judge(records, claims, TITLES)
    refused = judging.judge(records, claims, TITLES, guarded=True)
    assert stated[0].word in ("supported", "contradicted", "undecided")
    assert [verdict.word for verdict in refused] == ["refused", "not run"]
    assert "the track is 'published'" in refused[0].deciding and refused[0].value is None and not refused[0].run_ids
    for record in records:
        record.key.track, record.key.search_passes = "equal", 20.0
    assert judging.judge(records, claims, TITLES, guarded=True)[0].word == stated[0].word
    two = [*refused, *(replace(verdict, problem="other", word="supported") for verdict in refused)]
    (row, _) = judging.overall(two).rows
    assert (row.cells["refused"].value, row.cells["supported"].value) == (1, 1)


def test_a_task_without_headroom_is_flagged_and_out_of_claims() -> None:
    records = made.study({"shared_bottom": 0.940, "mpt_rec": 0.946}, range(3))
    validation = {"income": 0.95, "marital": 0.994, "education": 0.87}
    for record in records:
        record.key.track, record.key.search_passes = "equal", 20.0
        for epoch in record.curve:
            epoch.validation = {task: {"auc": validation[task]} for task in epoch.validation}
    (said,) = saturated_tasks(records, lambda task: 0.001).values()
    assert said.startswith("marital is saturated") and "17% of what it lacks to 1" in said
    assert saturated_tasks(records, lambda task: 0.0005) == {}
    assert set(saturated_tasks(records, lambda task: 0.01)) == set(validation) - {"education"}
    old = claim(name="old", arm="stage0", tasks="old")
    named = claim(name="named", tasks=("marital",))
    harm = claim(name="harm", arm="finetune", question="no_harm", margin=0.04)
    stated = {v.claim.name: v for v in judging.judge(records, (old, named, harm), TITLES)}
    judged = {v.claim.name: v for v in judging.judge(records, (old, named, harm), TITLES, guarded=True)}
    assert "marital" not in judged["old"].contest and "marital is saturated" in judged["old"].found
    assert judged["named"].word == "not run" and "marital is saturated" in judged["named"].deciding
    assert stated["harm"].contest.startswith("marital") and judged["harm"].word == "not run"  # income has .05, 4 %
