"""The compact tables of ``tables/paper/``: what goes into a paper unchanged. The wide ones are its appendix.

At most seven columns, names as the field writes them (a star for a frozen backbone), the same decimals in a whole
column. ``table`` where a column of a two-column page is wide enough, ``table*`` otherwise; packages: booktabs alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmark.report import transfer
from benchmark.report.claims import Verdict
from benchmark.report.comparisons import Comparison
from benchmark.report.groups import JOINT, SCRATCH, SINGLE_TASK, STAGE0, Group, Sample, Variant
from benchmark.report.measures import (
    arm_title,
    cell,
    delta_m,
    exact,
    finder,
    metric_title,
    share,
    taken_in,
    total,
    trained,
)
from benchmark.report.model import Cell, Column, Row, Table
from benchmark.report.tables import at_most, worst_verdict
from benchmark.report.writers import escape_latex, markdown

MOST_COLUMNS = 7
DECIMALS = {"score": 4, "percent": 1, "seconds": 1}
SHORT = {"Shared-Bottom": "Shared"}
METRICS = (
    ("auc", "AUC"), ("pr_auc", "PR-AUC"), ("log_loss", "Log loss"), ("normalised_entropy", "NE"),
    ("calibration_error", "ECE"),
)  # fmt: skip


def paper_tables(group: Group, slug: str, losses: Sequence[Comparison]) -> list[Table]:
    """The tables of one group; those without rows are left out."""
    made = [_old_tasks(group, slug), _harm(group, slug, losses)]
    for task in group.new_tasks:
        made += [_new_task(group, task, slug), _metrics(group, task, slug)]
    return [table.ranked() for table in made if table is not None and table.rows]


def name(group: Group, variant: Variant, arm: str) -> str:
    """A row in the field's words: ``MMoE*`` is MMoE with a frozen backbone, the prompt method bears no star."""
    title = group.labels[variant]
    title = SHORT.get(title, title)
    kind, bracket, options = arm.partition(" (")
    if kind in (JOINT, STAGE0, SCRATCH):
        return title
    if kind == "frozen":
        return (
            f"{title}{bracket}{options}" if variant.method == group.options.reference else f"{title}*{bracket}{options}"
        )
    return f"{title}, {'ft' if kind == 'finetune' else arm_title(kind)}{bracket}{options}"


def _old_tasks(group: Group, slug: str) -> Table | None:
    tasks = group.old_tasks[: MOST_COLUMNS - 2]
    gains = 2 * len(tasks) + 2 <= MOST_COLUMNS
    columns = [Column("method", "Method", "text")]
    for task in tasks:
        columns.append(Column(f"{task}_score", metric_title(group, task), better=1, group=task))
        columns += [Column(f"{task}_gain", "Gain", signed=True, group=task)] * gains
    columns.append(Column("delta_m", "Δm, %", "percent", signed=True, better=1))
    rows = []
    for variant in group.variants:
        arm = SCRATCH if variant.method == SINGLE_TASK else STAGE0
        scores = {task: group.score(variant, arm, task) for task in tasks}
        if not any(sample.values for sample in scores.values()):
            continue
        cells = {"method": Cell(text=name(group, variant, STAGE0))}
        for task, sample in scores.items():
            cells[f"{task}_score"] = cell(group, sample)
            if gains:
                gained = sample.combine(group.single_task(task), transfer.gain)
                cells[f"{task}_gain"] = Cell(code="n/a") if arm == SCRATCH else cell(group, gained)
        cells["delta_m"] = Cell(code="n/a") if arm == SCRATCH else cell(group, delta_m(group, scores))
        rows.append(Row(cells))
    caption = "Old tasks before the new one arrives. Gain: over a single-task model."
    return Table(f"old_tasks-{slug}", _spoken(group, caption), tuple(columns), tuple(rows))


def _harm(group: Group, slug: str, losses: Sequence[Comparison]) -> Table | None:
    tasks = group.old_tasks[: MOST_COLUMNS - 3]
    columns = [Column("method", "Method", "text")]
    columns += [Column(task, task, signed=True, better=-1, group="Loss of AUC") for task in tasks]
    columns += [Column("at_most", "At most", signed=True), Column("verdict", "Verdict", "text")]
    rows = []
    for variant, arm, first in taken_in(group):
        own = {c.task: c.sample for c in losses if (c.variant, c.arm) == (variant, arm)}
        if not any(sample.values for sample in own.values()):
            continue
        cells = {task: cell(group, own[task]) if task in own else Cell(code="n/a") for task in tasks}
        verdict = worst_verdict(losses, variant, arm).partition(":")[0].replace(" (seeds only)", "")
        cells |= {"at_most": at_most(losses, variant, arm), "verdict": Cell(text=verdict)}
        cells["method"] = Cell(text=name(group, variant, arm) + (", joint" if arm == JOINT else ""))
        rows.append(Row(cells, rule_above=first))
    caption = (
        f"What {', '.join(group.new_tasks)} costs the old tasks: score before minus after. At most: upper end of the "
        "simultaneous 95 % interval over seeds and test rows, for the worse task."
    )
    return Table(f"harm-{slug}", _spoken(group, caption), tuple(columns), tuple(rows))


