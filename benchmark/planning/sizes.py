"""How much of a method the frozen arm trains, counted on models that are built and thrown away.

The schema has the shape of Census-Income's, so that the figures can be compared with published ones without any data at
hand. They are kept in the cache: only the first listing after a change has to import torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmark.core.files import write_atomically
from benchmark.core.registry import where
from benchmark.spec.arms import ARMS
from datasets_registry.raw import paths as places
from datasets_registry.schema import CategoricalFeature, Schema, Task
from methods import METHODS, MethodInfo

DATASET, OLD_TASKS, NEW_TASK = "census_income", ("income", "marital"), "education"
EMBEDDING_ROWS, CATEGORICAL, NUMERIC = 471, 28, 11
FROZEN = "frozen"
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Size:
    """Parameters that the frozen arm trains for one new task, and those of the joint model of all tasks."""

    trained: int
    joint: int

    @property
    def share(self) -> float:
        return self.trained / self.joint


def sizes(infos: Iterable[MethodInfo]) -> dict[str, Size | str]:
    """By method: its size, or why it cannot be built. Methods without a frozen arm are left out."""
    cache = places.cache_root() / "method-sizes.json"
    kept = _read(cache)
    found: dict[str, Size | str] = {}
    entries = {}
    for info in infos:
        if FROZEN not in info.arms:
            continue
        own_code = code(Path(info.file or METHODS.file(info.name)))
        entry = kept.get(info.name, {})
        try:
            found[info.name] = size = Size(**entry["size"]) if entry.get("code") == own_code else _count(info.name)
            entries[info.name] = {"code": own_code, "size": asdict(size)}
        except Exception as error:  # a method's own code may raise anything; a listing goes on without it
            found[info.name] = where(error)
    if any(kept.get(name) != entry for name, entry in entries.items()):
        with contextlib.suppress(OSError):  # a listing needs no cache that can be written
            write_atomically(cache, json.dumps(kept | entries, indent=1) + "\n")
    return found


def census_schema() -> Schema:
    """Inputs in the number of Census-Income's; which feature has which rows does not change a count."""
    first = CategoricalFeature("f0", EMBEDDING_ROWS - CATEGORICAL + 1)
    others = (CategoricalFeature(f"f{i}", 1) for i in range(1, CATEGORICAL))
    return Schema((first, *others), tuple(f"n{i}" for i in range(NUMERIC)))


def _count(method: str) -> Size:
    """Models of this shape are small: to allocate them costs a tenth of the first use of torch's meta device."""
    model_class = METHODS.get(method)
    schema, old, new = census_schema(), [Task(name) for name in OLD_TASKS], Task(NEW_TASK)
    config = model_class.Config(**model_class.info.presets.get(DATASET, {}))
    joint = model_class(schema, [*old, new], config)
    trained = ARMS[FROZEN].take_in(model_class(schema, old, config), [new])
    return Size(sum(p.numel() for p in trained), sum(p.numel() for p in joint.parameters()))


def code(file: Path) -> str:
    """Hash of what can change a count or a step's seconds. Bytes, unlike the code fingerprint of records: parsing costs
    more than it saves, and a method may use any module beside it."""
    digest = hashlib.blake2b(digest_size=8)
    for path in (Path(__file__), ROOT / "benchmark/spec/arms.py", *sorted((ROOT / "methods").glob("*.*")), file):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _read(cache: Path) -> dict[str, dict]:
    try:
        content = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
