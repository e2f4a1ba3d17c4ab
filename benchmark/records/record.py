"""The run record: one validated JSON file per run, the only thing that tables and figures read.

A record that exists is complete: it is written beside its place, flushed and renamed. Undefined numbers are null
with a reason. Field names carry their units. This module imports neither torch nor numpy.
"""

from __future__ import annotations

import base64
import json
import math
import struct
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from benchmark.core.canonical import short_hash
from benchmark.core.errors import BenchmarkError
from benchmark.core.files import read_regular, write_atomically

SCHEMA_VERSION = 1
RECORD_FILE = "record.json"

Status = Literal["ok", "failed", "oom", "timeout", "skipped", "interrupted"]


LARGEST = 1e18
"""No number of a record is as large: beyond it products overflow, and one record would spoil every table."""

Amount = Annotated[float, Field(ge=0, le=LARGEST)]
Count = Annotated[int, Field(ge=0, le=int(LARGEST))]
Difference = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]

POSSIBLE = {
    "auc": (0.0, 1.0),
    "pr_auc": (0.0, 1.0),
    "calibration_error": (0.0, 1.0),
    "log_loss": (0.0, LARGEST),
    "normalised_entropy": (0.0, LARGEST),
    "rmse": (0.0, LARGEST),
    "mae": (0.0, LARGEST),
    "r2": (-LARGEST, 1.0),
    "spearman": (-1.0, 1.0),
    **dict.fromkeys(("gauc", "uauc", "ndcg@10", "hr@10", "mrr"), (0.0, 1.0)),
}
"""Smallest and largest value that a metric can take."""


def _checked(metrics: dict[str, float | None]) -> dict[str, float | None]:
    for name, value in metrics.items():
        low, high = POSSIBLE.get(name, (-LARGEST, LARGEST))
        if value is not None and not low <= value <= high:
            raise ValueError(f"{name} is {value:g}, which no {name} can be ({low:g} to {high:g})")
    return metrics


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    later: ClassVar[frozenset[str]] = frozenset()
    """Fields that joined after the first records were written. Unset they are left out: an old record's text, and
    so its hash, stays what it was."""

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in write(self).items() if value is not None or name not in self.later}


class Key(_Part):
    """What was run. Everything that names the run; `run_id` is its hash (without the data's fingerprint).

    ``arm`` is "stage0" (old tasks, shared by the arms), "joint", "frozen", "finetune", "scratch" (one single-task
    model) or an arm added later, ``arm_config`` its resolved options. ``tasks`` are the tasks trained in this run,
    ``old_tasks`` and ``new_tasks`` the partition it belongs to, which also decides the inputs. ``stage`` is 0 for runs
    that only see old tasks, else 1. ``scored`` is "test", or "validation" for a trial that never sees test rows.
    ``chain`` holds the new tasks taken in so far, in their order, where they arrive one after another: the last of them
    is the one that this run brings in, ``stage`` is their number, and ``new_tasks`` are all that will ever come. Empty:
    all new tasks arrive together. ``track`` is "published" where configs are the methods' own and the suite's, "tuned"
    where a search with equal trials chose them, "equal" where one with equal passes over the rows chose them for every
    method and arm: runs of different tracks are never compared. ``search_passes``: the passes that the search for this
    method and arm took (0: no search).
    """

    dataset: str
    split: str = "default"
    old_tasks: list[str]
    new_tasks: list[str]
    tasks: list[str]
    method: str
    config: dict[str, Any]
    arm: str
    stage: int
    budget: dict[str, Any]
    selection: str
    seed: int
    arm_config: dict[str, Any] = Field(default_factory=dict)
    scored: Literal["test", "validation"] = "test"
    chain: list[str] = Field(default_factory=list)
    track: Literal["published", "tuned", "equal"] = "published"
    search_passes: float = Field(0.0, ge=0)


ADDED_LATER = {"arm_config": {}, "scored": "test", "chain": [], "track": "published", "search_passes": 0.0}
"""Fields of a key that older records lack, with the value that they mean by it: such a value stays out of the run's
name, so that a record keeps its name when the schema grows."""


ROW_BUCKETS = 512


class RowNoise(_Part):
    """How much the test rows move the primary score, folded; see `benchmark.records.row_noise`.

    ``labels`` is a fingerprint of the labels in test order: only runs with the same one are compared row by row.
    ``sketch`` holds 512 little-endian half-precision numbers in base64, to be multiplied by ``scale``.
    """

    labels: str
    scale: float = Field(ge=0, lt=LARGEST)
    sketch: str

    @field_validator("sketch")
    @classmethod
    def _complete(cls, sketch: str) -> str:
        packed = base64.b64decode(sketch, validate=True)
        if len(packed) != 2 * ROW_BUCKETS:
            raise ValueError(f"holds {len(packed)} bytes, not {2 * ROW_BUCKETS}")
        if not all(map(math.isfinite, struct.unpack(f"<{ROW_BUCKETS}e", packed))):
            raise ValueError("holds a number that is not finite")
        return sketch