def _new_task(group: Group, task: str, slug: str) -> Table | None:
    columns = (
        Column("method", "Method", "text"),
        Column("score", metric_title(group, task), better=1),
        Column("gain", "Gain", signed=True),
        Column("to_joint", "To joint", signed=True),
        Column("trained", "Trained", "count", better=-1),
        Column("share", "%", "percent"),
    )
    rows = []
    for variant, arm, first in taken_in(group, with_scratch=task):
        after = group.score(variant, arm, task)
        if not after.values:
            continue
        alone, joint = group.single_task(task), group.score(variant, JOINT, task)
        run, full = finder(group, variant, arm, task), finder(group, variant, JOINT, task)
        single = variant.method == SINGLE_TASK
        cells = {
            "method": Cell(text=name(group, variant, arm) + (", joint" if arm == JOINT else "")),
            "score": cell(group, after),
            "gain": Cell(code="n/a") if single else cell(group, after.combine(alone, transfer.gain)),
            "to_joint": Cell(code="n/a")
            if single or arm == JOINT
            else cell(group, after.combine(joint, transfer.distance_to_joint)),
            "trained": exact(group.sample(run, trained)),
            "share": exact(share(group, run, full, trained, total)),
        }
        rows.append(Row(cells, rule_above=first))
    caption = (
        f"The new task {task}. Gain: over a single-task model; to joint: what joint training of the same method has "
        "more; trained: number of weights and share of the joint model's. *: frozen backbone; ft: fine-tuned."
    )
    return Table(_stem("new_task", group, task, slug), _spoken(group, caption), columns, tuple(rows))


def _metrics(group: Group, task: str, slug: str) -> Table | None:
    known = {metric for r in group.records if task in r.scores for metric in r.scores[task].metrics}
    shown = [(key, title) for key, title in METRICS if key in known]
    if len(shown) < 2:
        return None
    columns = [Column("method", "Method", "text")]
    columns += [Column(key, title, better=1 if key in ("auc", "pr_auc") else -1) for key, title in shown]
    rows = []
    for variant, arm, first in taken_in(group, with_scratch=task):
        samples = {key: group.score(variant, arm, task, key) for key, _ in shown}
        if any(sample.values for sample in samples.values()):
            head = Cell(text=name(group, variant, arm) + (", joint" if arm == JOINT else ""))
            rows.append(Row({"method": head, **{k: _plain(group, s) for k, s in samples.items()}}, first))
    caption = f"{task} by other scores. NE: normalised entropy; ECE: expected calibration error, 20 bins of equal mass."
    return Table(_stem("metrics", group, task, slug), _spoken(group, caption), tuple(columns), tuple(rows))


def claims_table(verdicts: Sequence[Verdict]) -> Table:
    """The claims as a paper prints them."""
    columns = (
        Column("claim", "Claim", "text", wrap=True),
        Column("problem", "Problem", "text", wrap=True),
        Column("verdict", "Verdict", "text"),
        Column("found", "Found (95 %)", "text", wrap=True),
    )
    rows = []
    for place, verdict in enumerate(verdicts):
        cells = (verdict.claim.text, verdict.problem, verdict.word, verdict.found or verdict.deciding)
        keys = ("claim", "problem", "verdict", "found")
        row = {key: Cell(text=text or "nothing to compare") for key, text in zip(keys, cells, strict=True)}
        rows.append(Row(row, rule_above=place > 0 and verdict.claim != verdicts[place - 1].claim))
    return Table("claims", "Claims, fixed before running, and what the records say.", columns, tuple(rows))


def _plain(group: Group, sample: Sample) -> Cell:
    """Without its interval: five columns of intervals fit nowhere; the appendix has every seed."""
    return replace(cell(group, sample), half_width=None)


def _stem(kind: str, group: Group, task: str, slug: str) -> str:
    return f"{kind}-{slug}" if len(group.new_tasks) == 1 else f"{kind}-{task}-{slug}"


def _spoken(group: Group, caption: str) -> str:
    seeds = len(group.seeds)
    interval = f"mean ± 95 % interval over {seeds} seeds" if seeds > 1 else "one seed"
    return f"{group.dataset}. {caption} ({interval}; best bold, second underlined.)"


def fixed(found: Cell, column: Column) -> tuple[str, str]:
    """Value and half-width with the column's decimals, or a text and nothing."""
    if found.value is None:
        return ("--" if found.code == "n/a" else found.text or found.code or ""), ""
    kind = found.kind or column.kind
    if kind == "count":
        return f"{round(found.value):,}", ""
    places = DECIMALS.get(kind, 4)
    text = f"{found.value:+.{places}f}" if column.signed else f"{found.value:.{places}f}"
    if not text.strip("+-0."):
        text = text.lstrip("+-")
    if found.seeds:
        return f"{text} [{min(found.seeds):.{places}f}, {max(found.seeds):.{places}f}]", ""
    return text, "" if found.half_width is None else f"{found.half_width:.{places}f}"


