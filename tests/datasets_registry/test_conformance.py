"""The kit passes good datasets and names the fault of bad ones; the page on adding a dataset is executed."""

import dataclasses
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from benchmark.core.errors import UsageError
from benchmark.kit.check_dataset import check_dataset
from benchmark.kit.skeletons import new_dataset
from datasets_registry import DATASETS, find
from datasets_registry.base import Chunk
from datasets_registry.cards import card
from datasets_registry.raw.manifest import load_manifest
from datasets_registry.synthetic import Synthetic, synthetic

DOCS = Path(__file__).resolve().parents[2] / "docs"


def failures(findings):
    return {finding.check: finding.message for finding in findings if not finding.ok and not finding.warning}


def test_generated_data_conforms():
    assert failures(check_dataset(synthetic("synthetic_small", rows=3000))) == {}


def test_real_sample_conforms(shared, tmp_path):
    sample = shared("byterec-sample") / "byterec_sample.txt"
    (tmp_path / "final_track2_train.txt").write_bytes(sample.read_bytes())
    findings = check_dataset("byterec", data_dir=tmp_path)
    assert failures(findings) == {}
    assert any("incomplete raw files: 200 of" in finding.message for finding in findings)


@dataclasses.dataclass(frozen=True)
class Shifting(Synthetic):
    """Faulty on purpose: its rows depend on the chunk size."""

    def read(self, files, chunk_rows):
        for chunk in super().read(files, chunk_rows):
            labels = {name: np.roll(values, min(chunk_rows, 1500)) for name, values in chunk.labels.items()}
            yield Chunk(chunk.features, labels)


def test_rows_that_depend_on_the_chunk_size_are_found():
    good = synthetic("synthetic_shifting", rows=3000)
    bad = Shifting(**{field.name: getattr(good, field.name) for field in dataclasses.fields(good)})
    assert "chunk size" in failures(check_dataset(bad))["chunks"]


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_every_registered_dataset_declares_what_its_card_needs(name):
    dataset = find(name)
    assert all((dataset.title, dataset.licence, dataset.citation, dataset.size, dataset.old_tasks, dataset.new_tasks))
    assert dataset.split in dataset.splits
    text = card(dataset)
    assert all(f"`{task.name}`" in text for task in dataset.tasks)
    if dataset.manifest:
        manifest = load_manifest(dataset.manifest)
        assert dataset.home_page and manifest.page and (manifest.mirrors or manifest.instructions)
        for mirror in manifest.mirrors:
            assert set(mirror.get("members", mirror.get("urls"))) == set(manifest.files)
    committed = DOCS / "datasets" / f"{name}.md"
    assert committed.read_text().startswith(text), "python -m datasets_registry.cards"


def test_listing_is_quick_and_imports_nothing_heavy():
    import subprocess
    import sys

    code = (
        "import sys; from datasets_registry import DATASETS, availability\n"
        "for n in DATASETS: availability(n)\n"
        "heavy = {'torch', 'numpy', 'pandas', 'pyarrow', 'datasets', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy; assert not DATASETS.broken, DATASETS.broken"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=DOCS.parent)


def test_page_on_adding_a_dataset(mpt, tmp_path, monkeypatch):
    """Its commands and its Python, in the order and with the words in which they stand there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(DATASETS, "_entries", dict(DATASETS._entries))
    rng = np.random.default_rng(0)
    click = rng.random(1500) < 0.3
    buy = click & (rng.random(1500) < 0.5)
    lines = ["user,item,country,price,genres,timestamp,click,purchase"]
    lines += [f"{i % 50},{i % 31},c{i % 3},{i % 9},a|b,{i},{int(click[i])},{int(buy[i])}" for i in range(1500)]
    Path("impressions.csv").write_text("\n".join(lines) + "\n")
    short = [line.split(",") for line in lines]
    Path("my_log.csv").write_text("\n".join(",".join((c[0], c[1], c[3], c[6], c[7])) for c in short) + "\n")
    page = (DOCS / "add-a-dataset.md").read_text()
    Path("shop.toml").write_text(re.findall(r"```toml\n(.*?)```", page, re.DOTALL)[0])
    names: dict = {}
    blocks = re.findall(r"```(python|bash)\n(.*?)```", page, re.DOTALL)
    assert [kind for kind, _ in blocks].count("bash") == 4
    for kind, block in blocks:
        if kind == "python":
            exec(compile(block, "docs/add-a-dataset.md", "exec"), names)
        else:
            result = mpt(*shlex.split(block.removeprefix("python run_all.py ")))
            assert result.code == 0 and "FAIL" not in result.text, result.text
    assert "Shared-Bottom,frozen" in Path("results/my_shop/tables/new_task-my_shop.csv").read_text()
    assert names["data"].name == "my_shop" and names["by_time"].meta["rows"]["train"] == 1200
    assert names["few_labels"].tasks["purchase"].partial
    with pytest.raises(UsageError, match="exists already"):
        new_dataset("my_log", ".")
