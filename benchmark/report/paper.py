"""The compact tables of ``tables/paper/``: what goes into a paper unchanged. The wide ones are its appendix.

At most seven columns, names as the field writes them (a star for a frozen backbone), the same decimals in a whole
column. ``table`` where a column of a two-column page is wide enough, ``table*`` otherwise; packages: booktabs alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from benchmark.analysis import stats, transfer
from benchmark.analysis.comparisons import Comparison, worst_verdict
from benchmark.analysis.front import standings
from benchmark.analysis.groups import JOINT, SCRATCH, SINGLE_TASK, STAGE0, Group, Sample, Variant
from benchmark.analysis.measures import adds_to_frozen, delta_m, finder, share, taken_in, total, trained
from benchmark.report.claims import Verdict
from benchmark.report.cost import pareto
from benchmark.report.measures import arm_title, cell, exact, metric_title, set_values
from benchmark.report.model import Cell, Column, Row, Table
from benchmark.report.tables import at_most
from benchmark.report.verdicts import few_words
from benchmark.report.writers import escape_latex, escape_markdown
from benchmark.report.writers import markdown as pipe_table

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
        made += [_new_task(group, task, slug), _trade_off(group, task, slug), _metrics(group, task, slug)]
    notes = tuple(set_values(group))
    return [replace(table, footer=(*table.footer, *notes)).ranked() for table in made if table and table.rows]


def name(group: Group, variant: Variant, arm: str) -> str:
    """A row in the field's words: ``MMoE*`` is MMoE with a frozen backbone, the prompt method bears no star, and
    ``MMoE+LoRA`` trains the rank-decomposed updates beside what ``MMoE*`` trains."""
    title = group.labels[variant]
    title = SHORT.get(title, title)
    kind, bracket, options = arm.partition(" (")
    if kind in (JOINT, STAGE0, SCRATCH):
        return title
    if kind == "frozen":
        return (
            f"{title}{bracket}{options}" if variant.method == group.options.reference else f"{title}*{bracket}{options}"
        )
    between = "+" if adds_to_frozen(kind) else ", "
    return f"{title}{between}{'ft' if kind == 'finetune' else arm_title(kind)}{bracket}{options}"


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


def _most_harmed(group: Group, losses: Sequence[Comparison], most: int) -> list[str]:
    """Of the old tasks, in their order, those with the largest mean losses."""
    worst = dict.fromkeys(group.old_tasks, 0.0)
    for loss in losses:
        if loss.task in worst and loss.sample.values:
            worst[loss.task] = max(worst[loss.task], stats.mean(list(loss.sample.values.values())))
    chosen = sorted(worst, key=lambda task: -worst[task])[:most]
    return [task for task in group.old_tasks if task in chosen]


def _harm(group: Group, slug: str, losses: Sequence[Comparison]) -> Table | None:
    tasks = _most_harmed(group, losses, MOST_COLUMNS - 3)
    columns = [Column("method", "Method", "text")]
    columns += [Column(task, task, signed=True, better=-1, group="Loss of AUC") for task in tasks]
    columns += [Column("at_most", "At most", signed=True), Column("verdict", "Verdict", "text")]
    rows = []
    for variant, arm, first in taken_in(group):
        own = {c.task: c.sample for c in losses if (c.variant, c.arm) == (variant, arm)}
        if not any(sample.values for sample in own.values()):
            continue
        cells = {task: cell(group, own[task]) if task in own else Cell(code="n/a") for task in tasks}
        verdict = few_words(worst_verdict(losses, variant, arm))
        cells |= {"at_most": at_most(losses, variant, arm), "verdict": Cell(text=verdict)}
        cells["method"] = Cell(text=name(group, variant, arm) + (", joint" if arm == JOINT else ""))
        rows.append(Row(cells, rule_above=first))
    caption = (
        f"What {', '.join(group.new_tasks)} costs the old tasks: score before minus after. At most: upper end of the "
        "simultaneous 95 % interval over seeds and test rows, for the worst task."
    )
    if len(tasks) < len(group.old_tasks):
        caption += f" Columns: the {len(tasks)} of {len(group.old_tasks)} old tasks that lose most in some row; the "
        caption += "bound and the verdict are over all."
    caption += _plus(group)
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
        + _plus(group)
    )
    return Table(_stem("new_task", group, task, slug), _spoken(group, caption), columns, tuple(rows))


def _plus(group: Group) -> str:
    named = any(adds_to_frozen(arm) for _, arm, _ in taken_in(group))
    return " +: trained beside all that the frozen row of the method trains." if named else ""


def _trade_off(group: Group, task: str, slug: str) -> Table | None:
    """What a task costs the old ones and gains, from the table of fronts."""
    full = pareto(group, task, slug)
    columns = (
        Column("method", "Method", "text"),
        Column("degradation", "Worst loss", better=-1, signed=True),
        Column("gain", "Gain", better=1, signed=True),
        Column("front", "Front", "text"),
        Column("frequency", "On it, %", "percent"),
        Column("trained", "Trained", "count", better=-1),
    )
    rows = []
    for row, entry in zip(full.rows, standings(group, task, slug), strict=True):
        if row.cells["gain"].value is None or row.cells["degradation"].value is None:
            continue
        cells = {column.key: replace(row.cells[column.key], emphasis="") for column in columns}
        method = name(group, entry.variant, entry.arm) + (", joint" if entry.arm == JOINT else "")
        cells["method"] = Cell(text=method)
        cells["front"] = Cell(text=f"{entry.dominated_by} better" if entry.dominated_by else "yes")
        rows.append(Row(cells, rule_above=entry.first))
    caption = (
        f"What {task} costs and gains. Worst loss: of the old tasks, before minus after; gain: over a single-task "
        "model. Front: no other row is at least as good in both and better in one, else how many are; on it: share of "
        "bootstrap draws (seeds and test rows) with the row on the front. Trained: number of weights." + _plus(group)
    )
    return Table(_stem("trade_off", group, task, slug), _spoken(group, caption), columns, tuple(rows))


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
    caption += _plus(group)
    return Table(_stem("metrics", group, task, slug), _spoken(group, caption), tuple(columns), tuple(rows))


def published_table(group: Group, slug: str, full: Table) -> Table | None:
    """The paper's own numbers beside ours, and those of its reproduction that could be judged; causes as notes."""
    columns = (
        Column("place", "In", "text"),
        Column("method", "Method", "text"),
        Column("quantity", "Of", "text"),
        Column("published", "Published", "text"),
        Column("ours", "Ours"),
        Column("verdict", "Verdict", "text"),
    )
    notes: dict[str, str] = {}
    rows: list[Row] = []
    for row in full.rows:
        given = {key: cell.text or "" for key, cell in row.cells.items()}
        own, comparable = row.cells["ours"], given["verdict"] != "not comparable"
        if own.value is None or not (comparable or given["source"] == "P*"):
            continue
        mark = notes.setdefault(given["why"], chr(ord("a") + len(notes))) if given["why"] else ""
        cells = {
            "place": Cell(text=given["title"] if given["source"] == "P*" else "[R]"),
            "method": Cell(text=_starred(group, given)),
            "quantity": Cell(text=given["task"] if given["quantity"] == "AUC" else QUANTITIES[given["quantity"]]),
            "published": Cell(text=given["published"].partition(" ")[0]),
            "ours": own,
            "verdict": Cell(text=given["verdict"].partition(",")[0], marks=(mark,) * bool(mark)),
        }
        rows.append(Row(cells, rule_above=bool(rows) and cells["place"] != rows[-1].cells["place"]))
    if not rows:
        return None
    caption = (
        f"{group.dataset}. Published numbers and ours (mean ± 95 % interval over {len(group.seeds)} seeds). Of: the "
        "task whose AUC it is, or a count. [R]: the third-party reproduction."
    )
    footer = (*(f"{mark}: {text}." for text, mark in notes.items()), "All numbers, with their sources: the appendix.")
    return Table(f"published-{slug}", caption, columns, tuple(rows), footer)


