"""The claims table: each claim in a sentence, its verdict on every problem, the number behind it and the evidence.

`judge` (records and claims in, a list of `Verdict` out) is what other outputs build on; the name is stable.
A verdict is "supported", "contradicted", "undecided" or "not run". A claim about several opponents or tasks is
supported only if each of the comparisons supports it, which needs no adjustment (an intersection-union test); it is
contradicted if one of them does after adjustment. The claims that are tested on a problem share the level: primary
ones among themselves, the others among themselves. Where the runs are no fair comparison (`benchmark.records.guard`),
every verdict is "refused", with what differs.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from benchmark.analysis import stats
from benchmark.analysis.comparisons import Comparison
from benchmark.analysis.groups import (
    JOINT,
    SCRATCH,
    SINGLE_TASK,
    STAGE0,
    Group,
    Options,
    Variant,
    arm_name,
    group_records,
)
from benchmark.analysis.measures import (
    adds_to_frozen,
    before_and_after,
    finder,
    metric_name,
    positives,
    share,
    total,
    trained,
)
from benchmark.records.claims import Claim, parse_claims
from benchmark.records.guard import reasons_against
from benchmark.records.record import Record
from benchmark.records.saturation import saturated_tasks
from benchmark.report.measures import arm_title, exact
from benchmark.report.model import Cell, Column, Row, Table
from benchmark.report.verdicts import words

DEFAULT = Path(__file__).with_name("mpt_rec_claims.toml")

REFUSED = "refused"
WORDS = ("supported", "contradicted", "undecided", "not run")


@dataclass(frozen=True)
class Verdict:
    """What the records say about a claim on one problem.

    ``value`` is the comparison that decides least in the claim's favour, ``low`` to ``high`` its interval, in the unit
    of the score; positive is in the claim's favour (for "no_harm": score after minus before). ``detectable`` is the
    smallest true difference that this comparison's test would have found in 80 % of studies. All are None where nothing
    could be compared or tested. ``contest`` names that comparison, ``found`` says the result in words, ``deciding``
    what would decide an undecided claim. ``table`` and ``row`` say where the number stands, ``run_ids`` what it rests
    on.
    """

    claim: Claim
    problem: str
    word: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    detectable: float | None = None
    contest: str = ""
    found: str = ""
    deciding: str = ""
    table: str = ""
    row: str = ""
    run_ids: tuple[str, ...] = ()


def judge(
    records: Sequence[Record],
    claims: Sequence[Claim] | None = None,
    titles: Mapping[str, str] | None = None,
    **options: Any,
) -> list[Verdict]:
    """Verdicts on every claim (those of the MPT-Rec paper if None) for every problem among the records.

    ``titles`` and ``options`` as in `benchmark.report.report`.
    """
    groups = group_records(records, titles or {}, Options(**options))
    return judge_groups(groups, [group.dataset for group in groups], claims)


def judge_groups(groups: Sequence[Group], slugs: Sequence[str], claims: Sequence[Claim] | None = None) -> list[Verdict]:
    """`judge` for groups that exist already; ``slugs`` end the names of their tables."""
    claims = default_claims() if claims is None else claims
    made = []
    for group, slug in zip(groups, slugs, strict=True):
        asked = [claim for claim in claims if group.new_tasks or _of_old_tasks_alone(claim)]
        against = reasons_against(group.records) if group.options.guarded else []
        made += [_refused(verdict, against) if against else verdict for verdict in _on_problem(group, slug, asked)]
    order = {claim: place for place, claim in enumerate(claims)}
    return sorted(made, key=lambda verdict: order[verdict.claim])


def _refused(verdict: Verdict, reasons: Sequence[str]) -> Verdict:
    """A verdict that is not stated, and why; what was not run stays so."""
    if verdict.word == "not run":
        return verdict
    return Verdict(verdict.claim, verdict.problem, REFUSED, found="no fair comparison", deciding=" ".join(reasons))


def _of_old_tasks_alone(claim: Claim) -> bool:
    """Whether a claim has a meaning where no new task comes."""
    return claim.question != "no_harm" and claim.tasks != "new" and claim.arm in (STAGE0, SCRATCH)


@cache
def default_claims() -> tuple[Claim, ...]:
    return parse_claims(tomllib.loads(DEFAULT.read_text(encoding="utf-8"))["claim"], DEFAULT.name)


@dataclass(frozen=True)
class _Contest:
    """One comparison of a claim: ``item`` has positive values in the claim's favour."""

    item: Comparison
    words: str
    table: str
    row: str
    run_ids: tuple[str, ...]


