"""What the README shows is what the committed records say, and what it tells people to type works."""

import importlib.util
import re
from pathlib import Path

import pytest

from benchmark import report
from benchmark.cli.listing import titles
from benchmark.cli.main import COMMANDS
from benchmark.cli.trees import report_options

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "results" / "reference"
TREES = sorted(path for path in REFERENCE.iterdir() if (path / "runs").is_dir())


def embed():
    spec = importlib.util.spec_from_file_location("embed", ROOT / ".ci" / "embed.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", embed().texts(), ids=lambda path: path.name)
def test_tables_in_texts_are_the_generated_ones(path):
    text = path.read_text(encoding="utf-8")
    assert embed().embedded(text) == text, "python .ci/embed.py writes them anew"


def test_the_readme_and_the_findings_show_the_claims_and_what_the_new_task_costs():
    """A text that lost its marks would be held to nothing."""
    for path, tables in (
        (ROOT / "README.md", ("new_task-census_income_no_weight_25pct",)),
        (ROOT / "docs/findings.md", ("claims_overall", "claims")),
    ):
        text = path.read_text(encoding="utf-8")
        marked = {
            found["path"].rpartition("/")[2].removesuffix(".md"): found["table"]
            for found in embed().BLOCK.finditer(text)
        }
        assert all(marked[name].count("\n") > 2 for name in tables)
    whole, table = text, marked["claims_overall"]
    changed = whole.replace(table, table.replace("0.0", "0.9"))  # a hand that types a number
    assert embed().embedded(changed) == whole != changed


def test_a_table_in_a_text_takes_the_named_rows_and_an_unknown_one_is_an_error():
    path = "results/reference/quick/tables/paper/trade_off-census_income.md"
    block = f"<!-- table: {path} rows: MMoE*; MPT-Rec -->\n| old |\nafter\n"
    found = embed().embedded(block).splitlines()
    assert [line.split("|")[1].strip() for line in found[3:5]] == ["MMoE\\*", "MPT-Rec"] and found[-1] == "after"
    with pytest.raises(ValueError, match=r"has no row 'MMOE'"):
        embed().embedded(block.replace("MMoE*", "MMOE"))
    with pytest.raises(ValueError, match=r"no such file"):
        embed().embedded(block.replace("trade_off", "trade_on"))


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: tree.name)
def test_committed_tables_and_figures_are_what_their_records_give(tree):
    options = report_options(tree)
    # Code may move on after the records were made; then their tables say so the next time they are built.
    assert report.check(tree, titles(), **(options | {"stale": ()})) == []


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name)
def test_links_lead_somewhere(path):
    targets = re.findall(r"\]\(([^)#]+?)\)|src=\"([^\"]+)\"", path.read_text())
    local = [first or second for first, second in targets if not (first or second).startswith("http")]
    assert [target for target in local if not (path.parent / target).exists()] == []


def test_every_command_of_the_reference_exists():
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (.*?) \|", page, re.M)
    named = {match.split()[0] for cell in cells for match in re.findall(r"`([a-z][a-z-]+)", cell)}
    commands = named - {"python", "rerun-stale", "retry-failed", "fresh", "only-read"}
    assert commands <= set(COMMANDS) and "verify" in commands
