"""Ali-CCP (Alibaba click and conversion prediction): 42.3 million training and 43.0 million test impressions.

Reads the raw files (skeleton rows joined with their common features) or, where they lie instead, the prepared files
``ctr_cvr.train/.dev/.test`` that the literature shares. As in the AITM and MPT-Rec preparation: 18 single-valued
fields, values with at least 12 training occurrences, one code 0 for all others and for absent fields (that code
counts as a value, as in those papers), rows with a purchase without a click dropped. A tenth of the training rows
validates; where the rows' common features are known (the raw files), rows that share them (one user's, about 58) stay
together. ``@tenth`` draws row by row; ``@aitm`` repeats the very split and vocabulary of the AITM preparation.

The new task is the business scenario (field 301): 0 for the raw value that is rarest in training, else 1. Field 301
leaves the inputs, and so does the user id (101), as in the paper's code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from datasets_registry.base import Chunk, Dataset, Feature, register_dataset
from datasets_registry.schema import Task

if TYPE_CHECKING:
    import numpy as np

    from datasets_registry.encoding.delimited import Layout

COMMON_FIELDS = ("101", "121", "122", "124", "125", "126", "127", "128", "129")
ROW_FIELDS = ("205", "206", "207", "216", "508", "509", "702", "853", "301")
FIELDS = (*COMMON_FIELDS, *ROW_FIELDS)
MIN_COUNT = 12


@dataclasses.dataclass(frozen=True)
class AliCCP(Dataset):
    """Raw: four files; prepared: three."""

    def read(self, files: Mapping[str, Path], chunk_rows: int) -> Iterator[Chunk]:
        for _, chunks in self.read_parts(files, chunk_rows):
            yield from chunks

    def read_parts(self, files: Mapping[str, Path], chunk_rows: int) -> list[tuple[int, Iterator[Chunk]]]:
        if "valid" in files:
            keys = enumerate(("train", "valid", "test"))
            return [(part, self._read_prepared(files[key], part, chunk_rows)) for part, key in keys]
        return [(part, self._read_raw(files, which, part, chunk_rows)) for part, which in ((0, "train"), (2, "test"))]

    def _read_raw(self, files: Mapping[str, Path], which: str, part: int, chunk_rows: int) -> Iterator[Chunk]:
        from datasets_registry.encoding import ali_ccp_text

        skeleton, common_path = files[f"{which}_skeleton"], files[f"{which}_common"]
        common = ali_ccp_text.read_common(common_path, FIELDS)
        for block in ali_ccp_text.read_joined(skeleton, common_path, common, FIELDS, chunk_rows):
            yield self._chunk(*block, part=part, path=skeleton)

    def _read_prepared(self, path: Path, part: int, chunk_rows: int) -> Iterator[Chunk]:
        import numpy as np

        from datasets_registry.encoding import delimited
        from datasets_registry.encoding.vocabulary import to_numpy

        for batch in delimited.read(path, prepared_layout(path), chunk_rows, row_bytes=90):
            values = np.stack([to_numpy(batch[name]) for name in FIELDS], 1)
            labels = (delimited.indicator(batch[name]) for name in ("click", "purchase"))
            yield self._chunk(*labels, values, part=part, path=path)  # type: ignore[misc, arg-type]  # two labels

    def configuration(self) -> str:
        return "vocabularies count validation rows" if self.fit_validation else ""

    def vary(self, word: str) -> Dataset | None:
        return dataclasses.replace(self, split="aitm", fit_validation=True) if word == "aitm" else None

    def _chunk(
        self,
        click: np.ndarray,
        conversion: np.ndarray,
        values: np.ndarray,
        key: np.ndarray | None = None,
        *,
        part: int,
        path: Path,
    ) -> Chunk:
        import numpy as np

        from datasets_registry.encoding.vocabulary import to_arrow

        notes: tuple[str, ...] = ()
        kept = click >= conversion
        if not kept.all():
            click, conversion, values = click[kept], conversion[kept], values[kept]
            key = None if key is None else key[kept]
            notes = (f"{path.name}: rows with a purchase and no click are left out, as in the published preparations.",)
        columns = {name: to_arrow(values[:, i]) for i, name in enumerate(FIELDS)}
        labels = {"click": click, "conversion": conversion, "conversion_clicked": conversion}
        keys = {} if key is None else {"group": key.view(np.int64)}
        return Chunk(features=columns, labels=labels, part=part, keys=keys, notes=notes)

    def recognises(self, directory: Path) -> Mapping[str, Path] | None:
        """The prepared layout, where the raw files are not."""
        for folder in (directory, *(path for path in sorted(directory.glob("*")) if path.is_dir())):
            if (folder / "sample_skeleton_train.csv").is_file():
                return None
            files = {
                key: folder / f"ctr_cvr.{end}" for key, end in (("train", "train"), ("valid", "dev"), ("test", "test"))
            }
            if all(path.is_file() for path in files.values()):
                return files
        return None

    def check_file(self, key: str, path: Path) -> Iterator[tuple[int, str, str]]:
        from datasets_registry.encoding import ali_ccp_text, delimited

        if "_" not in key:
            return delimited.check(path, prepared_layout(path))
        return ali_ccp_text.check(path, skeleton=key.endswith("skeleton"))


def prepared_layout(path: Path) -> Layout:
    """Columns of a ctr_cvr file, which may or may not begin with a header; 0 is an absent or rare value."""
    from datasets_registry.encoding.delimited import Column, Layout
    from datasets_registry.raw.archives import open_plain

    with open_plain(path) as plain:
        header = plain.readline().startswith(b"click")
    labels = tuple(Column(name, "integer", low=0, high=1) for name in ("click", "purchase"))
    return Layout((*labels, *(Column(name, "integer", low=0) for name in FIELDS)), header=header)


register_dataset(
    AliCCP(
        name="ali_ccp",
        title="Ali-CCP",
        tasks=(
            Task("click", "clicked"),
            Task("conversion", "bought, on all impressions (CTCVR; the papers call it CVR)"),
            Task("conversion_clicked", "bought, among clicked impressions", space="click"),
            Task("scenario", "not the rarest business scenario (field 301)", excludes=("301", "101")),
        ),
        old_tasks=("click", "conversion"),
        new_tasks=("scenario",),
        funnel=("click", "conversion"),
        features=tuple(Feature(name, min_count=MIN_COUNT, reserved=0) for name in FIELDS),
        licence="the terms on the Tianchi page, not verified here; not redistributable",
        citation="Ma et al., Entire Space Multi-Task Model, SIGIR 2018",
        home_page="https://tianchi.aliyun.com/dataset/408",
        size="42,300,135 + 43.0 million rows, 18 categorical features",
        manifest="ali_ccp",
        split="tenth_groups",
        splits=("tenth_groups", "tenth"),
        variants={
            "aitm": "the split of the AITM preparation (Python's generator, seed 2020: 4,229,235 rows of the official "
            "training file validate) and its vocabulary, which counts those rows, too",
        },
        rarest={"scenario": "301"},
        defects=(
            "The file order drifts: the click rate falls from 4.5 % at the head to 3.2 % at the tail, so a row prefix "
            "(@first10m, as in the paper) is not a random sample.",
            "Many rows repeat exactly (about 5 % of the first million); some are in train and test.",
            "Purchases are rare: 566 in the first 2 million rows.",
        ),
    )
)
