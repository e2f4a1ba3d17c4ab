"""A dataset in memory, for tests of the harness alone: two related old tasks, one new task, learnable in a moment."""

import numpy as np

from benchmark.core.seeding import numpy_stream
from datasets_registry.schema import CategoricalFeature, Schema, Task

SIZES = (7, 11, 5)
ROWS = {"train": 600, "valid": 200, "test": 300}


class FakeSplit:
    def __init__(self, codes, numeric, schema):
        self._codes = codes + np.asarray(schema.offsets, np.int32)
        self._numeric = numeric

    def __len__(self):
        return len(self._codes)

    def categorical(self, index=None):
        return self._codes if index is None else self._codes[index]

    def numeric(self, index=None):
        return self._numeric if index is None else self._numeric[index]

    def sequences(self, index=None):
        return {}


class FakeData:
    """Quacks like an EncodedDataset. ``test_noise`` flips that share of the test labels."""

    name, fingerprint = "fake", "0"
    old_tasks, new_tasks = ("a", "b"), ("c",)

    def __init__(self, test_noise=0.0, tasks=("a", "b", "c")):
        self.tasks = {name: Task(name) for name in tasks}
        self.users = {}
        self._labels, self._inputs = {}, {}
        weights = numpy_stream("fake weights").normal(size=(3, 16))
        for split, n in ROWS.items():
            rng = numpy_stream("fake", split)
            codes = np.stack([rng.integers(0, size, n) for size in SIZES], axis=1).astype(np.int32)
            numeric = rng.random((n, 2)).astype(np.float32)
            self._inputs[split] = codes, numeric
            for t, task in enumerate("abc"):
                score = weights[t, codes[:, 0]] + 0.5 * weights[0, codes[:, 1]] + numeric[:, 0]
                labels = (rng.random(n) < 1 / (1 + np.exp(-2 * score))).astype(np.float32)
                if split == "test" and test_noise:
                    flip = rng.random(n) < test_noise
                    labels = np.where(flip, 1 - labels, labels)
                self._labels[split, task] = labels

    def schema(self, tasks):
        return Schema(tuple(CategoricalFeature(f"f{i}", size) for i, size in enumerate(SIZES)), ("x", "y"))

    def split(self, which, schema):
        return FakeSplit(*self._inputs[which], schema)

    def groups(self, which):
        return self.users.get(which)

    def scoring_labels(self, which, task):
        return self.labels(which, task)

    def labels(self, which, task):
        return self._labels[which, task]
