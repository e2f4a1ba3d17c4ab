"""The users of validation and test rows are kept beside the arrays, and change nothing else."""

from dataclasses import dataclass

import numpy as np
import pytest

from datasets_registry import prepare
from datasets_registry.base import Chunk, Dataset, Feature
from datasets_registry.schema import Task

ROWS = 3000
USERS = np.random.default_rng(3).integers(0, 400, ROWS) * 10**15 - 7


@dataclass(frozen=True)
class Clicks(Dataset):
    grouped: bool = True

    def read(self, files, chunk_rows):
        for start in range(0, ROWS, chunk_rows):
            rows = np.arange(start, min(start + chunk_rows, ROWS))
            keys = {"group": USERS[rows]} if self.grouped else {}
            # the feature holds the row's number, so that a split's rows can be told afterwards
            labels = {"click": (rows % 3 == 0).astype(np.uint8), "buy": (rows % 7 == 0).astype(np.uint8)}
            yield Chunk({"row": rows.astype(np.float64)}, labels, keys=keys)


def clicks(grouped=True):
    features = (Feature("row", kind="numeric", scale="none"),)
    tasks = (Task("click"), Task("buy"))
    return Clicks(
        "clicks", "", tasks, ("click",), ("buy",), features, split="random", splits=("random",), grouped=grouped
    )


@pytest.mark.parametrize("chunk_rows", [100, ROWS])
def test_ids_tell_the_users_of_a_split_apart_whatever_the_chunks(tmp_path, chunk_rows):
    data = prepare(clicks(), cache_dir=tmp_path, chunk_rows=chunk_rows)
    assert data.groups("train") is None
    for which in ("valid", "test"):
        ids = data.groups(which)
        rows = data.split(which, data.schema(())).numeric()[:, 0].astype(int)
        users = USERS[rows]
        pairs = set(zip(ids.tolist(), users.tolist(), strict=True))
        assert len(pairs) == len(np.unique(users)) == len(np.unique(ids))
        assert ids.dtype == (np.uint8 if len(pairs) <= 256 else np.uint16)
        first = np.sort(np.unique(ids, return_index=True)[1])
        assert ids[first].tolist() == list(range(len(pairs)))  # in the order of their first rows


def test_the_users_are_no_part_of_the_fingerprint(tmp_path):
    with_users, without = (prepare(clicks(grouped), cache_dir=tmp_path / str(grouped)) for grouped in (True, False))
    assert with_users.fingerprint == without.fingerprint
    assert without.groups("test") is None
