"""The run record: one validated JSON file per run, the only thing that tables and figures read.

A record that exists is complete: it is written beside its place, flushed and renamed. Undefined numbers are null
with a reason. Field names carry their units. This module imports neither torch nor numpy.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from benchmark.core.errors import BenchmarkError
from benchmark.core.files import write_atomically

SCHEMA_VERSION = 1

Status = Literal["ok", "failed", "oom", "timeout", "skipped", "interrupted"]


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
    where an equal search chose them: runs of the two are never compared.
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
    track: Literal["published", "tuned"] = "published"


ADDED_LATER = {"arm_config": {}, "scored": "test", "chain": [], "track": "published"}
"""Fields of a key that older records lack, with the value that they mean by it: such a value stays out of the run's
name, so that a record keeps its name when the schema grows."""


class TaskScores(_Part):
    """Test scores of one task. A metric that is undefined is null and ``reasons`` says why (e.g. "one class")."""

    n: int
    positives: int | None = None
    metrics: dict[str, float | None]
    reasons: dict[str, str] = Field(default_factory=dict)
    auc_standard_error: float | None = None


class Epoch(_Part):
    """One line of the learning curve. ``loss`` holds the epoch's mean of each named term."""

    epoch: int
    loss: dict[str, float]
    validation: dict[str, dict[str, float | None]]
    selection: float | None
    train_seconds: float
    validate_seconds: float


class Selection(_Part):
    """Which epoch's weights were kept, by which rule, on validation rows only."""

    rule: str
    epoch: int
    score: float | None
    epochs_run: int
    reason: str | None = None


class Parameters(_Part):
    """Counts without the embedding rows that the encoder reserves; those are in ``reserved``.

    ``paper_trainable`` is the count by the MPT-Rec paper's convention (methods.MethodInfo.paper_counts).
    """

    total: int
    trainable: int
    by_role: dict[str, int]
    trainable_by_role: dict[str, int]
    reserved: int
    paper_trainable: int | None = None


class Flops(_Part):
    """Floating-point operations per example of the matrix products (2 per multiply-accumulate).

    ``forward`` and ``training_step`` count everything the model computes for a row; the ``_new`` pair leaves out what
    a frozen backbone computes once (null where nothing is frozen).
    """

    forward: float
    training_step: float
    forward_new: float | None = None
    training_step_new: float | None = None


class Serving(_Part):
    """What it takes to predict ``tasks`` tasks with a trained model.

    ``weights``: numbers that have to be stored, parameters and saved buffers, without reserved embedding rows;
    ``flops``: operations per row for all tasks, as in `Flops`. The ``_added`` pair is what one new task adds to that of
    the model before it came, so n of them take n times as much (null where no task was taken in).
    """

    tasks: int
    weights: int
    flops: float
    weights_added: float | None = None
    flops_added: float | None = None


class Seconds(_Part):
    """Wall-clock by phase. ``to_best_epoch`` counts training and validation up to the kept epoch."""

    # "validate" is the phase's name in the file; as an attribute it would hide a method of the base class.
    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    load: float
    build: float
    cache: float
    train: float
    validation: float = Field(alias="validate")
    predict: float
    total: float
    to_best_epoch: float


class Provenance(_Part):
    """Where the numbers come from.

    ``data_code`` is the fingerprint of the code that turned raw files into arrays; ``attempts`` is there where a run
    was lost by no fault of its own (a signal from outside) and started again; ``worker`` and ``host`` where it was done
    by a cluster.
    """

    later = frozenset({"data_code", "attempts", "worker", "host"})

    commit: str | None
    dirty: bool | None
    code_fingerprint: str
    data_fingerprint: str
    data_code: str | None = None
    packages: dict[str, str]
    python: str
    machine: str
    cpu: str
    gpu: str | None
    device: str
    threads: int
    jobs: int
    deterministic: bool
    flush_denormal: bool
    command: str
    started: str
    attempts: int | None = None
    worker: str | None = None
    host: str | None = None


class Measured(_Part):
    """All that a run measured. Null or empty when it did not end well."""

    later = frozenset({"serving"})

    scores: dict[str, TaskScores] = Field(default_factory=dict)
    curve: list[Epoch] = Field(default_factory=list)
    selection: Selection | None = None
    params: Parameters | None = None
    flops: Flops | None = None
    serving: Serving | None = None
    seconds: Seconds | None = None
    rows_per_second: float | None = None
    train_rows: int | None = None
    peak_memory_bytes: int | None = None
    peak_gpu_memory_bytes: int | None = None
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
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def run_directory(out: Path, key: Key) -> Path:
    """Where a run lives; the one function that the writer, the reader and the resume check use."""
    return out / "runs" / key.dataset / key.method / key.arm / run_id(key)


def write_record(directory: Path, record: Record) -> Path:
    """Write ``directory/record.json`` atomically, with a checksum of its content; returns its path."""
    path = directory / "record.json"
    content = json.loads(record.model_dump_json())
    write_atomically(path, json.dumps(content | {"checksum": _checksum(content)}, indent=1, ensure_ascii=False) + "\n")
    return path


def read_record(path: Path) -> Record:
    """Read and validate one record; raises DamagedRecord."""
    try:
        content = _migrate(json.loads(path.read_bytes()))
        recorded = content.pop("checksum", None)  # records of the first days have none
        record = Record.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DamagedRecord(f"{path}: field '{place}': {first['msg']}") from error
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedRecord(f"{path}: not a record: {error}") from error
    if recorded is not None and recorded != _checksum(content):
        raise DamagedRecord(f"{path}: its content is not what was written (checksum differs)")
    if record.run_id != run_id(record.key):
        raise DamagedRecord(f"{path}: run_id {record.run_id!r} is not that of its key")
    return record


def read_records(out: Path) -> tuple[list[Record], list[str]]:
    """All records of a result tree in a fixed order, and what is wrong with those that cannot be read."""
    records, problems = [], []
    for path in sorted((out / "runs").glob("*/*/*/*/record.json")):
        try:
            record = read_record(path)
            if path.parent != run_directory(out, record.key):  # a copy would count twice
                raise DamagedRecord(f"{path}: the record of {run_directory(out, record.key)} in another run's place")
            records.append(record)
        except DamagedRecord as error:
            problems.append(str(error))
    return records, problems


def _checksum(content: dict[str, Any]) -> str:
    """Of a record as plain data: layout and the order of keys do not count."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _migrate(content: dict[str, Any]) -> dict[str, Any]:
    """Bring an older schema version up to date. Version 1 is the first."""
    version = content.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ValueError(f"schema_version {version!r}, this program reads up to {SCHEMA_VERSION}")
    return content