def _on_problem(group: Group, slug: str, claims: Sequence[Claim]) -> list[Verdict]:
    found = [_contests(group, slug, claim) for claim in claims]
    named = len(group.new_tasks) == 1 and slug.endswith(f"-{group.new_tasks[0]}")
    problem = slug if named else " + ".join(filter(None, (slug, ", ".join(group.new_tasks))))
    family = {
        primary: sum(
            claim.primary is primary and any(contest.item.tested for contest in contests)
            for claim, (contests, _) in zip(claims, found, strict=True)
        )
        for primary in (True, False)
    }
    return [
        _verdict(group, claim, problem, contests, lacking, max(1, family[claim.primary]))
        for claim, (contests, lacking) in zip(claims, found, strict=True)
    ]


def _verdict(group: Group, claim: Claim, problem: str, contests: list[_Contest], lacking: str, family: int) -> Verdict:
    if not contests:
        return Verdict(claim, problem, "not run", deciding=lacking)
    single = [replace(contest, item=replace(contest.item, family=family)) for contest in contests]
    tested = sum(contest.item.tested for contest in contests)
    strict = [replace(contest, item=replace(contest.item, family=max(1, family * tested))) for contest in contests]
    weights = _weights(group, claim)
    heavy = weights is not None and claim.most_weights is not None and weights > claim.most_weights
    against = [contest for contest in strict if _contradicts(claim, contest.item)]
    if heavy or against:
        word, shown = "contradicted", min(against or single, key=_standing)
    else:
        word = "supported" if all(_supports(claim, contest.item) for contest in single) else "undecided"
        open_ones = [contest for contest in single if not _supports(claim, contest.item)]
        shown = min(open_ones or single, key=_standing)
    low, high = shown.item.bounds or (None, None)
    values = list(shown.item.sample.values.values())
    spoken = f"trains {100 * weights:.1f} % of the weights" if weights is not None else ""
    return Verdict(
        claim,
        problem,
        word,
        sum(values) / len(values) if values else None,
        low,
        high,
        shown.item.detectable,
        contest=shown.words,
        found="; ".join(filter(None, (_in_words(claim, shown.item), spoken, *_tasks(group, claim)[1]))),
        deciding=shown.item.deciding(claim.question == "better") if word == "undecided" else "",
        table=shown.table,
        row=shown.row,
        run_ids=tuple(sorted({run for contest in contests for run in contest.run_ids})),
    )


def _supports(claim: Claim, item: Comparison) -> bool:
    if claim.question == "better":
        return item.bounds is not None and item.bounds[0] > 0
    return item.not_worse


def _contradicts(claim: Claim, item: Comparison) -> bool:
    if item.bounds is None:
        return False
    low, high = item.bounds
    if claim.question == "better":  # shown to be worse, or to be no better than by less than the margin
        return low <= 0 and high < item.margin
    return high < 0 and not item.not_worse


def _standing(contest: _Contest) -> float:
    """Smaller: speaks less for the claim."""
    if contest.item.bounds is not None:
        return contest.item.bounds[0]
    return min(contest.item.sample.values.values(), default=0.0) - 1.0  # untested ones are shown first


def _in_words(claim: Claim, item: Comparison) -> str:
    """The number as a sentence's end: at most so much worse, at least so much better."""
    if item.fact:
        return "the same number on every seed"
    if item.bounds is None:
        return words(item.verdict())
    low, high = item.bounds
    if low > 0:
        return f"better by {_number(low)} to {_number(high)}"
    if high < 0:
        return f"worse by {_number(-high)} to {_number(-low)}"
    return f"at most {_number(-low)} worse, at most {_number(high)} better, margin {item.margin:g}"


def _number(value: float) -> str:
    return f"{value:.5f}" if 0 < abs(value) < 0.001 else f"{value:.4f}"


def _weights(group: Group, claim: Claim) -> float | None:
    """Share of the joint model's weights that the claim's row trains, where the claim speaks of it."""
    subject = _rows(group, claim.method, claim.arm)
    if claim.most_weights is None or not subject or not group.new_tasks:
        return None
    (variant, arm), task = subject[0], group.new_tasks[0]
    run, full = finder(group, variant, arm, task), finder(group, variant, JOINT, task)
    percent = exact(share(group, run, full, trained, total)).value
    return None if percent is None else percent / 100


def _rows(group: Group, method: str, arm: str) -> list[tuple[Variant, str]]:
    """Rows of a method in an arm; of several configurations of the method the main one. Arms may differ in options."""
    variant = group.main_variant([v for v in group.variants if v.method == method])
    if variant is None:
        return []
    known = [STAGE0] if arm == STAGE0 else group.arms(variant)
    return [(variant, own) for own in known if arm_name(own) == arm]


