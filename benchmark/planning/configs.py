"""Configs of methods: read from suites and the command line, checked field by field, resolved to plain dictionaries."""

from __future__ import annotations

import dataclasses
import functools
import re
import tomllib
from collections.abc import Callable, Mapping
from typing import Any

import pydantic.dataclasses
from pydantic import ConfigDict, PydanticUserError, ValidationError
from pydantic.errors import PydanticUndefinedAnnotation

from benchmark.core.errors import UsageError, unknown_name
from benchmark.spec.options import OPTION_NAMES, training_options

RATE = "dropout"
"""Fields of this name, numbers or lists of them, lie in [0, 1)."""
KINDS: Mapping[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    tuple: "a list",
}
PENALTY = "l2_"
"""Fields whose name begins so are at least 0."""


def resolve_config(config_class: type, method: str, *layers: Mapping[str, Any]) -> dict[str, Any]:
    """A method's config as a plain dictionary: defaults, then each layer over it; training options (see
    `benchmark.spec.options`) join where they differ from their defaults. Raises UsageError for a wrong key (with the
    nearest), a value of the wrong type or out of range."""
    own: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            (options if key in OPTION_NAMES else own)[key] = value
    return _resolved(config_class, method, own) | training_options(method, options).differing()


def _resolved(config_class: type, method: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    fields = {field.name for field in dataclasses.fields(config_class)}
    for key in changes:
        if key not in fields:
            raise unknown_name(f"config key of {method}", key, [*fields, *OPTION_NAMES])
    defaults = config_class()
    try:
        values = {key: _tuples(value) for key, value in changes.items()}
        resolved = _checked(config_class)(**values)
    except ValidationError as error:
        raise UsageError(f"config of {method}: {_sentence(error, method, defaults)}") from error
    except (PydanticUserError, PydanticUndefinedAnnotation) as error:
        raise UsageError(f"config of {method}: its fields cannot be checked: {error.message}") from error
    except RecursionError as error:
        raise UsageError(f"config of {method}: a value is nested too deep to be read.") from error
    except (TypeError, ValueError, UsageError) as error:  # of its own __post_init__
        raise UsageError(f"config of {method}: {error}") from error
    for key in changes:
        if problem := _out_of_range(key, getattr(defaults, key), getattr(resolved, key)):
            raise UsageError(f"config of {method}: {key} {problem}, not {_shown(changes[key])}.")
    return {
        name: _lists(getattr(resolved, name)) for name in [field.name for field in dataclasses.fields(config_class)]
    }


@functools.cache
def _checked(config_class: type) -> Callable[..., Any]:
    """The class with a constructor that checks its fields. Strict: a whole number may stand for a number, nothing else
    for something else. ``Literal`` fields name their choices, and ``Annotated[int, Field(le=8)]`` narrows further than
    the conventions of `_out_of_range`."""
    config = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
    checked: Callable[..., Any] = pydantic.dataclasses.dataclass(config_class, frozen=True, config=config)
    return checked


def _sentence(error: ValidationError, method: str, defaults: Any) -> str:
    """The first problem in words: which field, what it has to be, what it is."""
    first = error.errors()[0]
    key = str(first["loc"][0]) if first["loc"] else ""
    if not key:
        return str(first.get("ctx", {}).get("error", first["msg"]))  # of its own __post_init__
    default = getattr(defaults, key)
    if first["type"] == "literal_error":
        return f"{key} must be {first['ctx']['expected']}, not {_shown(first['input'])}."
    if re.search(r"(_type|_parsing|finite_number)$", first["type"]):
        kind = "a finite number" if first["type"] == "finite_number" else KINDS.get(type(default), "a value")
        return f"{key} must be {kind} like {_shown(default)}, not {_shown(first['input'])}."
    return f"{key}: {first['msg'][0].lower()}{first['msg'][1:]}, not {_shown(first['input'])}."


def _out_of_range(name: str, default: Any, value: Any) -> str | None:
    """What a changed value breaks of what every config means: whole numbers whose default is above 0 are sizes and
    counts, and so are lists of them; rates of dropout and coefficients of L2 have their bounds."""
    members = value if isinstance(value, tuple) else (value,)
    usual = default if isinstance(default, tuple) else (default,)
    if any(isinstance(member, bool | str) or not isinstance(member, int | float) for member in members):
        return None
    if name.startswith(PENALTY) and min(members, default=0) < 0:
        return "must be at least 0"
    if name == RATE and not all(0 <= member < 1 for member in members):
        return "must lie between 0 and 1, 1 left out"
    whole = usual and all(isinstance(member, int) and not isinstance(member, bool) and member > 0 for member in usual)
    if whole and min(members, default=1) < 1:
        return "must be at least 1" if not isinstance(value, tuple) else "must hold numbers of at least 1"
    return None


def read_value(text: str) -> Any:
    """A value as typed after ``--set key=``: as in TOML. ``64,32`` and ``(64, 32)`` are lists, too; a bare word is a
    text. Raises UsageError for what is nested too deep to be read."""
    text = text.strip()
    inner = text[1:-1] if text.startswith("(") and text.endswith(")") else text
    candidates = [text]
    if "," in inner or inner is not text:
        candidates.append(f"[{inner}]")
    for candidate in candidates:
        try:
            return tomllib.loads(f"value = {candidate}")["value"]
        except ValueError:  # no TOML, or a number of thousands of digits
            continue
        except RecursionError as error:
            raise UsageError(f"--set: a value nested this deep cannot be read: {text[:40]}...") from error
    return text


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, list | tuple) else value


def _lists(value: Any) -> Any:
    return [_lists(part) for part in value] if isinstance(value, list | tuple) else value


def _shown(value: Any) -> str:
    """A value as it may be typed, cut where it is long."""
    text = repr(_lists(value))
    return text if len(text) <= 80 else f"{text[:80]}..."
