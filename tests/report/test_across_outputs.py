"""One computation, one answer: what several outputs say of one entry is the same in all of them, on committed trees."""

import csv
import io
import re
from pathlib import Path

import pytest

from benchmark import report
from benchmark.analysis.front import dominated_by
from benchmark.cli.listing import titles
from benchmark.cli.trees import report_options

REFERENCE = Path(__file__).resolve().parents[2] / "results" / "reference"
TREES = ("census", "arms", "backbones", "balancing", "scarce_labels")
"""Trees on which table and figure once disagreed; `quick` stands for the others."""


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture(scope="module", params=(*TREES, "quick"))
def outputs(request):
    """The files of a committed tree as its records give them now, by path, and the data of its figures."""
    tree = REFERENCE / request.param
    if not tree.is_dir():
        pytest.skip(f"no committed tree {request.param}")
    made = report.report(tree, titles(), **report_options(tree) | {"stale": ()})
    return made.files(), {plot.name: plot.rows for plot in made.plots}


def test_tables_figures_and_captions_name_the_same_front(outputs):
    files, plots = outputs
    compared = 0
    for path, text in files.items():
        name = re.fullmatch(r"tables/(pareto-.+)\.csv", path)
        if name is None:
            continue
        plot = plots.get(name[1].replace("pareto-", "trade_off-", 1))
        if plot is None:
            continue
        paper = files[f"tables/paper/{name[1].replace('pareto', 'trade_off', 1)}.md"]
        table = [row for row in rows(text) if row["front"] not in ("n/a", "")]
        assert [row["front"] == "front" for row in table] == [row["front"] for row in plot]
        on_front = [line for line in paper.splitlines() if re.search(r"\| yes +\|", line)]
        assert len(on_front) == sum(row["front"] for row in plot)
        counted = re.match(r"(\d+) of (\d+)", plot[0]["answer"])
        assert (int(counted[1]), int(counted[2])) == (len(on_front), len(plot))
        assert dominated_by([(-row["degradation"], row["gain"]) for row in plot]) == [
            0 if row["front"] == "front" else int(row["front"].removeprefix("dominated by ")) for row in table
        ]
        compared += len(plot)
    assert compared > 5


NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?")


def numbers(line):
    """The numbers of a table's row, whatever markup is around them."""
    plain = re.sub(r"\\textsuperscript\{[^}]*\}|<sup>.*?</sup>", " ", line)  # marks of footnotes
    plain = re.sub(r"\{[0-9.]+\\[a-z]*width\}", " ", plain)
    plain = plain.replace("{,}", ",").replace("$-$", "-").replace("$+$", "+").replace("\\-", "-").replace("$", "")
    return [found.lstrip("+") for found in NUMBER.findall(re.sub(r"\\[a-zA-Z]+", " ", plain))]


def within(part, whole):
    """Whether the numbers of ``part`` stand in ``whole``, in their order."""
    rest = iter(whole)
    return all(number in rest for number in part)


def test_latex_holds_no_number_that_the_markdown_of_the_table_does_not(outputs):
    """Row by row. LaTeX may leave out half-widths that find no room."""
    files, _ = outputs
    compared = 0
    for path in [p for p in files if p.startswith("tables/paper/") and p.endswith(".md")]:
        typeset = files[path.removesuffix(".md") + ".tex"]
        shown = [numbers(line) for line in files[path].splitlines() if line.startswith("|")][2:]
        inside = typeset[typeset.index("\\midrule") : typeset.index("\\bottomrule")]
        set_rows = [numbers(line) for line in inside.splitlines() if "&" in line]
        assert all(map(within, set_rows, shown)), path
        compared += sum(map(len, set_rows))
    assert compared > 50
