"""Raw chunks to arrays on disk, in bounded memory.

1. **Stage**: the dataset's chunks go to one temporary Arrow file, so that raw text is parsed once.
2. **Split**: from the key columns of all rows (a few bytes a row), each row gets its split.
3. **Count**: vocabularies and scalers from training rows only.
4. **Write**: each chunk is encoded and appended to the arrays of its rows' splits.

The result is the same whatever the chunk size: every step works row by row or with exact sums. Arrays are written in
a directory beside and renamed at the end, so a directory that exists is complete.

The directory holds, for each split, NumPy files that ``numpy.load`` reads (docs/encoded-files.md):
``<split>.codes.npy`` [N], one named field per categorical feature in the narrowest integer that holds its codes;
``<split>.numeric.npy`` float32 [N, numeric features]; ``<split>.label.<task>.npy`` uint8 or float32 [N]; for generated
data ``<split>.truth.<task>.npy`` float64 [N]; with sequences ``<split>.sequences.npy`` [N], one field of codes per
sequence, in the narrowest integer that also holds the vocabulary's size, which stands for "no value here".
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from benchmark.core.errors import DataError
from datasets_registry.base import CHUNK_ROWS, UNDEFINED, Chunk, Dataset, Feature
from datasets_registry.encoding import checks, duplicates, groups, history, integrity, numbers, splits, vectors
from datasets_registry.encoding.numbers import Distribution, Draw
from datasets_registry.encoding.output import Output, narrow, record_type
from datasets_registry.encoding.profiles import Profile
from datasets_registry.encoding.vocabulary import Scaler, Vocabulary, cells, to_arrow, to_numpy

if TYPE_CHECKING:
    from datasets_registry.raw.download import Report

FORMAT = 2  # of the files in an encoded directory
CONTENT = 1  # of what the fingerprint is taken of: values, whatever files hold them


def encode(
    dataset: Dataset,
    profile: Profile,
    files: dict[str, Path],
    target: Path,
    *,
    sources: dict[str, str],
    chunk_rows: int = CHUNK_ROWS,
    report: Report | None = None,
) -> None:
    """Write the arrays of ``dataset`` to the directory ``target``, which appears only when complete.

    ``sources`` are the checksums of the raw files, kept in meta.json. Raises DataError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target.parent)
    scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".encode-{socket.gethostname()}-{os.getpid()}-"))
    try:
        rows = _prefix(dataset, profile, files, chunk_rows) or dataset.read(files, chunk_rows)
        needed = splits.needed_keys(dataset.split, profile)
        if any(feature.kind == "sequence" for feature in dataset.features):
            needed |= set(history.KEYS)
        stage, keys, notes = _stage(dataset, rows, scratch / "stage.arrow", needed, report)
        duplicates.refuse_equal(dataset.name, sources)
        split = splits.assign(dataset.split, dataset.split_stream, keys, profile.draw)
        split = splits.keep(profile, dataset.split_stream, split, keys)
        counts = [int((split == code).sum()) for code in range(3)]
        for name, n in zip(splits.NAMES, counts, strict=True):
            if n == 0:
                raise DataError(f"'{dataset.name}': no row falls into the {name} split ({len(split):,} rows read).")
        counted = split == 0
        if dataset.fit_validation:
            counted |= (split == 1) & (keys["part"] == 0)
        encoders = _Encoders(dataset, _fit(dataset, stage, counted, report))
        if dataset.fitted_apart:
            foreign = keys["part"] == 2
            encoders.set_apart(_fit(dataset, stage, foreign, report), foreign)
        if profile.deduplicated:
            split, counted_copies = duplicates.leave_out(split, lambda: encoders.hashes(stage))
            notes.append(counted_copies)
        if dataset.local_files():
            notes += duplicates.shared_rows(dataset.name, keys["part"], split, duplicates.row_hashes(_batches(stage)))
        encoders.build(stage, split == 0, keys)
        ahead = encoders.look_ahead(stage, keys)
        meta = _write(dataset, stage, split, encoders, scratch, report)
        (scratch / "stage.arrow").unlink()
        meta |= {"dataset": dataset.base_name, "format": FORMAT, "split_rule": dataset.split, "sources": sources}
        meta |= {"split_draw": profile.draw}
        meta |= checks.check(dataset, scratch, meta)
        meta["look_ahead"] = ahead
        meta["warnings"] += history.warnings(ahead, dataset.allow_leaks)
        if dataset.fitted_apart:
            meta["warnings"].append(
                "the test part is encoded by itself: a code may mean another value there than in training (on purpose)."
            )
        scalers = [one for one in encoders.fitted.values() if isinstance(one, Scaler)]
        meta["warnings"] += [
            *encoders.cut_warnings(),
            *encoders.lacking,
            *filter(None, (one.squeezed() for one in scalers)),
            *notes,
        ]
        if dataset.toy:
            meta["warnings"].append(f"a toy: {dataset.toy}.")
        if dataset.complete_rows and profile.first is None and len(split) != dataset.complete_rows:
            share = f"{len(split):,} of {dataset.complete_rows:,} rows"
            meta["warnings"].append(f"incomplete raw files: {share} of the official data were there.")
        meta = json.loads(json.dumps(meta))  # as it will be read
        meta["seal"] = integrity.seal(meta)
        text = json.dumps(meta, indent=1, ensure_ascii=False)
        (scratch / "meta.json").write_text(text, encoding="utf-8")
        try:
            scratch.rename(target)
        except OSError:
            if not (target / "meta.json").is_file():  # else another process was faster; both wrote the same
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _sweep(directory: Path) -> None:
    """Remove what killed processes of this machine left behind."""
    for path in directory.glob(f".encode-{socket.gethostname()}-*"):
        process = path.name.rsplit("-", 2)[1]
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            shutil.rmtree(path, ignore_errors=True)
        except (ValueError, PermissionError):
            pass  # not ours to judge


