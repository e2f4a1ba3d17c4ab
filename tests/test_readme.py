"""What the README shows is what the committed records say, and what it tells people to type works."""

import re
from pathlib import Path

import pytest

from benchmark import report
from benchmark.cli.listing import titles
from benchmark.cli.main import COMMANDS
from benchmark.cli.trees import report_options

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
REFERENCE = ROOT / "results" / "reference"
TREES = sorted(path for path in REFERENCE.iterdir() if (path / "runs").is_dir())


@pytest.mark.parametrize(("table", "rows"), [("paper/claims.md", 7), ("paper/trade_off-census_income.md", 14)])
def test_the_tables_in_the_readme_are_the_generated_ones(table, rows):
    generated = (REFERENCE / "quick" / "tables" / table).read_text()
    found = [line for line in generated.splitlines() if line.startswith("|")]
    assert len(found) == rows and "\n".join(found) in README


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


def test_every_command_the_readme_names_exists():
    table = README[README.index("## Commands") : README.index("## Add your method")]
    cells = re.findall(r"^\| (.*?) \|", table, re.M)
    named = {match.split()[0] for cell in cells for match in re.findall(r"`([a-z][a-z-]+)", cell)}
    commands = named - {"python", "rerun-stale", "retry-failed", "fresh", "only-read"}
    assert commands <= set(COMMANDS) and "verify" in commands
