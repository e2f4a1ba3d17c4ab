"""Pages of the site that are made from what is committed: run by mkdocs (plugin gen-files) at every build."""

from __future__ import annotations

import json
import re
from pathlib import Path

import mkdocs_gen_files

import benchmark as mb
from benchmark.cli.listing import list_datasets, list_methods
from benchmark.spec.arms import ARMS

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "results" / "reference"
OUTSIDE = re.compile(
    r"\[([^\]]*)\]\((?:\.\./)*(?:(?:methods|benchmark|tests|examples|datasets_registry)/[^)]*|[A-Z]+\.[^)/]*)\)"
)
"""Links to what is no page of the site: the code, and files at the top of the repository."""


NO_COMPARISON = ["ablations", "balancing", "times", "released", "census_l2", "kuairand_l2"]
"""Trees that vary something else than method and strategy."""


def page(path: str, text: str) -> None:
    with mkdocs_gen_files.open(path, "w") as file:
        file.write(text)


def home() -> None:
    """The README, with links as they are from here; what lies outside the site is named without a link."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("](docs/", "](")
    text = re.sub(r"```mermaid\n.*?```\n", "", text, flags=re.DOTALL)
    page("index.md", OUTSIDE.sub(r"\1", text))


def pages_of_docs() -> None:
    """The pages as they are, with links to results as they lie on the site."""
    for path in sorted((ROOT / "docs").glob("*.md")):
        if path.name != "README.md":
            page(path.name, OUTSIDE.sub(r"\1", path.read_text(encoding="utf-8")).replace("../results/", "results/"))
    overview = (ROOT / "results" / "README.md").read_text(encoding="utf-8")
    page(
        "results/README.md",
        re.sub(r"\(reference/(\w+)/LOG\.md\)", r"(reference/\1/index.md)", overview).replace("../docs/", "../"),
    )


def ranking() -> None:
    rows = mb.ranking()
    rows = rows[~rows.tree.isin(NO_COMPARISON)]
    rows["label"] = rows.method + ", " + rows.arm
    page("ranking.json", rows.drop(columns="method_name").to_json(orient="records", double_precision=6))
    problems = rows.groupby(["dataset", "task"]).ngroups
    page(
        "ranking.md",
        RANKING.format(
            problems=problems, datasets=rows.dataset.str.partition("@")[0].nunique(), entries=rows.label.nunique()
        ),
    )


RANKING = """---
hide: [toc]
---
# Ranking

Which method and strategy gives a new task the most, over {problems} problems of {datasets} datasets and {entries}
entries. **Beaten** is the share of the other entries of a problem that gain less. Problems weigh equally within a
dataset, datasets equally among each other. Only entries on five or more problems are shown; the filter changes that.
Open a row for its problems, its runs and the command that verifies them.

!!! warning "Published settings"
    Most results here use the papers' own settings, which favour some methods ([corrections](corrections.md)).
    Choose the track `equal` for comparisons with equal chances, as far as they have been run.

<div id="ranking-rows" data-source="ranking.json">
<noscript>The table needs JavaScript; <code>mb.ranking()</code> gives the same rows.</noscript>
</div>
<script src="site/ranking.js" defer></script>

