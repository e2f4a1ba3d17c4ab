r"""Writes files in Ali-CCP's raw format, with field sizes, list lengths and rates like those of the real ones.

By hand, for the full shape: ``python tests/datasets_registry/ali_ccp_files.py DIRECTORY 42300000 730600``.
"""

import sys
from pathlib import Path

import numpy as np

SIZES = {"205": 467_298, "206": 6_929, "207": 263_942, "216": 106_399, "508": 5_888, "509": 104_830, "702": 51_878,
         "853": 37_148}  # fmt: skip
COMMON = {"121": 98, "122": 14, "124": 3, "125": 8, "126": 4, "127": 4, "128": 3, "129": 5}
FIRST = {field: 1_000_000 + 700_000 * i for i, field in enumerate((*SIZES, *COMMON, "101", "210", "150_14"))}
SCENARIOS = (9351665, 9351666, 9351667)


def write(directory, rows, common_rows, which="train", seed=0, pool=100_000):
    """Skeleton and common-feature file of ``which``; feature lists are drawn from a pool of that many."""
    rng = np.random.default_rng([seed, which == "test"])
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    keys = rng.integers(0, 1 << 63, common_rows, dtype=np.int64)
    with open(directory / f"common_features_{which}.csv", "w", buffering=1 << 22) as file:
        lists = _common_lists(rng, min(pool, common_rows))
        for i, key in enumerate(keys.tolist()):
            n, text = lists[i % len(lists)]
            file.write(f"{key:016x},{n + 1},101\x02{FIRST['101'] + i}\x031.0\x01{text}\n")
    lists = [f"{n + 1},{text}" for n, text in _row_lists(rng, min(pool, rows))]
    ends = [f"\x01301\x02{scenario}\x031.0\n" for scenario in SCENARIOS]
    texts = [f"{key:016x}" for key in keys.tolist()]
    with open(directory / f"sample_skeleton_{which}.csv", "w", buffering=1 << 22) as file:
        for start in range(0, rows, 100_000):
            n = min(100_000, rows - start)
            click = rng.random(n) < 0.045
            labels = np.where(click & (rng.random(n) < 0.01), 2, click).tolist()
            which_list, owner = (
                rng.integers(0, len(lists), n).tolist(),
                np.sort(rng.integers(0, common_rows, n)).tolist(),
            )
            scenario = rng.choice(3, n, p=[0.386, 0.008, 0.606]).tolist()
            prefix = ("0,0", "1,0", "1,1")
            file.writelines(
                f"{start + i + 1},{prefix[labels[i]]},{texts[owner[i]]},{lists[which_list[i]]}{ends[scenario[i]]}"
                for i in range(n)
            )
    return directory


def _zipf(rng, size, n):
    return np.minimum((rng.random(n) ** 3 * size).astype(int), size - 1)


def _row_lists(rng, n):
    columns = {field: (FIRST[field] + _zipf(rng, size, n)).tolist() for field, size in SIZES.items()}
    tags = FIRST["210"] + rng.integers(0, 80_000, (n, 4))
    absent = (rng.random((n, len(columns))) < 0.1).tolist()
    out = []
    for i in range(n):
        parts = [f"210\x02{tag}\x031.0" for tag in tags[i][: 1 + i % 4].tolist()]
        parts += [f"{f}\x02{v[i]}\x030.693147" for k, (f, v) in enumerate(columns.items()) if k < 4 or not absent[i][k]]
        out.append((len(parts), "\x01".join(parts)))
    return out


def _common_lists(rng, n):
    columns = {field: (FIRST[field] + _zipf(rng, size, n)).tolist() for field, size in COMMON.items()}
    out = []
    for i in range(n):
        parts = [f"{field}\x02{values[i]}\x031.0" for field, values in columns.items() if (i + int(field)) % 9]
        parts += [f"150_14\x02{FIRST['150_14'] + k}\x032.3979" for k in rng.integers(0, 90_000, 10 + i % 80).tolist()]
        out.append((len(parts), "\x01".join(parts)))
    return out


if __name__ == "__main__":
    write(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    write(sys.argv[1], max(1000, int(sys.argv[2]) // 100), 1000, "test")
