"""What it takes to encode rows with a sequence of 50, by the number of rows.

``python -m tests.benchmarks.sequence_memory ROWS read|built CACHE_DIR`` prints JSON. Made-up rows of 2 million items
and a user for every hundred rows. "read": every row brings a list of up to 60 items; "built": the encoder makes the
sequence of earlier clicks, a third of the rows. Own memory is anonymous pages (tests/datasets_registry/measured.py).
"""

import json
import resource
import sys
import threading
import time

import numpy as np
import pyarrow as pa

from datasets_registry import prepare
from datasets_registry.base import Chunk, Dataset, Feature
from datasets_registry.encoding.vocabulary import to_arrow
from datasets_registry.schema import Task
from tests.datasets_registry.measured import watch

ITEMS, LENGTH, BLOCK = 2_000_000, 50, 1 << 17


class Log(Dataset):
    """Rows in the order of time, made block by block."""

    def read(self, files, chunk_rows):
        rows, built = self.complete_rows, any(feature.built for feature in self.features)
        for start in range(0, rows, BLOCK):
            n = min(BLOCK, rows - start)
            draw = np.random.default_rng(start)
            features = {"item": draw.integers(1, ITEMS, n), "price": draw.random(n)}
            if not built:
                ends = np.concatenate([[0], np.cumsum(draw.integers(0, 61, n))]).astype(np.int32)
                items = to_arrow(draw.integers(1, ITEMS, ends[-1]))
                features["history"] = pa.ListArray.from_arrays(to_arrow(ends), items)
            labels = {name: (draw.random(n) < 0.33).astype(np.uint8) for name in ("click", "buy")}
            keys = {"time": np.arange(start, start + n), "group": draw.integers(0, max(rows // 100, 1), n)}
            yield Chunk(features, labels, keys=keys)


def main(rows, kind, cache_dir):
    when = {"read": "", "built": "click"}[kind]
    dataset = Log(
        name="sequence_memory",
        title="made up",
        tasks=(Task("click"), Task("buy")),
        old_tasks=("click",),
        new_tasks=("buy",),
        features=(
            Feature("item"),
            Feature("price", "numeric", scale="quantile"),
            Feature("history", "sequence", length=LENGTH, shares="item", when=when),
        ),
        split="time",
        splits=("time",),
        complete_rows=int(rows),
    )
    seen, stop = [0], threading.Event()
    threading.Thread(target=watch, args=(seen, stop), daemon=True).start()
    start = time.perf_counter()
    data = prepare(dataset, cache_dir=cache_dir)
    seconds = time.perf_counter() - start
    stop.set()
    size = sum(path.stat().st_size for path in data.directory.iterdir())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    measured = {"rows": int(rows), "kind": kind, "seconds": round(seconds, 1), "own_mib": seen[0] >> 20}
    print(json.dumps(measured | {"peak_mib": peak >> 20, "bytes_per_row": round(size / int(rows))}))


if __name__ == "__main__":
    main(*sys.argv[1:4])