def _contests(group: Group, slug: str, claim: Claim) -> tuple[list[_Contest], str]:
    """The comparisons of a claim, or what has to be run for them."""
    subject = _rows(group, claim.method, claim.arm)
    if not subject:
        return [], f"runs of {claim.method} in arm {claim.arm}"
    variant, arm = subject[0]
    tasks, saturated = _tasks(group, claim)
    if not tasks and saturated:
        return [], f"a task with headroom: {'; '.join(saturated)}"
    if claim.question == "no_harm":
        found = [_harm(group, slug, claim, variant, arm, task) for task in tasks]
        return [contest for contest in found if contest.item.sample.values], f"runs of {claim.method} in arm {arm}"
    methods = claim.against or tuple(dict.fromkeys(v.method for v in group.variants if v.method != SINGLE_TASK))
    arms = claim.against_arms or (claim.arm,)
    opponents = [row for method in methods for name in arms for row in _rows(group, method, name)]
    opponents = [row for row in opponents if row != (variant, arm) and not _holds(row, (variant, arm))]
    lacking = f"runs to compare with: {' or '.join(arms)} of {', '.join(claim.against) or 'another method'}"
    made = []
    for other in opponents:
        for task in tasks:
            if claim.equal_weights and not _equal(group, (variant, arm), other, task, claim.equal_weights):
                lacking = f"an opponent that trains as many weights, within a factor of {claim.equal_weights:g}"
                continue
            contest = _contest(group, slug, claim, (variant, arm), other, task)
            if contest.item.sample.values:
                made.append(contest)
    return made, lacking


def _tasks(group: Group, claim: Claim) -> tuple[list[str], list[str]]:
    """The tasks that a claim is judged on, and what is said of those that are left out as saturated."""
    named = {"old": group.old_tasks, "new": group.new_tasks}
    asked = claim.tasks if claim.question != "no_harm" else "old"
    tasks = named[asked] if isinstance(asked, str) else asked
    saturated = (
        saturated_tasks(group.records, lambda task: _margin(group, claim, task)) if group.options.guarded else {}
    )
    return [task for task in tasks if task not in saturated], [saturated[task] for task in tasks if task in saturated]


def _holds(other: tuple[Variant, str], subject: tuple[Variant, str]) -> bool:
    """Whether a row trains the very thing that a claim speaks of, and more: LoRA on MPT-Rec trains its prompt as well.

    Such a row says what the addition adds. It is no other way to do without the prompt, so no claim is held against it.
    """
    return other[0] == subject[0] and arm_name(subject[1]) == "frozen" and adds_to_frozen(other[1])


def _contest(
    group: Group, slug: str, claim: Claim, mine: tuple[Variant, str], other: tuple[Variant, str], task: str
) -> _Contest:
    sample = group.score(*mine, task).combine(group.score(*other, task), lambda a, b: a - b)
    opponent = f"{group.labels[other[0]]}, {arm_title(other[1])}"
    return _Contest(
        Comparison(*mine, task, sample, _margin(group, claim, task), positives=positives(group, task)),
        f"{task}, against {opponent}",
        f"{'paired_differences' if other[1] == mine[1] else 'across_arms'}-{slug}",
        f"{opponent}, {task}",
        _run_ids(group, sample.values, finder(group, *mine, task), finder(group, *other, task)),
    )


def _harm(group: Group, slug: str, claim: Claim, variant: Variant, arm: str, task: str) -> _Contest:
    before, after = before_and_after(group, variant, arm, task)
    sample = after.combine(before, lambda a, b: a - b)
    return _Contest(
        Comparison(variant, arm, task, sample, _margin(group, claim, task), positives=positives(group, task)),
        f"{task}, after against before",
        f"no_degradation-{slug}",
        f"{group.labels[variant]}, {arm_title(arm)}, {task}",
        _run_ids(
            group, sample.values, lambda seed: group.baseline(variant, arm, seed), finder(group, variant, arm, task)
        ),
    )


def _margin(group: Group, claim: Claim, task: str) -> float:
    return claim.margin if claim.margin is not None else group.margin(task, metric_name(group, task))


def _equal(group: Group, mine: tuple[Variant, str], other: tuple[Variant, str], task: str, factor: float) -> bool:
    counts = [exact(group.sample(finder(group, *row, task), trained)).value for row in (mine, other)]
    return all(counts) and 1 / factor <= counts[0] / counts[1] <= factor  # type: ignore[operator]


def _run_ids(group: Group, seeds, *finders) -> tuple[str, ...]:
    return tuple(sorted({run.run_id for find in finders for seed in seeds if (run := find(seed)) is not None}))


