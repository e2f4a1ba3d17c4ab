"""Writes files in VK-LSVD's layout at any size: 27 weeks, users and items beside them, ids as skewed as a feed's.

By hand, for what docs/encoding.md says of a hundred million rows:
``python -m tests.datasets_registry.vk_lsvd_files DIRECTORY 100000000``, then
``python -m tests.datasets_registry.measured vk_lsvd DIRECTORY CACHE``.
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from datasets_registry.vk_lsvd import CONTEXT, LABELS

USERS, ITEMS = 10_000_000, 19_600_000  # those of the published metadata
SHOWN_USERS, SHOWN_ITEMS = 1_000_000, 5_000_000  # those that the rows are about
CHUNK = 1 << 20


def write(directory, rows, users=USERS, items=ITEMS, shown=(SHOWN_USERS, SHOWN_ITEMS)):
    """So many rows, a 27th of them a week; returns the directory."""
    directory, rng = Path(directory), np.random.default_rng(0)
    for week in range(27):
        part = "train" if week < 25 else "validation" if week == 25 else "test"
        path = directory / "subsamples" / "ur0.01_ir0.01" / part / f"week_{week:02}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        left, writer = rows // 27 + (week < rows % 27), None
        while left:
            n = min(left, CHUNK)
            table = pa.table(_rows(rng, n, users, items, shown))
            writer = writer or pa.parquet.ParquetWriter(path, table.schema)
            writer.write_table(table)
            left -= n
        writer.close()
    (directory / "metadata").mkdir(exist_ok=True)
    tables = {
        "users": {"user_id": users, "age": 60, "gender": 2, "geo": 80},
        "items": {"item_id": items, "author_id": items // 20, "duration": 180},
    }
    for name, columns in tables.items():
        key, *others = columns
        n = columns[key]
        table = {key: rng.permutation(n).astype(np.uint32)}
        table |= {other: rng.integers(0, columns[other], n).astype(np.uint32) for other in others}
        pa.parquet.write_table(pa.table(table), directory / "metadata" / f"{name}_metadata.parquet")
    return directory


def _rows(rng, n, users, items, shown):
    columns = {
        "user_id": (rng.random(n) ** 2 * shown[0]).astype(np.uint32) * np.uint32(users // shown[0]),
        "item_id": (rng.random(n) ** 4 * shown[1]).astype(np.uint32) * np.uint32(items // shown[1]),
    }
    columns |= {name: rng.integers(0, 5, n).astype(np.uint8) for name in (*CONTEXT, "timespent")}
    return columns | {name: rng.random(n, np.float32) < 0.02 for name in LABELS}


if __name__ == "__main__":
    write(sys.argv[1], int(sys.argv[2]))
