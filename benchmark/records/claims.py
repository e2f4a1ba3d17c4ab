"""Claims: sentences with a test, written down before a suite is run. A suite holds them, or a user's own TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from benchmark.core.errors import UsageError, unknown_name
from benchmark.spec.budget import StrictTable

MOST_PRIMARY = 6
"""More primary claims than this are no longer few: each costs the others power."""


class Claim(StrictTable):
    """One sentence and the test that decides it, for every problem that has the runs.

    ``question``: "better" (the score is above that of every opponent), "as_good" (not worse than any opponent by the
    margin or more), "no_harm" (no old task loses the margin or more). ``method`` in ``arm`` is what the claim speaks
    of; "stage0" is the model of the old tasks. ``against`` names the opponents' methods (empty: all other multi-task
    methods), ``against_arms`` their arms (empty: the same arm). ``tasks``: "old", "new" or names. ``most_weights``:
    trained weights have to be at most this share of the same method's joint model; ``equal_weights``: only opponents
    whose trained weights are within this factor count. ``primary``: of the few claims that are tested as a family of
    their own.
    """

    name: str = Field(min_length=1)
    text: str = Field(min_length=1)
    question: Literal["better", "as_good", "no_harm"]
    method: str
    arm: str = "frozen"
    against: tuple[str, ...] = ()
    against_arms: tuple[str, ...] = ()
    tasks: Literal["old", "new"] | tuple[str, ...] = "new"
    margin: float | None = Field(None, gt=0)
    most_weights: float | None = Field(None, gt=0)
    equal_weights: float | None = Field(None, gt=1)
    primary: bool = False


def parse_claims(tables: Sequence[Mapping[str, Any]], where: str = "claims") -> tuple[Claim, ...]:
    """Claims from TOML tables. Raises UsageError naming the claim and the field."""
    found = []
    for place, table in enumerate(tables, 1):
        name = f"{where}: claim {place}" + (f" ({table['name']})" if "name" in table else "")
        try:
            found.append(Claim(**table))
        except (ValidationError, TypeError) as error:
            if not isinstance(error, ValidationError):
                raise UsageError(f"{name}: {error}") from error
            first = error.errors()[0]
            field = str(first["loc"][0]) if first["loc"] else ""
            if first["type"] == "extra_forbidden":
                raise UsageError(f"{name}: {unknown_name('key', field, Claim.model_fields)}") from error
            raise UsageError(f"{name}: '{field}': {first['msg']}") from error
    names = [claim.name for claim in found]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"{where}: two claims are called '{repeated[0]}'; give each its own name.")
    if (primary := sum(claim.primary for claim in found)) > MOST_PRIMARY:
        raise UsageError(
            f"{where}: {primary} primary claims; choose at most {MOST_PRIMARY} (primary = false for others)."
        )
    return tuple(found)


def read_claims(path: Path) -> tuple[Claim, ...]:
    """The ``[[claim]]`` tables of a TOML file. Raises UsageError naming file and field."""
    if not path.is_file():
        raise UsageError(f"No claims file at {path}.")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: not valid TOML: {error}") from error
    tables = content.pop("claim", None)
    if content or not isinstance(tables, list) or not tables:
        raise UsageError(f"{path}: holds [[claim]] tables and nothing else; see docs/tables.md for an example.")
    return parse_claims(tables, str(path))