def _starred(group: Group, given: Mapping[str, str]) -> str:
    """A published row's method as the field writes it."""
    own = group.titles.get(group.options.reference, group.options.reference)
    star = "*" if given["arm"] == "frozen" and given["method"].partition(" (")[0] != own else ""
    return SHORT.get(given["method"], given["method"]) + star


QUANTITIES = {
    "AUC change": "AUC change",
    "trained parameters": "weights",
    "parameters, paper's count": "weights (paper)",
    "parameters, paper's %": "weights, %",
    "forward FLOPs, %": "FLOPs, %",
}


def claims_table(verdicts: Sequence[Verdict]) -> Table:
    """The claims as a paper prints them."""
    columns = (
        Column("claim", "Claim", "text", wrap=True),
        Column("problem", "Problem", "text", wrap=True),
        Column("verdict", "Verdict", "text"),
        Column("found", "Found (95 %)", "text", wrap=True),
        Column("detectable", "Detectable"),
    )
    rows = []
    for place, verdict in enumerate(verdicts):
        found = f"{verdict.contest}: {verdict.found}" if verdict.found else verdict.deciding
        cells = (verdict.claim.text, verdict.problem, verdict.word, found)
        keys = ("claim", "problem", "verdict", "found")
        row = {key: Cell(text=text or "nothing to compare") for key, text in zip(keys, cells, strict=True)}
        row["detectable"] = Cell(code="n/a") if verdict.detectable is None else Cell(verdict.detectable)
        rows.append(Row(row, rule_above=place > 0 and verdict.claim != verdicts[place - 1].claim))
    caption = (
        "Claims, fixed before running, and what the records say. Detectable: the smallest true difference that the "
        f"comparison finds in {stats.POWER:.0%} of studies."
    )
    return Table("claims", caption, columns, tuple(rows))