def table(verdicts: Sequence[Verdict]) -> Table:
    """The claims table of the files; its Markdown and LaTeX are for reading, its CSV has every run id."""
    columns = (
        Column("claim", "Claim", "text", wrap=True),
        Column("problem", "Problem", "text", wrap=True),
        Column("verdict", "Verdict", "text"),
        Column("value", "in its favour", signed=True),
        Column("detectable", "detectable"),
        Column("found", "found", "text", wrap=True),
        Column("contest", "where", "text", wrap=True),
        Column("deciding", "would decide", "text", wrap=True),
        Column("evidence", "evidence", "text", wrap=True),
    )
    rows = []
    for place, verdict in enumerate(verdicts):
        half = None if verdict.low is None or verdict.high is None else (verdict.high - verdict.low) / 2
        cells = {
            "claim": Cell(text=("" if verdict.claim.primary else "(not primary) ") + verdict.claim.text),
            "problem": Cell(text=verdict.problem),
            "verdict": Cell(text=verdict.word),
            "value": Cell(code="n/a") if verdict.value is None else Cell(verdict.value, half),
            "detectable": Cell(code="n/a") if verdict.detectable is None else Cell(verdict.detectable),
            "found": Cell(text=verdict.found or "nothing to compare"),
            "contest": Cell(text=verdict.contest) if verdict.contest else Cell(code="n/a"),
            "deciding": Cell(text=verdict.deciding) if verdict.deciding else Cell(code="n/a"),
            "evidence": Cell(text=f"{verdict.table}; {len(verdict.run_ids)} runs: {_ids(verdict)}")
            if verdict.run_ids
            else Cell(code="n/a"),
        }
        rows.append(Row(cells, rule_above=place > 0 and verdict.claim != verdicts[place - 1].claim))
    return Table("claims", "What the records say about each claim", columns, tuple(rows), NOTES)


NOTES = (
    "supported: every comparison of the claim shows it; contradicted: one of them shows the opposite (or, for better: "
    "an advantage below the margin at most); otherwise undecided. The number is the comparison that stands worst for "
    "the claim, with the interval that covers together with those of the other claims on the same problem (primary "
    "and other claims apart; seeds and test rows). detectable: the smallest true difference that this comparison finds "
    f"in {stats.POWER:.0%} of studies. evidence: the table with the row, and the runs compared.",
)


def overall(verdicts: Sequence[Verdict]) -> Table | None:
    """Each claim once: on how many problems it holds, and how much lies in its favour; None for a single problem."""
    by_claim: dict[Claim, list[Verdict]] = {}
    for verdict in verdicts:
        by_claim.setdefault(verdict.claim, []).append(verdict)
    if max(map(len, by_claim.values()), default=0) < 2:
        return None
    words = [*WORDS, REFUSED] if any(verdict.word == REFUSED for verdict in verdicts) else WORDS
    columns = (
        Column("claim", "Claim", "text", wrap=True),
        *(Column(word, word, "count", group="Problems") for word in words),
        *(Column(key, key, signed=True, group="in its favour") for key in ("lowest", "median", "highest")),
        Column("detectable", "detectable"),
    )
    rows = []
    for claim, own in by_claim.items():
        cells = {word: Cell(float(sum(verdict.word == word for verdict in own))) for word in words}
        cells["claim"] = Cell(text=("" if claim.primary else "(not primary) ") + claim.text)
        values = [verdict.value for verdict in own if verdict.value is not None]
        for key, summary in (("lowest", min), ("median", median), ("highest", max)):
            cells[key] = Cell(summary(values)) if values else Cell(code="n/a")
        found = [verdict.detectable for verdict in own if verdict.detectable is not None]
        cells["detectable"] = Cell(median(found)) if found else Cell(code="n/a")
        rows.append(Row(cells))
    return Table("claims_overall", "On how many problems each claim holds", columns, tuple(rows), OVERALL_NOTES)


OVERALL_NOTES = (
    "Counts of the verdicts in the table of claims. in its favour: on each problem the comparison that stands worst "
    "for the claim, in the unit of the score; of these the lowest, the median and the highest over the problems. "
    f"detectable: the smallest true difference that this comparison finds in {stats.POWER:.0%} of studies, median over "
    "the problems. Problems of one dataset share rows and runs: the counts are a list, not a sample, and no test is "
    "made over them.",
)


def _ids(verdict: Verdict) -> str:
    shown = " ".join(run[:8] for run in verdict.run_ids[:6])
    return shown + (" …" if len(verdict.run_ids) > 6 else "")