def _prefix(dataset: Dataset, profile: Profile, files: dict[str, Path], chunk_rows: int) -> Iterator[Chunk] | None:
    """The beginnings of the official parts that a ``first`` profile needs; None if it takes the whole files to tell."""
    parts = dataset.read_parts(files, chunk_rows) if splits.by_prefix(dataset.split, profile) else None
    if parts is None or profile.first is None:
        return None
    limits = splits.prefix_rows(dataset.split, dataset.split_stream, profile.first, [part for part, _ in parts])
    return (
        chunk
        for (_, chunks), limit in zip(parts, limits, strict=True)
        for chunk in (_head(chunks, limit) if limit is not None else _head_of_groups(dataset, chunks, profile.first))
    )


def _head_of_groups(dataset: Dataset, chunks: Iterator[Chunk], first: int) -> Iterator[Chunk]:
    """The rows until ``first`` of them train and a tenth of it validate, where groups decide which does."""
    train, valid = first, max(1, first // 10)
    before = 0
    for chunk in chunks:
        n = len(next(iter(chunk.features.values())))
        if "group" in chunk.keys:
            validates = splits.by_group(dataset.split_stream, {"group": np.asarray(chunk.keys["group"], np.int64)})
        else:  # row by row: the draw of all rows so far, of which these are the last
            drawn = splits.by_group(dataset.split_stream, {"part": np.empty(before + n, np.uint8)})
            validates = drawn[before:]
        enough = (np.cumsum(~validates) >= train) & (np.cumsum(validates) >= valid)
        before += n
        if enough.any():
            yield from _head(iter([chunk]), int(np.argmax(enough)) + 1)
            return
        train -= int((~validates).sum())
        valid -= int(validates.sum())
        yield chunk


def _head(chunks: Iterator[Chunk], rows: int) -> Iterator[Chunk]:
    """The first ``rows`` rows; what comes after them is not read."""
    for chunk in chunks:
        n = len(next(iter(chunk.features.values())))
        if n >= rows:
            yield Chunk(
                {name: column[:rows] for name, column in chunk.features.items()},
                {name: values[:rows] for name, values in chunk.labels.items()},
                chunk.part,
                {name: values[:rows] for name, values in chunk.keys.items()},
                {name: values[:rows] for name, values in chunk.truth.items()},
                chunk.notes,
            )
            return
        rows -= n
        yield chunk


def _stage(
    dataset: Dataset, chunks: Iterator[Chunk], path: Path, needed: frozenset[str], report: Report | None
) -> tuple[Path, dict[str, np.ndarray], list[str]]:
    """All chunks in one Arrow file; the key columns [N] that are ``needed``, in memory; what the reader has to say."""
    keys: dict[str, list[np.ndarray]] = {}
    notes: dict[str, None] = {}
    writer, done = None, 0
    with pa.OSFile(str(path), "wb") as file:
        for chunk in chunks:
            given = [f for f in dataset.features if not f.built]
            columns = {f"x:{f.name}": _arrow(chunk.features[f.name], f, dataset) for f in given}
            for feature in dataset.features:
                if feature.kind == "numeric":
                    finite(columns[f"x:{feature.name}"], feature, dataset.name, done)
            columns |= {
                f"y:{t.name}": to_arrow(chunk.labels[t.name]) for t in dataset.tasks if t.name not in dataset.rarest
            }
            columns |= {f"p:{name}": to_arrow(values) for name, values in chunk.truth.items()}
            if "group" in chunk.keys:
                columns[groups.COLUMN] = to_arrow(np.asarray(chunk.keys["group"], np.int64))
            batch = pa.record_batch(columns)
            if writer is None:
                writer = pa.ipc.new_stream(file, batch.schema)
            writer.write_batch(batch)
            keys.setdefault("part", []).append(np.full(batch.num_rows, chunk.part, np.uint8))
            notes |= dict.fromkeys(chunk.notes)
            for key, values in chunk.keys.items():
                if key in needed:
                    keys.setdefault(key, []).append(np.asarray(values, np.uint8 if key == "listed" else np.int64))
            done += batch.num_rows
            if report:
                report("read rows", done, None)
        if writer is None:
            raise DataError(f"'{dataset.name}': the raw files hold no rows.")
        writer.close()
    return path, {key: np.concatenate(keys.pop(key)) for key in list(keys)}, list(notes)


def _arrow(column: Any, feature: Feature, dataset: Dataset) -> pa.Array:
    array = to_arrow(column) if isinstance(column, np.ndarray) else column
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if feature.kind == "numeric" and not pa.types.is_floating(array.type):
        raise DataError(
            f"'{dataset.name}': numeric feature '{feature.name}' must be read as float64, not {array.type}."
        )
    if feature.kind == "sequence" and not pa.types.is_list(array.type):
        raise DataError(f"'{dataset.name}': sequence '{feature.name}' must be read as lists, not {array.type}.")
    return array


def finite(column: pa.Array, feature: Feature, dataset: str, before: int = 0) -> None:
    """Raises DataError if a number of the column, or its logarithm where that is the input, is infinite or undefined.

    One such cell would stretch the scale until every other value of the feature is the same. ``before`` rows came
    before the column's.
    """
    import pyarrow.compute as pc

    if not pc.all(pc.or_(pc.is_finite(column), pc.is_nan(column)), min_count=0).as_py():
        row = pc.index(pc.is_inf(column), True).as_py()
        raise DataError(f"'{dataset}': numeric feature '{feature.name}' is infinite in row {before + row + 1:,}.")
    if feature.log and pc.any(pc.less_equal(column, -1.0), min_count=0).as_py():
        row = pc.index(pc.less_equal(column, -1.0), True).as_py()
        raise DataError(
            f"'{dataset}': numeric feature '{feature.name}' is {column[row].as_py():g} in row {before + row + 1:,}, "
            "and its input is log(1 + x)."
        )


def _batches(stage: Path) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(stage)) as file, pa.ipc.open_stream(file) as reader:
        yield from reader