class UserNoise(_Part):
    """The users behind the metrics per user (gauc, uauc, ndcg@10, hr@10, mrr).

    ``scored`` have test rows of both classes; ``excluded`` do not and enter no such metric. ``noise``: by metric, how
    much the users move it; its ``labels`` is a fingerprint of the labels and the users in test order.
    """

    scored: Count
    excluded: Count
    noise: dict[str, RowNoise] = Field(default_factory=dict)


class TaskScores(_Part):
    """Test scores of one task. A metric that is undefined is null and ``reasons`` says why (e.g. "one class").

    ``rows``: the noise of the test rows in the primary metric. ``users``: of a binary task whose rows have users.
    """

    later = frozenset({"rows", "users"})

    n: Count
    positives: Count | None = None
    metrics: dict[str, float | None]
    reasons: dict[str, str] = Field(default_factory=dict)
    auc_standard_error: Amount | None = None
    rows: RowNoise | None = None
    users: UserNoise | None = None

    @field_validator("metrics")
    @classmethod
    def _possible(cls, metrics: dict[str, float | None]) -> dict[str, float | None]:
        return _checked(metrics)

    @model_validator(mode="after")
    def _consistent(self) -> TaskScores:
        if self.positives is not None and self.positives > self.n:
            raise ValueError(f"{self.positives} positives among {self.n} rows")
        if self.n == 0 and any(value is not None for value in self.metrics.values()):
            raise ValueError("scores of no rows")
        return self


class TaskEpoch(_Part):
    """Test scores of a task that is served by its own best validation ``epoch``, not by the best one for all tasks."""

    epoch: Count
    scores: TaskScores


class Epoch(_Part):
    """One line of the learning curve. ``loss`` holds the epoch's mean of each named term."""

    epoch: Count
    loss: dict[str, float]
    validation: dict[str, dict[str, float | None]]
    selection: float | None
    train_seconds: Amount
    validate_seconds: Amount

    @field_validator("validation")
    @classmethod
    def _possible(cls, validation: dict[str, dict[str, float | None]]) -> dict[str, dict[str, float | None]]:
        return {task: _checked(metrics) for task, metrics in validation.items()}


class Selection(_Part):
    """Which epoch's weights were kept, by which rule, on validation rows only."""

    rule: str
    epoch: Count
    score: float | None
    epochs_run: Count
    reason: str | None = None


class Parameters(_Part):
    """Counts without the embedding rows that the encoder reserves; those are in ``reserved``.

    ``paper_trainable`` is the count by the MPT-Rec paper's convention (methods.MethodInfo.paper_counts).
    """

    total: Count
    trainable: Count
    by_role: dict[str, Count]
    trainable_by_role: dict[str, Count]
    reserved: Count
    paper_trainable: Count | None = None


class Flops(_Part):
    """Floating-point operations per example of the matrix products (2 per multiply-accumulate).

    ``forward`` and ``training_step`` count everything the model computes for a row; the ``_new`` pair leaves out what
    a frozen backbone computes once (null where nothing is frozen).
    """

    forward: Amount
    training_step: Amount
    forward_new: Amount | None = None
    training_step_new: Amount | None = None


class Serving(_Part):
    """What it takes to predict ``tasks`` tasks with a trained model.

    ``weights``: numbers that have to be stored, parameters and saved buffers, without reserved embedding rows;
    ``flops``: operations per row for all tasks, as in `Flops`. The ``_added`` pair is what one new task adds to that of
    the model before it came, so n of them take n times as much (null where no task was taken in).
    """

    tasks: Count
    weights: Count
    flops: Amount
    weights_added: Difference | None = None
    flops_added: Difference | None = None


class Seconds(_Part):
    """Wall-clock by phase. ``to_best_epoch`` counts training and validation up to the kept epoch.

    ``cpu``: processor seconds of the run's process from its first rows to its predictions, all threads together;
    waiting is not in them. None for a run that was resumed, since another process has done a part of it.
    """

    later = frozenset({"cpu"})

    # "validate" is the phase's name in the file; as an attribute it would hide a method of the base class.
    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    load: Amount
    build: Amount
    cache: Amount
    train: Amount
    validation: Amount = Field(alias="validate")
    predict: Amount
    total: Amount
    to_best_epoch: Amount
    cpu: Amount | None = None


class Provenance(_Part):
    """Where the numbers come from.

    ``data_code`` is the fingerprint of the code that turned raw files into arrays; ``attempts`` is there where a run
    was lost by no fault of its own (a signal from outside) and started again; ``worker`` and ``host`` where it was done
    by a cluster. ``bits_kind`` and ``times_kind`` say, in words, between which runs bits and times compare;
    ``numerics`` is the numeric mode that was in force (`benchmark.core.numerics`). Older records lack these three:
    their kinds are unknown. ``kernel_milliseconds`` is what the calibration step number ``kernel`` took just before the
    run (`benchmark.execution.calibration`), ``times_version`` the harness' version as far as times go.
    """

    later = frozenset(
        {"data_code", "attempts", "worker", "host", "bits_kind", "times_kind", "numerics"}
        | {"kernel", "kernel_milliseconds", "times_version"}
    )

    commit: str | None
    dirty: bool | None
    code_fingerprint: str
    data_fingerprint: str
    data_code: str | None = None
    packages: dict[str, str]
    python: str
    machine: str
    bits_kind: str | None = None
    times_kind: str | None = None
    numerics: str | None = None
    times_version: int | None = None
    kernel: int | None = None
    kernel_milliseconds: Amount | None = None
    cpu: str
    gpu: str | None
    device: str
    threads: int = Field(ge=1, le=4096)
    jobs: int = Field(ge=1)
    deterministic: bool
    flush_denormal: bool
    command: str
    started: str
    attempts: int | None = None
    worker: str | None = None
    host: str | None = None