From Python: `benchmark.ranking()`. Any number again: `python run_all.py verify RUN --out results/reference/TREE`.
"""


def results() -> list[tuple[str, str]]:
    """A page for each reference tree: its log, its paper tables, and a link to its report where that is committed."""
    pages = []
    for tree in sorted(path for path in REFERENCE.iterdir() if (path / "runs").is_dir()):
        log = (tree / "LOG.md").read_text(encoding="utf-8") if (tree / "LOG.md").is_file() else ""
        parts = [f"# Results: {tree.name}\n"]
        if (tree / "report.html").is_file():
            with mkdocs_gen_files.open(f"results/reference/{tree.name}/report.html", "wb") as file:
                file.write((tree / "report.html").read_bytes())
            parts.append("[The whole report](report.html): every number with its runs.\n")
        tables = [path for path in sorted((tree / "tables" / "paper").glob("*.md")) if len(path.stem) < 60]
        parts += [f"## {path.stem}\n\n{path.read_text(encoding='utf-8')}" for path in tables[:12]]
        for path in sorted(tree.rglob("*.md")):
            if path.name != "LOG.md":
                page(f"results/reference/{path.relative_to(REFERENCE)}", path.read_text(encoding="utf-8"))
        for path in sorted((tree / "figures").glob("*.png")):
            with mkdocs_gen_files.open(f"results/reference/{path.relative_to(REFERENCE)}", "wb") as file:
                file.write(path.read_bytes())
        parts.append(f"## How it was made\n\n{re.sub(r'^#+ .*$', '', log, count=1, flags=re.MULTILINE)}")
        name = f"results/reference/{tree.name}/index.md"
        page(name, "\n\n".join(parts))
        pages.append((tree.name, name))
    return pages


def methods() -> None:
    lines = ["# Methods\n", "One file each in `methods/`. The arms are explained on [the page on arms](arms.md).\n"]
    for row in list_methods():
        lines.append(f"## {row['title']} {{#{row['name']}}}\n")
        lines.append(f"`{row['name']}`. {row['paper']}. Arms of its own: {', '.join(row['arms'])}. ")
        lines.append(f"Trained / joint parameters on Census-Income: {row['trained']}.\n")
    page("methods.md", "\n".join(lines))


def strategies() -> None:
    head = "| arm | what | old labels read | old tasks frozen |\n| --- | --- | --- | --- |\n"
    body = ""
    for arm in ARMS.values():
        paper, frozen = f" ({arm.paper})" if arm.paper else "", "yes" if arm.frozen else "no"
        body += f"| `{arm.name}` | {arm.title}{paper} | {arm.old_labels} | {frozen} |\n"
    page("strategies.md", f"# Strategies\n\nMade from the code; [arms](arms.md) explains them.\n\n{head}{body}")


def api() -> None:
    for name, module in API.items():
        page(f"api/{name}.md", f"# {name}\n\n::: {module}\n")


API = {
    "benchmark": "benchmark.api",
    "methods.base": "methods.base",
    "methods.batch": "methods.batch",
    "methods.layers": "methods.layers",
    "datasets_registry.base": "datasets_registry.base",
}


def navigation(trees: list[tuple[str, str]]) -> None:
    docs = ROOT / "docs"
    groups = {
        "Use": (
            "commands",
            "add-a-method",
            "add-a-dataset",
            "from-python",
            "studies",
            "tuning",
            "submit",
            "cluster",
            "speed",
        ),
        "Understand": (
            "rules",
            "arms",
            "strategies",
            "tables",
            "encoding",
            "encoded-files",
            "theory",
            "deviations",
            "glossary",
        ),
        "Trust": ("reproduce", "robustness", "architecture"),
    }
    lines = [
        "* [Home](index.md)",
        "* [Ranking](ranking.md)",
        "* [Findings](findings.md)",
        "* [Corrections](corrections.md)",
    ]
    for title, names in groups.items():
        lines.append(f"* {title}")
        lines += [f"    * [{_title(docs / f'{name}.md', name)}]({name}.md)" for name in names]
    lines += ["* [Methods](methods.md)", "* Datasets", "    * [All](datasets/README.md)"]
    lines += [
        f"    * [{path.stem}](datasets/{path.name})"
        for path in sorted((docs / "datasets").glob("*.md"))
        if path.stem != "README"
    ]
    lines += ["* Results", "    * [All](results/README.md)", *(f"    * [{name}]({path})" for name, path in trees)]
    lines += ["* API", *(f"    * [{name}](api/{name}.md)" for name in API)]
    page("SUMMARY.md", "\n".join(lines) + "\n")


def _title(path: Path, name: str) -> str:
    return path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ") if path.is_file() else name.capitalize()


home()
pages_of_docs()
ranking()
methods()
strategies()
api()
navigation(results())
json.dumps(list_datasets(None))  # every dataset's declaration can be read, or the build fails here