def _fit(dataset: Dataset, stage: Path, chosen: np.ndarray, report: Report | None) -> dict[str, Vocabulary | Scaler]:
    """Vocabularies and scalers of the rows where ``chosen`` (bool [N]) is true."""
    fitted: dict[str, Vocabulary | Scaler] = {
        f.name: numbers.encoder(f) if f.kind == "numeric" else Vocabulary(f) for f in dataset.features if not f.shares
    }
    start, draw = 0, Draw(dataset, int(chosen.sum()))
    for batch in _batches(stage):
        mine = chosen[start : start + batch.num_rows]
        start += batch.num_rows
        drawn = draw.of(mine)
        if mine.any():
            for name, one in fitted.items():
                one.count(batch[f"x:{name}"], mine)
                if isinstance(one, Distribution):
                    one.look(batch[f"x:{name}"], drawn)
        if report:
            report("collect values", start, len(chosen))
    for one in fitted.values():
        if isinstance(one, Vocabulary | Distribution):
            one.freeze()
    return fitted


class _Encoders:
    """A dataset's fitted vocabularies and scalers, and which rows are encoded with which."""

    def __init__(self, dataset: Dataset, fitted: dict[str, Any]) -> None:
        self.dataset, self.fitted = dataset, fitted
        self.cut: dict[str, list[int]] = {}  # by multi-valued feature: cells with more values than fit, cells with any
        self.lacking: list[str] = []  # sentences about values without a vector
        self._dims: dict[str, int] = {}
        self._apart: dict[str, Any] = {}
        self._foreign = np.zeros(0, bool)
        self._events: dict[str, history.Events] = {}
        self._keys: dict[str, np.ndarray] = {}

    def set_apart(self, fitted: dict[str, Any], foreign: np.ndarray) -> None:
        """Encode the rows where ``foreign`` (bool [N]) is true with encoders of their own. Raises DataError."""
        for name, one in fitted.items():
            if isinstance(one, Vocabulary) and one.size > self.fitted[name].size:
                raise DataError(
                    f"'{self.dataset.name}': feature '{name}' has more values in the test part ({one.size:,}) than in "
                    f"training ({self.fitted[name].size:,}), so encoders fitted apart give codes that nothing learns."
                )
        # quantiles decide how many columns there are, so they are the training rows' everywhere
        same = {name: self.fitted[name] for name, one in fitted.items() if isinstance(one, Distribution)}
        self._apart, self._foreign = fitted | same, foreign

    def build(self, stage: Path, training: np.ndarray, keys: dict[str, np.ndarray]) -> None:
        """Collect what the sequences are made of that no column holds. Raises DataError."""
        history.check_keys(self.dataset, keys)
        by_name = {feature.name: feature for feature in self.dataset.features}
        tasks = {task.name: task for task in self.dataset.tasks}
        for feature in self.dataset.features:
            if feature.built:

                def parts(source: Feature, when: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
                    start = 0
                    for batch in _batches(stage):
                        n = batch.num_rows
                        label = np.ones(n, np.uint8) if when == "*" else _label(tasks[when], batch, self.dataset)
                        yield self.encode(source, batch, start)[:, 0], label
                        start += n

                self._events[feature.name] = history.collect(
                    feature, parts(by_name[feature.shares], feature.when), training, keys
                )
        self._keys = keys if self._events else {}

    def hashes(self, stage: Path) -> Iterator[np.ndarray]:
        """uint64 hashes of the rows' inputs, part by part; a sequence that is built does not count."""
        start = 0
        for batch in _batches(stage):
            yield duplicates.hashes(self.encode(f, batch, start) for f in self.dataset.features if not f.built)
            start += batch.num_rows

    def look_ahead(self, stage: Path, keys: dict[str, np.ndarray]) -> dict[str, list[int]]:
        """By sequence that is read: [values that the log shows only at the row's time or later, values it shows]."""
        by_name = {feature.name: feature for feature in self.dataset.features}
        read = [f for f in self.dataset.features if f.kind == "sequence" and f.shares and not f.built]
        if not read or any(key not in keys for key in history.KEYS):
            return {}
        looks = [history.LookAhead(feature) for feature in read]
        chosen, start = history.some_groups(keys["group"]), 0
        for batch in _batches(stage):
            rows = slice(start, start + batch.num_rows)
            mine = chosen[rows]
            group, time = (keys[key][rows][mine] for key in history.KEYS)
            for look in looks if mine.any() else ():
                code = self.encode(by_name[look.feature.shares], batch, start)[mine, 0]
                values = self.encode(look.feature, batch, start)[mine]
                look.add(group, time, code, values, self.vocabulary(look.feature).size)
            start += batch.num_rows
        return {look.feature.name: list(look.found(self.vocabulary(look.feature).unseen)) for look in looks}

    def vocabulary(self, feature: Feature) -> Vocabulary:
        """What the codes of a categorical feature or a sequence mean."""
        return self.fitted[feature.shares or feature.name]

    def encode(self, feature: Feature, batch: pa.RecordBatch, start: int) -> np.ndarray:
        """Codes int32 [n, length] or numbers float32 [n, 1] of one feature of the rows from ``start`` on."""
        out = self._encode(self.fitted, feature, batch, start)
        if self._apart and not feature.built:
            foreign = self._foreign[start : start + batch.num_rows]
            apart = self._encode(self._apart, feature, batch, start)
            if feature.kind == "sequence":  # both vocabularies mark an empty place by their own size
                apart[apart == self._apart[feature.shares or feature.name].size] = self.vocabulary(feature).size
            out[foreign] = apart[foreign]
        return out

    def _encode(self, fitted: dict[str, Any], feature: Feature, batch: pa.RecordBatch, start: int) -> np.ndarray:
        n = batch.num_rows
        if feature.built:
            rows = slice(start, start + n)
            group, time = (self._keys[key][rows] for key in history.KEYS)
            return self._events[feature.name].before(feature, group, time, self.vocabulary(feature).size)[0]
        column = batch[f"x:{feature.name}"]
        if feature.kind == "sequence":
            return fitted[feature.shares or feature.name].encode_sequence(column, feature)
        return fitted[feature.name].encode(column).reshape(n, -1)

    def vectors(self, feature: Feature) -> np.ndarray:
        """Embeddings from elsewhere, float32 [size, d] by code. Raises DataError."""
        table, said = vectors.aligned(feature, self.fitted[feature.name])
        if feature.dim and feature.dim != table.shape[1]:
            raise DataError(f"{feature.vectors}: vectors of size {table.shape[1]}, and dim says {feature.dim}.")
        self._dims[feature.name] = table.shape[1]
        self.lacking += [said] if said else []
        return table

    def embedding(self, feature: Feature) -> dict[str, Any]:
        """What meta.json says of a feature's embeddings, where they are its own."""
        if feature.vectors:
            return {"dim": self._dims[feature.name], "vectors": True, "frozen": feature.frozen}
        return {"dim": feature.dim} if feature.dim else {}

    def count_cut(self, feature: Feature, batch: pa.RecordBatch) -> None:
        """Note how many cells of a multi-valued column hold more values than are kept."""
        if not feature.built and pa.types.is_list(batch.schema.field(f"x:{feature.name}").type):
            tally = self.cut.setdefault(feature.name, [0, 0])
            for place, n in enumerate(cells(batch[f"x:{feature.name}"], feature.length)):
                tally[place] += n

    def cut_warnings(self) -> list[str]:
        """A sentence for each feature with cells whose values do not all fit."""
        by_name = {feature.name: feature for feature in self.dataset.features}
        return [
            f"feature '{name}': {more / filled:.1%} of the cells ({more:,} of {filled:,}) hold more than "
            f"{by_name[name].length} values; the {by_name[name].keep} {by_name[name].length} are kept."
            for name, (more, filled) in self.cut.items()
            if more
        ]


def _write(
    dataset: Dataset,
    stage: Path,
    split: np.ndarray,
    encoders: _Encoders,
    scratch: Path,
    report: Report | None,
) -> dict[str, Any]:
    categorical = [f for f in dataset.features if f.kind == "categorical"]
    numeric = [f for f in dataset.features if f.kind == "numeric"]
    sequences = [f for f in dataset.features if f.kind == "sequence"]
    fitted, start = encoders.fitted, 0
    record = record_type(categorical, {f.name: fitted[f.name].size - 1 for f in categorical})
    ordered = record_type(sequences, {f.name: encoders.vocabulary(f).size for f in sequences}, rows_of_one=True)
    outputs = [Output(scratch, name, int((split == code).sum())) for code, name in enumerate(splits.NAMES)]
    group_ids = groups.Groups()
    for batch in _batches(stage):
        part = split[start : start + batch.num_rows]
        blocks = [encoders.encode(f, batch, start) for f in categorical]
        codes = np.concatenate(blocks, 1) if blocks else np.zeros((batch.num_rows, 0), np.int32)
        scales = [encoders.encode(f, batch, start) for f in numeric]
        scaled = np.concatenate(scales, 1) if scales else np.zeros((batch.num_rows, 0), np.float32)
        steps = [encoders.encode(f, batch, start) for f in sequences]
        for feature in (*categorical, *sequences):
            encoders.count_cut(feature, batch)
        start += batch.num_rows
        labels = {task.name: _label(task, batch, dataset) for task in dataset.tasks if task.name not in dataset.rarest}
        for task_name, feature_name in dataset.rarest.items():
            own = blocks[[f.name for f in categorical].index(feature_name)][:, 0]
            labels[task_name] = (own != fitted[feature_name].rarest[0]).astype(np.uint8)
        truth = {name[2:]: to_numpy(batch[name]) for name in batch.schema.names if name.startswith("p:")}
        for code, output in enumerate(outputs):
            rows = np.flatnonzero(part == code)
            group_ids.add(code, batch, rows)
            output.append("codes", narrow(codes[rows], record), codes[rows], "categorical")
            if sequences:
                places = np.concatenate([step[rows] for step in steps], 1)
                output.append("sequences", narrow(places, ordered), places)
            output.append("numeric", scaled[rows])
            for name, values in labels.items():
                output.append(f"label.{name}", values[rows])
            for name, values in truth.items():
                output.append(f"truth.{name}", values[rows].astype(np.float64))
        if report:
            report("write arrays", start, len(split))
    digests: dict[str, str] = {}
    files: dict[str, Any] = {}
    for output in outputs:
        values, hashes = output.close()  # type: ignore[assignment]  # digests by name, above an array
        digests |= values
        files |= hashes
    for feature in categorical:
        if feature.vectors:
            file, table = f"vectors.{feature.name}.npy", encoders.vectors(feature)
            np.save(scratch / file, table)
            files[file] = integrity.of_file(scratch / file)
            digests[f"vectors.{feature.name}"] = hashlib.blake2b(table.data, digest_size=16).hexdigest()
    files |= {name: integrity.of_file(scratch / name) for name in _write_vocabularies(scratch, fitted)}
    files |= group_ids.write(scratch)
    return {
        "rows": {name: int((split == code).sum()) for code, name in enumerate(splits.NAMES)},
        "rows_read": len(split),
        "categorical": [
            {
                "name": f.name,
                "size": fitted[f.name].size,
                "reserved": f.reserved,
                "length": f.length,
                "rare_values": fitted[f.name].rare,
            }
            | encoders.embedding(f)
            for f in categorical
        ],
        "sequences": [
            {
                "name": f.name,
                "size": encoders.vocabulary(f).size,
                "reserved": encoders.vocabulary(f).feature.reserved,
                "length": f.length,
                "shares": f.shares,
                "anchor": f.keep,
            }
            for f in sequences
        ],
        "cut": {name: {"cells": filled, "cut": more} for name, (more, filled) in encoders.cut.items()},
        "numeric": [entry for f in numeric for entry in numbers.columns(f, fitted[f.name])],
        "labels": {task.name: "float32" if task.kind == "regression" else "uint8" for task in dataset.tasks},
        "rarest": {task: fitted[feature].rarest[1] for task, feature in dataset.rarest.items()},
        "values": digests,
        "files": files,
        "fingerprint": _fingerprint(dataset, digests, fitted),
    }


def _label(task: Any, batch: pa.RecordBatch, dataset: Dataset) -> np.ndarray:
    values = to_numpy(batch[f"y:{task.name}"])
    if task.kind == "regression":
        return values.astype(np.float32)
    if values.dtype != np.uint8 or np.any((values > 1) & (values != UNDEFINED)):
        bad = values[(values > 1) & (values != UNDEFINED)][:1]
        raise DataError(f"'{dataset.name}': label '{task.name}' must be 0, 1 or {UNDEFINED} (undefined), got {bad}.")
    if task.space is not None:
        inside = to_numpy(batch[f"y:{task.space}"]) == 1
        values = np.where(inside, values, np.uint8(UNDEFINED))
    return values


def _write_vocabularies(scratch: Path, fitted: dict[str, Any]) -> list[str]:
    """Write the values behind the codes; returns the files' names."""
    texts, written = {}, ["vocabulary.json"]
    for name, one in fitted.items():
        if isinstance(one, Vocabulary):
            if one.values.dtype == object:  # type: ignore[union-attr]  # fitted, so there
                texts[name] = one.values.tolist()  # type: ignore[union-attr]
            else:
                written.append(f"vocabulary.{name}.npy")
                np.save(scratch / written[-1], one.values)  # type: ignore[arg-type]
    (scratch / "vocabulary.json").write_text(json.dumps(texts, ensure_ascii=False, indent=0), encoding="utf-8")
    return written


def _fingerprint(dataset: Dataset, digests: dict[str, str], fitted: dict[str, Any]) -> str:
    """32 hex digits of what a model sees: every array's hash, and the names, sizes and tasks that give them meaning.

    It changes exactly when raw content, code or configuration change the data, and not with a comment. The truth of
    generated data is left out: no model sees it, and its last bits depend on the processor's exponential function.
    """
    sizes: list[tuple[Any, ...]] = []
    for f in dataset.features:
        meaning: tuple[Any, ...] = (f.shares, f.keep) if f.kind == "sequence" else ()
        meaning += ("dim", f.dim, f.frozen) if f.dim or f.vectors else ()
        size = getattr(fitted[f.shares or f.name], "size", 0)
        sizes.append((f.name, f.kind, f.reserved, f.length, size, *meaning))
    tasks = [(t.name, t.kind, t.space, t.excludes) for t in dataset.tasks]
    seen = {name: digest for name, digest in digests.items() if ".truth." not in name}
    text = json.dumps([CONTENT, dataset.base_name, sizes, tasks, sorted(seen.items())])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
