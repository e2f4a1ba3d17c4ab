"""Which rows train, validate and test. Decided by the ``split`` stream of the dataset, never by a model's seed.

====================  ================================================================================================
rule                  rows
====================  ================================================================================================
``official``          the official parts as they are
``halved``            official training part; the official test part cut at random into equal halves
``tenth``             each row of the official training part validates with probability 0.1; official test part
``tenth_groups``      as ``tenth``, but group by group: rows of one group (a user, a search) stay together; row by row
                      where the data has no groups
``aitm``              ``tenth`` as the AITM preparation of Ali-CCP draws it: Python's generator with seed 2020
``random``            each row trains with probability 0.8, validates with 0.1, tests with 0.1
``per_user``          each user's rows in random order: the first 80 % train, the next 10 % validate, the rest tests
``stratified``        the same for each stratum of the rows, with 60, 20 and 20 %
``time``              the earliest 80 % train, the next 10 % validate, the rest tests; equal times stay together
``time70``            as ``time``, with 70, 15 and 15 %
``user_order``        each user's rows in time order: the last one tests, the one before validates; where the data has
                      no time but lists each user's rows in their order, that order
``unbiased``          ``time`` on the official training part; those of the official test part that come after its
                      validation rows test, and no others
====================  ================================================================================================

The profile ``@split1`` to ``@split5`` gives other splits of the same rule: other draws where rows are drawn; where time
cuts, both cuts and the end EARLIER of the rows earlier each time, later rows left out; for ``user_order`` each user's
last rows left out, one more each time. ``official`` and ``aitm`` have one split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from benchmark.core.errors import DataError
from benchmark.core.seeding import numpy_stream
from datasets_registry.encoding.profiles import Profile

if TYPE_CHECKING:
    import numpy as np

NAMES = ("train", "valid", "test")
DROPPED = 255
EARLIER = 0.03
TIME_CUTS = {"time": (0.8, 0.9), "time70": (0.7, 0.85), "unbiased": (0.8, 0.9)}
GROUP_CUTS = {"per_user": ("group", 0.8, 0.9), "stratified": ("stratum", 0.6, 0.8)}


def assign(rule: str, dataset: str, keys: Mapping[str, np.ndarray], draw: int = 0) -> np.ndarray:
    """Split of each of N rows: uint8 [N], 0 train, 1 valid, 2 test, DROPPED where ``draw`` > 0 ends the data earlier.

    ``keys["part"]`` is uint8 [N]; "time" and "group" are int64 [N] where a rule needs them. A key "listed" (its values
    do not matter) says that the rows of a group come in the order of time.
    """
    import numpy as np

    part = keys["part"]
    if draw:
        dataset = f"{dataset}/{draw}"
    stream = numpy_stream("split", dataset)
    if rule in GROUP_CUTS:
        key, *cuts = GROUP_CUTS[rule]
        return _within_groups(_key(keys, key, rule, dataset), stream, cuts)
    if rule == "official":
        return part.copy()
    if rule == "halved":
        out = np.zeros(len(part), np.uint8)
        test = np.flatnonzero(part == 2)
        order = stream.permutation(len(test))
        out[test[order[: len(test) // 2]]] = 1
        out[test[order[len(test) // 2 :]]] = 2
        return out
    if rule == "tenth":
        if (part == 1).any():  # prepared files that come with validation rows of their own
            return part.copy()
        drawn = stream.random(len(part), np.float32)
        return np.where(part == 0, (drawn < 0.1).astype(np.uint8), np.uint8(2))
    if rule == "tenth_groups":
        if (part == 1).any():
            return part.copy()
        return np.where(part == 0, by_group(dataset, keys).astype(np.uint8), np.uint8(2))
    if rule == "aitm":
        if (part == 1).any():
            return part.copy()
        out = np.full(len(part), 2, np.uint8)
        out[part == 0] = _python_random(2020, int((part == 0).sum())) >= 0.9
        return out
    if rule == "random":
        drawn = stream.random(len(part), np.float32)
        return np.where(drawn < 0.8, np.uint8(0), np.where(drawn < 0.9, np.uint8(1), np.uint8(2)))
    if rule in TIME_CUTS:
        first, second = (cut - EARLIER * draw for cut in TIME_CUTS[rule])
        measured = part == 0 if rule == "unbiased" else np.ones(len(part), bool)
        out = _by_time(_key(keys, "time", rule, dataset), measured, first, second, 1 - EARLIER * draw)
        return out if rule != "unbiased" else np.where((part == 0) == (out < 2), out, np.uint8(DROPPED))
    if rule == "user_order":
        group = _key(keys, "group", rule, dataset)
        time = np.arange(len(part)) if "listed" in keys else _key(keys, "time", rule, dataset)
        order = np.lexsort((np.arange(len(time)), time, group))
        ordered = group[order]
        from_end = np.searchsorted(ordered, ordered, side="right") - np.arange(len(ordered))
        out = np.zeros(len(part), np.uint8)
        out[order[from_end <= draw]] = DROPPED
        out[order[from_end == draw + 1]] = 2
        out[order[from_end == draw + 2]] = 1
        return out
    raise AssertionError(f"unknown split rule {rule}")


def needed_keys(rule: str, profile: Profile) -> frozenset[str]:
    """The key columns that `assign` and `keep` look at: no others are held in memory."""
    needed = {"user_order": {"time", "group", "listed"}}.get(rule, {"time"} if rule in TIME_CUTS else set())
    needed |= {GROUP_CUTS[rule][0]} if rule in GROUP_CUTS else set()
    needed |= {"group"} if rule == "tenth_groups" or profile.users < 1 else set()
    needed |= {"day"} if (profile.since, profile.until) != (None, None) else set()
    return frozenset(needed)


def by_group(dataset: str, keys: Mapping[str, np.ndarray]) -> np.ndarray:
    """Whether each row validates (bool [N]), decided by a hash of its group, so that no other row need be known."""
    import numpy as np

    stream = numpy_stream("split", dataset, "groups")
    seed = np.uint64(stream.integers(1 << 63))
    if "group" not in keys:
        return numpy_stream("split", dataset).random(len(keys["part"]), np.float32) < 0.1
    x = keys["group"].view(np.uint64) + seed  # SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), a mixer of 64 bits
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x ^ (x >> np.uint64(31))) < np.uint64(2**64 // 10)


def _python_random(seed: int, n: int) -> np.ndarray:
    """What n calls of ``random.random()`` give after ``random.seed(seed)``: the same generator, its state handed on."""
    import random

    import numpy as np

    state = random.Random(seed).getstate()[1]
    same = np.random.RandomState()
    same.set_state(("MT19937", np.array(state[:-1], np.uint32), state[-1], 0, 0.0))
    return same.random_sample(n)


def _by_time(time: np.ndarray, measured: np.ndarray, first: float, second: float, end: float) -> np.ndarray:
    """uint8 [N]: 0, 1, 2 for times up to these quantiles of the ``measured`` rows (bool [N]), DROPPED after ``end``."""
    import numpy as np

    cuts = np.quantile(time[measured], [first, second, end], method="lower") if measured.any() else (0, 0, 0)
    out = np.where(time <= cuts[0], np.uint8(0), np.where(time <= cuts[1], np.uint8(1), np.uint8(2)))
    if end < 1:
        out[time > cuts[2]] = DROPPED
    return out


def _within_groups(group: np.ndarray, stream: np.random.Generator, cuts: Sequence[float]) -> np.ndarray:
    """uint8 [N]: each group's rows in random order, cut at these shares of them; groups begin at a random offset, so
    that small ones do not all train."""
    import numpy as np

    _, group, size = np.unique(group, return_inverse=True, return_counts=True)
    order = np.lexsort((stream.random(len(group)), group))
    start = np.cumsum(size) - size
    share = np.empty(len(group))
    share[order] = (np.arange(len(group)) - start[group[order]] + stream.random(len(size))[group[order]]) / size[
        group[order]
    ]
    return np.searchsorted(cuts, share, side="right").astype(np.uint8)


def keep(profile: Profile, dataset: str, split: np.ndarray, keys: Mapping[str, np.ndarray]) -> np.ndarray:
    """``split`` with the rows that the profile leaves out set to DROPPED."""
    import numpy as np

    out = split.copy()
    if profile.since is not None or profile.until is not None:
        day = _key(keys, "day", "from/to", dataset)
        out[(day < (profile.since or 0)) | (day > (profile.until or 99_999_999))] = DROPPED
    if profile.users < 1:
        group = _key(keys, "group", "users..pct", dataset)
        users, inverse = np.unique(group, return_inverse=True)
        chosen = numpy_stream("split", dataset, "users").random(len(users)) < profile.users
        out[~chosen[inverse]] = DROPPED
    if profile.share < 1:
        out[numpy_stream("split", dataset, "sample").random(len(out), np.float32) >= profile.share] = DROPPED
    if profile.first is not None:
        for code, limit in enumerate((profile.first, max(1, profile.first // 10), profile.first)):
            out[np.flatnonzero(out == code)[limit:]] = DROPPED
    return out


def by_prefix(rule: str, profile: Profile) -> bool:
    """Whether the rows that a ``first`` profile keeps can be told from the beginnings of the official parts alone."""
    alone = profile == Profile(first=profile.first, new_labels=profile.new_labels)
    return profile.first is not None and alone and rule in ("official", "tenth", "tenth_groups")


def prefix_rows(rule: str, dataset: str, first: int, parts: Sequence[int]) -> list[int | None]:
    """How many rows of each of the official ``parts`` `assign` and `keep` need to find all rows of ``first``.

    None where only the rows themselves tell (their groups).
    """
    few = max(1, first // 10)
    wanted: dict[int, int | None] = {0: first, 1: few, 2: first}
    if rule == "tenth_groups" and 1 not in parts:
        wanted[0] = None
    if rule == "tenth" and 1 not in parts:
        wanted[0] = _until_both(dataset, first, few)
    return [wanted[part] for part in parts]


def _until_both(dataset: str, train: int, valid: int) -> int:
    """Rows of the training part until ``tenth`` has drawn so many training and so many validation rows."""
    import numpy as np

    n = train + valid
    while True:
        drawn = numpy_stream("split", dataset).random(n, np.float32) < 0.1
        places = np.flatnonzero(~drawn), np.flatnonzero(drawn)
        if len(places[0]) >= train and len(places[1]) >= valid:
            return int(max(places[0][train - 1], places[1][valid - 1])) + 1
        n += n // 4 + 100


def _key(keys: Mapping[str, np.ndarray], key: str, rule: str, dataset: str) -> np.ndarray:
    if key not in keys:
        raise DataError(f"'{dataset}' has no column '{key}', which '{rule}' needs; choose another split or profile.")
    return keys[key]