COLUMN_POINTS, LINE_POINTS = 238.0, 342.0
"""A column of acmart's sigconf and a line of article: the narrowest places of `table` and `table*`."""
SEPARATION = 3.0


@dataclass(frozen=True)
class Setting:
    """How densely a table is set: font, points of one of its characters, and what is left to the appendix."""

    size: str
    points: float
    ranges: bool = True
    minor_intervals: bool = True


SETTINGS = (
    Setting(r"\footnotesize", 4.4),
    Setting(r"\footnotesize", 4.4, ranges=False),
    Setting(r"\scriptsize", 4.1, ranges=False),
    Setting(r"\scriptsize", 4.1, ranges=False, minor_intervals=False),
)
"""From the fullest: the first that fits a line is taken. Ranges are those of unstable seeds, minor intervals those of
columns that are not ranked."""


def latex(table: Table) -> str:
    """The table as a float that fits where its kind may stand; needs booktabs and nothing else."""
    columns = table.columns
    wrapped = any(column.wrap for column in columns)
    settings = SETTINGS[:1] if wrapped else SETTINGS
    chosen = next((each for each in settings if _width(table, each) <= LINE_POINTS), settings[-1])
    body = []
    for number, row in enumerate(table.rows):
        cells = []
        for column in columns:
            styled = _styled(*_shown(row.cells[column.key], column, chosen), row.cells[column.key])
            cells.append(rf"{{\raggedright {styled}\par}}" if column.wrap else styled)
        body += [r"    \addlinespace"] if row.rule_above and number else []
        body.append("    " + " & ".join(cells) + r" \\")
    float_ = "table*" if wrapped or _width(table, chosen) > COLUMN_POINTS else "table"
    kinds = "".join(
        rf"p{{{0.34 if c.key == 'claim' else 0.2}\linewidth}}" if c.wrap else "l" if c.kind == "text" else "r"
        for c in columns
    )
    label = "".join(c if c.isalnum() or c in ".:-" else "-" for c in table.name)
    heads = [rf"\multicolumn{{1}}{{{'l' if c.kind == 'text' else 'r'}}}{{{escape_latex(c.header)}}}" for c in columns]
    return "\n".join(
        [
            "% needs booktabs",
            rf"\begin{{{float_}}}[t]",
            rf"  \caption{{{escape_latex(table.caption)}}}",
            rf"  \label{{tab:paper-{label}}}",
            rf"  \centering{chosen.size}\setlength{{\tabcolsep}}{{{SEPARATION:g}pt}}",
            rf"  \begin{{tabular}}{{@{{}}{kinds}@{{}}}}",
            r"    \toprule",
            *_groups(columns),
            "    " + " & ".join(heads) + r" \\",
            r"    \midrule",
            *body,
            r"    \bottomrule",
            r"  \end{tabular}",
            rf"\end{{{float_}}}",
            "",
        ]
    )


def _shown(found: Cell, column: Column, setting: Setting) -> tuple[str, str]:
    text, half = fixed(found, column)
    if found.seeds and not setting.ranges:
        text = text.partition(" [")[0]
    return text, half if column.better or setting.minor_intervals else ""


def _width(table: Table, setting: Setting) -> float:
    """Points that the table needs, about."""
    total = 0.0
    for column in table.columns:
        longest = float(len(column.header))
        for row in table.rows:
            text, half = _shown(row.cells[column.key], column, setting)
            marks = 0.7 * sum(map(len, row.cells[column.key].marks))
            longest = max(longest, len(text) + (len(half) + 2 if half else 0) + marks)
        total += setting.points * longest + 2 * SEPARATION
    return total


def _styled(text: str, half: str, found: Cell) -> str:
    value = escape_latex(text)
    if found.value is not None:
        value = value.replace("+", "$+$").replace("-", "$-$") if text[:1] in "+-" else value
        value = {"best": rf"\textbf{{{value}}}", "second": rf"\underline{{{value}}}", "": value}[found.emphasis]
    marks = "".join(rf"\textsuperscript{{{escape_latex(mark)}}}" for mark in found.marks)
    return value + (rf"\,{{\scriptsize$\pm$\,{half}}}" if half else "") + marks


def _groups(columns: Sequence[Column]) -> list[str]:
    """The spanning headers."""
    if not any(column.group for column in columns):
        return []
    spans, rules, place = [], [], 0
    while place < len(columns):
        group = columns[place].group
        end = place + 1
        while group and end < len(columns) and columns[end].group == group:
            end += 1
        spans.append(rf"\multicolumn{{{end - place}}}{{c}}{{{escape_latex(group)}}}" if group else "")
        rules += [rf"\cmidrule(lr){{{place + 1}-{end}}}"] if group else []
        place = end
    return ["    " + " & ".join(spans) + r" \\", "    " + " ".join(rules)]


FORMATS = {"tex": latex, "md": markdown}