class Measured(_Part):
    """All that a run measured. Null or empty when it did not end well.

    ``by_task_epoch``: of a run in which several tasks choose the epoch, what each task scores at its own best one; then
    as many models have to be stored as there are different epochs.
    """

    later = frozenset({"serving", "by_task_epoch"})

    scores: dict[str, TaskScores] = Field(default_factory=dict)
    by_task_epoch: dict[str, TaskEpoch] | None = None
    curve: list[Epoch] = Field(default_factory=list)
    selection: Selection | None = None
    params: Parameters | None = None
    flops: Flops | None = None
    serving: Serving | None = None
    seconds: Seconds | None = None
    rows_per_second: Amount | None = None
    train_rows: Count | None = None
    peak_memory_bytes: Count | None = None
    peak_gpu_memory_bytes: Count | None = None
    invariants: dict[str, bool] = Field(default_factory=dict)
    weights_fingerprint: str | None = None
    warnings: list[str] = Field(default_factory=list)
    diagnostics: dict[str, Any] = Field(default_factory=dict)


class Ending(_Part):
    """What was run and how it ended."""

    schema_version: int = SCHEMA_VERSION
    run_id: str
    key: Key
    status: Status
    reason: str | None = None
    log_tail: list[str] = Field(default_factory=list)
    parent: str | None = None


class Record(Measured, Ending):  # the fields of the last base come first in the file
    """One run: what it was, how it ended, what it measured, and where the numbers come from."""

    provenance: Provenance | None = None


class DamagedRecord(BenchmarkError):
    """The file is no valid record; the message names the file and the first thing wrong with it."""


def run_id(key: Key) -> str:
    """16 hex digits that name the run: the hash of its key in canonical JSON."""
    content = {name: value for name, value in key.model_dump().items() if ADDED_LATER.get(name, ...) != value}
    return short_hash(content)


def run_directory(out: Path, key: Key) -> Path:
    """Where a run lives; the one function that the writer, the reader and the resume check use."""
    return out / "runs" / key.dataset / key.method / key.arm / run_id(key)


def write_record(directory: Path, record: Record) -> Path:
    """Write ``directory/record.json`` atomically, with a checksum of its content; returns its path."""
    path = directory / RECORD_FILE
    content = json.loads(record.model_dump_json())
    write_atomically(path, laid_out(content | {"checksum": _checksum(content)}) + "\n")
    return path


LINE = 300
"""What fits in so many characters stands on one line of a record: an epoch, a task's metrics, the config."""


def laid_out(value: object, depth: int = 0) -> str:
    """JSON that people read and compare line by line, and that a thousand records of keep small: indented, but for
    what fits on a line."""
    flat = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or len(flat) <= LINE:
        return flat
    inner = depth + 1
    if isinstance(value, dict):
        parts = [f"{json.dumps(name, ensure_ascii=False)}: {laid_out(part, inner)}" for name, part in value.items()]
    else:
        parts = [laid_out(part, inner) for part in value]
    start, end = "{}" if isinstance(value, dict) else "[]"
    lines = ",".join(f"\n{' ' * inner}{part}" for part in parts)
    return f"{start}{lines}\n{' ' * depth}{end}"


def read_record(path: Path) -> Record:
    """Read and validate one record; raises DamagedRecord."""
    try:
        data = read_regular(path)
    except OSError as error:
        raise DamagedRecord(f"{path}: not a record: {error}") from error
    return parsed(data, str(path))


def parsed(data: bytes, place: str) -> Record:
    """The record that ``data`` is the JSON of. Raises DamagedRecord, whose message begins with ``place``."""
    try:
        content = _migrate(json.loads(data))
        recorded = content.pop("checksum", None)  # records of the first days have none
        record = Record.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise DamagedRecord(f"{place}: field '{field}': {first['msg']}") from error
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise DamagedRecord(f"{place}: not a record: {error}") from error
    if recorded is not None and recorded != _checksum(content):
        raise DamagedRecord(f"{place}: its content is not what was written (checksum differs)")
    if record.run_id != run_id(record.key):
        raise DamagedRecord(f"{place}: run_id {record.run_id!r} is not that of its key")
    return record


def _checksum(content: dict[str, Any]) -> str:
    """Of a record as plain data: layout and the order of keys do not count."""
    return short_hash(content)


def _migrate(content: dict[str, Any]) -> dict[str, Any]:
    """Bring an older schema version up to date. Version 1 is the first."""
    version = content.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ValueError(f"schema_version {version!r}, this program reads up to {SCHEMA_VERSION}")
    return content