def claims_overall(wide: Table) -> Table:
    """On how many problems each claim holds, as a paper prints it."""
    shorter = {"supported": "Yes", "contradicted": "No", "undecided": "Open"}
    columns = tuple(
        replace(column, header=shorter.get(column.key, column.header.capitalize()), group=column.group.capitalize())
        for column in wide.columns
        if column.key not in ("not run", "median")
    )
    rows = tuple(Row({column.key: row.cells[column.key] for column in columns}) for row in wide.rows)
    caption = (
        "On how many problems each claim is supported, contradicted and left open. In its favour: the comparison that "
        "stands worst for the claim, lowest and highest over the problems. Detectable: the smallest true difference "
        f"that it finds in {stats.POWER:.0%} of studies, median over the problems."
    )
    return Table(wide.name, caption, columns, rows)


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
    places = 2 if kind == "percent" and column.signed else DECIMALS.get(kind, 4)
    text = f"{found.value:+.{places}f}" if column.signed else f"{found.value:.{places}f}"
    if not text.strip("+-0."):
        text = text.lstrip("+-")
    if found.seeds:
        return f"{text} [{min(found.seeds):.{places}f}, {max(found.seeds):.{places}f}]", ""
    return text, "" if found.half_width is None else f"{found.half_width:.{places}f}"


def markdown(table: Table) -> str:
    """As the LaTeX has it: the same decimals in a whole column."""

    def shown(found: Cell, column: Column) -> str:
        return escape_markdown(" ± ".join(filter(None, fixed(found, column))))

    return pipe_table(table, shown)


COLUMN_POINTS, LINE_POINTS = 230.0, 334.0
"""A column of acmart's sigconf and a line of article, the narrowest places of `table` and `table*`, less what the
estimate of a width may be short of."""
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


WEIGHTS = {"claim": 2.0, "found": 2.0}
"""How the columns that wrap share what the others leave of a line."""


MOST_LINES = 40
"""Lines of a table that fit a page of any of the classes beside its caption and notes."""


def latex(table: Table) -> str:
    """The table as a float that fits where its kind may stand, or several if it is too long for a page; needs booktabs
    and nothing else."""
    chosen = next((each for each in SETTINGS if _width(table, each) <= LINE_POINTS), SETTINGS[-1])
    left = 0.98 - _width(table, chosen) / LINE_POINTS
    wrapping = [column for column in table.columns if column.wrap]
    share = left / max(1, sum(WEIGHTS.get(column.key, 1) for column in wrapping))
    shares = {column.key: share * WEIGHTS.get(column.key, 1) for column in wrapping}
    parts = _parts(table, {key: share * LINE_POINTS / chosen.points for key, share in shares.items()})
    lines = ["% needs booktabs"]
    for place, rows in enumerate(parts):
        lines += _float(replace(table, rows=tuple(rows)), chosen, shares, place, place == len(parts) - 1)
    return "\n".join([*lines, ""])


