"""Data cards: what a dataset is, in one Markdown page, from its declaration and, where it was encoded, its numbers.

``python -m datasets_registry.cards [DIRECTORY]`` writes docs/datasets/; with MPTBENCH_DATA naming real files, the
counted part of those datasets is filled in, otherwise the one that is there is kept. With ``--difficulty`` plain models
are fitted as well (minutes); a difficulty of the same arrays that is there already is kept.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from datasets_registry.catalogue import DATASETS
from datasets_registry.pipeline import find, prepare

if TYPE_CHECKING:
    from datasets_registry.base import Dataset
    from datasets_registry.encoding.store import EncodedDataset

HUB = """Two are fetched from the Hugging Face Hub, where their authors publish them: `criteo_attribution` at a pinned
commit with its checksum, `vk_lsvd` from the branch main, for which nobody publishes one. `tenrec_qk_video_hub` is a
prepared copy there, read once you have downloaded it (`--data-dir`). Of the others no copy with the
official files' content at a fixed revision could be established. A copy that you know can be used at a pinned commit:
[add a dataset](../add-a-dataset.md)."""
COUNTED = "<!-- counted from the data; kept when the card is written without it -->\n"


def card(dataset: Dataset, data: EncodedDataset | None = None, counted: str = "") -> str:
    """The card as Markdown. ``counted`` is the counted part of an earlier card, used when ``data`` is None."""
    lines = [f"# {dataset.title}", "", f"`{dataset.name}` in the registry. {dataset.notes}".rstrip(), ""]
    facts = {
        "fit for": f"a toy: {dataset.toy}" if dataset.toy else "",
        "size": dataset.size,
        "home page": dataset.home_page,
        "licence": dataset.licence,
        "cite": dataset.citation,
        "source": _source(dataset),
        "split": f"`{dataset.split}`" + _others([f"`@{s}`" for s in dataset.splits if s != dataset.split]),
        "variants": "; ".join(f"`@{word}`: {text}" for word, text in dataset.variants.items()),
    }
    lines += ["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in facts.items() if text), ""]
    lines += [
        "## Tasks",
        "",
        "| task | label 1 means | default | defined on | removes from the inputs |",
        "|---|---|---|---|---|",
    ]
    for task in dataset.tasks:
        role = "old" if task.name in dataset.old_tasks else "new" if task.name in dataset.new_tasks else "on offer"
        space = f"`{task.space}` = 1" if task.space else "all rows"
        lines.append(f"| `{task.name}` | {task.title} | {role} | {space} | {', '.join(task.excludes) or '-'} |")
    for what, named in (("In turn as new tasks", dataset.chain), ("Positives enough for", dataset.candidates)):
        if named:
            lines += ["", f"{what}: {', '.join(f'`{name}`' for name in named)}."]
    lines += ["", "## Inputs", ""]
    for kind in ("categorical", "numeric"):
        names = [
            f.name
            + (f" (up to {f.length} values)" if f.length > 1 else "")
            + (f" (min. {f.min_count})" if f.min_count > 1 else "")
            + (" (log)" if f.log else "")
            for f in dataset.features
            if f.kind == kind
        ]
        if names:
            lines += [f"{len(names)} {kind}: {', '.join(names)}.", ""]
    if dataset.defects:
        lines += ["## Known defects and choices", "", *(f"- {text}" for text in dataset.defects), ""]
    return "\n".join(lines) + "\n" + (_counted(data) if data is not None else counted)


def _source(dataset: Dataset) -> str:
    if dataset.manifest is None:
        return "generated on the fly" if dataset.local_files() is None else "files of your own"
    from datasets_registry.raw.manifest import load_manifest

    manifest = load_manifest(dataset.manifest)
    names = ", ".join(f"`{raw.names[0]}`" + " (optional)" * raw.optional for raw in manifest.files.values())
    mirrors = "; then ".join(mirror["title"] for mirror in manifest.mirrors)
    checked = (
        "checked by sha256"
        if all(raw.sha256 for raw in manifest.files.values())
        else "no published sha256 of all files"
    )
    if any(mirror.get("unverified") for mirror in manifest.mirrors):
        checked = "**not verified: nobody publishes a checksum of these files**"
    elif any(mirror.get("file_sha256") for mirror in manifest.mirrors):
        checked = "checked by the published sha256 of the compressed file"
    where = f"fetched from: {mirrors}" if mirrors else "by hand, login needed" if manifest.login else "by hand"
    return f"{names}; {where} ({checked})"


def _others(words: list[str]) -> str:
    return f"; also {', '.join(words)}" if words else ""


def _counted(data: EncodedDataset) -> str:
    lines = ["## Counted", ""]
    rows = data.meta["rows"]
    lines += [f"Fingerprint `{data.fingerprint}`. {data.meta['rows_read']:,} rows read.", ""]
    lines += [f"- {warning}" for warning in data.warnings] + ([""] if data.warnings else [])
    lines += ["| | train | valid | test | best single feature (AUC) |", "|---|---|---|---|---|"]
    lines.append(f"| rows | {rows['train']:,} | {rows['valid']:,} | {rows['test']:,} | |")
    for task, tallies in data.meta["base_rates"].items():
        if data.tasks[task].kind != "binary":
            continue
        cells = [
            f"{t['positives']:,} of {t['defined']:,} = {t['positives'] / t['defined']:.4f}" if t["defined"] else "none"
            for t in (tallies[which] for which in ("train", "valid", "test"))
        ]
        best = data.meta["single_feature_auc"].get(task)
        alone = f"{best['feature']} {best['auc']:.3f}" if best else "too few rows"
        lines.append(f"| `{task}` = 1 | {' | '.join(cells)} | {alone} |")
    sizes = [f"{entry['name']} {entry['size'] - entry['reserved']:,}" for entry in data.meta["categorical"]]
    lines += ["", f"Vocabulary sizes (training values, reserved codes apart): {', '.join(sizes)}.", ""]
    return COUNTED + "\n".join(lines)


def write_cards(
    directory: Path,
    data_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
    difficulty: bool = False,
) -> list[Path]:
    """Write one card per dataset of the package; numbers for generated data and for what ``data_dir`` holds.

    ``difficulty`` measures that of real data, too.
    """
    from datasets_registry.pipeline import availability

    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for name in DATASETS:
        dataset = find(name)
        path = directory / f"{name}.md"
        data = None
        if availability(name, data_dir, cache_dir)[0] in ("generated", "local", "cached"):
            data = prepare(name, data_dir=data_dir, cache_dir=cache_dir, fetch=False)
        earlier = path.read_text(encoding="utf-8").partition(COUNTED) if path.is_file() else ("", "", "")
        text = card(dataset, data, earlier[1] + earlier[2])
        if data is not None and dataset.manifest:
            text += _difficulty(data, earlier[2], difficulty)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    index = ["# Datasets", "", "One card each, written by `python -m datasets_registry.cards`.", "", HUB, ""]
    index += ["| name | what | old tasks | new task |", "|---|---|---|---|"]
    for name in DATASETS:
        d = find(name)
        index.append(
            f"| [{name}]({name}.md) | {d.title}: {d.size} | {', '.join(d.old_tasks)} | {', '.join(d.new_tasks)} |"
        )
    (directory / "README.md").write_text("\n".join(index) + "\n", encoding="utf-8")
    return written


def _difficulty(data: EncodedDataset, earlier: str, wanted: bool) -> str:
    """The card's last section, measured anew if that is wanted and the earlier one is of other arrays."""
    _, heading, section = earlier.partition("## Difficulty\n")
    if heading and f"`{data.fingerprint}`" in earlier:
        return f"\n{heading}{section}"
    if not wanted:
        return ""
    from datasets_registry.difficulty import measure

    return f"\n{measure(data).markdown()}"


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--difficulty"]
    target = Path(words[0]) if words else Path(__file__).parents[1] / "docs" / "datasets"
    for card_path in write_cards(target, difficulty="--difficulty" in sys.argv):
        print(card_path)