def _parts(table: Table, characters: Mapping[str, float]) -> list[list[Row]]:
    """The rows by page: groups of rows stay together where they can. ``characters``: of a line of a wrapping column."""
    total = sum(_lines(row, characters) for row in table.rows)
    most = total / max(1, -(-total // MOST_LINES)) + MOST_LINES / 10  # parts of about equal length
    parts: list[list[Row]] = [[]]
    used = 0.0
    for place, row in enumerate(table.rows):
        lines = _lines(row, characters)
        ahead = table.rows[place + 1 :]
        end = next((number for number, other in enumerate(ahead) if other.rule_above), len(ahead))
        whole = lines + sum(_lines(other, characters) for other in ahead[:end])
        full = used + lines > most or (row.rule_above and used + whole > most and whole < most / 2)
        if parts[-1] and full:
            parts.append([])
            used = 0.0
        parts[-1].append(row)
        used += lines
    return parts


def _lines(row: Row, characters: Mapping[str, float]) -> float:
    texts = {key: len(row.cells[key].text or "") for key in characters}
    return max((1.0, *(-(-length // characters[key]) for key, length in texts.items()))) + 0.5 * row.rule_above


def _float(table: Table, chosen: Setting, shares: Mapping[str, float], place: int, last: bool) -> list[str]:
    columns = table.columns
    body = []
    for number, row in enumerate(table.rows):
        cells = []
        for column in columns:
            styled = _styled(*_shown(row.cells[column.key], column, chosen), row.cells[column.key])
            cells.append(_wrapped(styled, shares[column.key]) if column.wrap else styled)
        body += [r"    \addlinespace"] if row.rule_above and number else []
        body.append("    " + " & ".join(cells) + r" \\")
    float_ = "table*" if shares or _width(table, chosen) > COLUMN_POINTS else "table"
    kinds = "".join("l" if c.kind == "text" else "r" for c in columns)
    label = "".join(c if c.isalnum() or c in ".:-" else "-" for c in table.name) + (f"-{place + 1}" if place else "")
    heads = [rf"\multicolumn{{1}}{{{'l' if c.kind == 'text' else 'r'}}}{{{escape_latex(c.header)}}}" for c in columns]
    caption = table.caption if not place else f"{table.caption.partition('. ')[0]}, continued."
    return [
        rf"\begin{{{float_}}}[t]",
        rf"  \caption{{{escape_latex(caption)}}}",
        rf"  \label{{tab:paper-{label}}}",
        rf"  \centering{_size(table, chosen)}\setlength{{\tabcolsep}}{{{SEPARATION:g}pt}}",
        rf"  \begin{{tabular}}{{@{{}}{kinds}@{{}}}}",
        r"    \toprule",
        *_groups(columns),
        "    " + " & ".join(heads) + r" \\",
        r"    \midrule",
        *body,
        r"    \bottomrule",
        r"  \end{tabular}",
        *_notes(table.footer if last else ()),
        rf"\end{{{float_}}}",
    ]


def _size(table: Table, chosen: Setting) -> str:
    """The font, and the macro mpthalf for half-widths; where only the narrowest line asks for a small one, wider ones
    keep the larger."""
    large = rf"{SETTINGS[0].size}\let\mpthalf\scriptsize"
    if chosen.size == SETTINGS[0].size:
        return large
    needed = _width(table, replace(chosen, points=SETTINGS[0].points))
    return rf"\ifdim\linewidth<{needed:.0f}pt {chosen.size}\let\mpthalf\tiny\else{large}\fi"


def _wrapped(text: str, share: float) -> str:
    """A text that is broken into lines, after underscores too."""
    broken = text.replace(r"\_", r"\_\allowbreak{}")
    return rf"\parbox[t]{{{share:.2f}\linewidth}}{{\raggedright {broken}\strut}}"


def _notes(lines: Sequence[str]) -> list[str]:
    """Below the rules, as wide as the place of the float."""
    if not lines:
        return []
    return [rf"  \par\smallskip{{\scriptsize\raggedright {escape_latex(' '.join(lines))}\par}}"]


def _shown(found: Cell, column: Column, setting: Setting) -> tuple[str, str]:
    text, half = fixed(found, column)
    if found.seeds and not setting.ranges:
        text = text.partition(" [")[0]
    return text, half if column.better or setting.minor_intervals else ""


def _width(table: Table, setting: Setting) -> float:
    """Points that the table needs, about; of columns that wrap only what parts them."""
    total = 0.0
    for column in table.columns:
        if column.wrap:
            total += 2 * SEPARATION
            continue
        longest = float(len(column.header))
        for row in table.rows:
            text, half = _shown(row.cells[column.key], column, setting)
            marks = 0.7 * sum(map(len, row.cells[column.key].marks))
            signs = 0.5 * (text[:1] in "+-")  # wider than a digit, as is the sign before a half-width
            longest = max(longest, len(text) + signs + (0.9 * (len(half) + 2.7) if half else 0) + marks)
        total += setting.points * longest + 2 * SEPARATION
    return total


def _styled(text: str, half: str, found: Cell) -> str:
    value = escape_latex(text)
    if found.value is not None:
        value = value.replace("+", "$+$").replace("-", "$-$") if text[:1] in "+-" else value
        value = {"best": rf"\textbf{{{value}}}", "second": rf"\underline{{{value}}}", "": value}[found.emphasis]
    marks = "".join(rf"\textsuperscript{{{escape_latex(mark)}}}" for mark in found.marks)
    return value + (rf"\,{{\mpthalf$\pm$\,{half}}}" if half else "") + marks


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
