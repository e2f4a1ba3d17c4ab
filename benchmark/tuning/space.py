"""Search spaces: which values tuning tries for a method's config, and how they become a config.

Every method is searched in the same number of dimensions (`DIMENSIONS`): the same trials would search a space with more
knobs more thinly, and trials by the knob would give a method with many more draws, and so a luckier maximum. Learning
rate and L2 of the tables come first, then what the method declares as ``search_space``, then the common ranges below as
far as they mean something for the method's Config, until the number is reached. Options of the arms that a trial runs
are searched beside them, the same for every method. The default of every field is among the values, or as near as the
range allows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from benchmark.core.errors import UsageError, unknown_name
from benchmark.spec.arms import ARMS
from benchmark.spec.options import TrainingOptions
from methods import METHODS
from methods.base import Among, Between, Search

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

DIMENSIONS = 6
"""Of every method's space: what MPT-Rec needs for its own two weights beside learning rate, width and L2."""

FIRST: Mapping[str, Search] = {
    "learning_rate": Between(1e-4, 1e-2, log=True),
    "l2_embedding": Between(1e-7, 1e-2, log=True),
}
"""Searched for every method that has them: what the presets of the papers differ in most."""

COMMON: Mapping[str, Search] = {
    "experts": Among((1, 2, 3, 4, 6, 8)),
    "shared_experts": Among((1, 2, 3)),
    "specific_experts": Among((1, 2, 3)),
    "hidden": Among(((256, 192, 128), (256, 128), (128, 64))),
    "levels": Among(((256,), (256, 128), (256, 256), (256, 256, 256))),
    "l2_dnn": Between(1e-7, 1e-2, log=True),
    "dropout": Among((0.0, 0.1, 0.3)),
    "tower": Among(((64, 32), (32,), (128, 64, 32))),
    "embedding_dim": Among((4, 8, 16)),
}
"""Ranges by well-known names, the more telling first. ``dropout`` is one rate for all layers, also where the field has
a rate for each."""

ARM_OPTIONS: Mapping[str, Mapping[str, Search]] = {
    "adapter": {"width": Among((4, 8, 16, 32, 64))},
    "lora": {"rank": Among((1, 2, 4, 8, 16, 32)), "alpha": Between(1.0, 64.0, log=True)},
    "prefix": {"length": Among((2, 4, 8, 16, 32))},
    "table_delta": {"rank": Among((1, 2, 3))},
    "side": {"width": Among((8, 16, 32, 64, 128))},
    "lp_ft": {"share": Among((0.1, 0.2, 0.3, 0.5))},
    "ewc": {"strength": Between(1.0, 1e4, log=True)},
    "lwf": {"strength": Between(0.1, 10.0, log=True)},
    "replay": {"share": Among((0.01, 0.02, 0.05, 0.1)), "strength": Between(0.1, 10.0, log=True)},
}
"""Options of arms, searched where a trial runs the arm; a dimension of theirs is called ARM.OPTION."""

DIGITS = 3
"""Significant digits of a tried number: more would say nothing and clutter the result."""


@dataclasses.dataclass(frozen=True)
class Space:
    """What is tried for one method on one dataset.

    ``defaults`` are the values without tuning, training options included; ``dimensions`` the searched names.
    """

    defaults: Mapping[str, Any]
    dimensions: Mapping[str, Search]

    def distributions(self) -> dict[str, BaseDistribution]:
        """The dimensions as Optuna knows them. A choice is its position, since it may be a tuple."""
        return {name: _distribution(search) for name, search in self.dimensions.items()}

    def described(self) -> dict[str, str]:
        """What is tried of each name, in words."""
        return {name: described(search) for name, search in self.dimensions.items()}

    def default_parameters(self) -> dict[str, Any]:
        """Where the defaults lie, in Optuna's parameters; outside of a range, the nearest value in it."""
        return {name: _parameter(search, _point(self.defaults, name)) for name, search in self.dimensions.items()}

    def values(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Optuna's parameters as config values."""
        values = {name: _value(search, parameters[name]) for name, search in self.dimensions.items()}
        if "dropout" in values and isinstance(self.defaults["dropout"], list):
            layers = len(values.get("hidden", self.defaults["hidden"]))
            values["dropout"] = [values["dropout"]] * layers if values["dropout"] else []
        return values


def search_space(
    method: str,
    config: Mapping[str, Any],
    learning_rate: float,
    fixed: Collection[str],
    arms: Mapping[str, Mapping[str, Any]] | None = None,
) -> Space:
    """The space of a method with this resolved config and the budget's learning rate, without the names ``fixed``.

    ``arms`` maps the arms of a trial to their resolved options. Raises UsageError, naming the method's file, for
    something declared that cannot be searched.
    """
    defaults = {**dataclasses.asdict(TrainingOptions()), "learning_rate": learning_rate, **config}
    stepwise = METHODS.get(method).fit is None  # what fits itself knows no learning rate
    known = {name: search for name, search in FIRST.items() if stepwise and _means_the_same(name, defaults)}
    declared = _declared(method, defaults)
    common = {name: search for name, search in COMMON.items() if _means_the_same(name, defaults)}
    named = {**known, **declared, **{name: search for name, search in common.items() if name not in declared}}
    free = [name for name in named if name not in fixed][:DIMENSIONS]
    dimensions = {name: _joined(named[name], _point(defaults, name)) for name in free}
    for arm, options in (arms or {}).items():
        for option, search in ARM_OPTIONS.get(arm, {}).items():
            if (name := f"{arm}.{option}") not in fixed:
                defaults[name] = options[option]
                dimensions[name] = _joined(search, options[option])
    return Space(defaults, dimensions)


def split_values(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """A space's values as those of the method's config and those of the arms' options, by arm."""
    own: dict[str, Any] = {}
    arms: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        arm, dot, option = name.partition(".")
        if dot and arm in ARMS:
            arms.setdefault(arm, {})[option] = value
        else:
            own[name] = value
    return own, arms


def _declared(method: str, defaults: Mapping[str, Any]) -> Mapping[str, Search]:
    declared = METHODS.get(method).search_space
    for name, search in declared.items():
        place = f"{METHODS.file(method)}: search_space of {method}"
        if name not in defaults:
            raise UsageError(f"{place}: {unknown_name('config key', name, defaults)}")
        if not isinstance(search, Between | Among):
            raise UsageError(f"{place}: {name} must be Between(...) or Among(...), not {search!r}.")
        if isinstance(search, Between) and not _takes(defaults[name], fractions=not _is_whole(search)):
            raise UsageError(f"{place}: {name} cannot lie in {search}: its default is {defaults[name]!r}.")
    return declared


def _takes(default: Any, fractions: bool) -> bool:
    """Whether a field with this default takes numbers, and fractions among them if asked for."""
    return isinstance(default, float) or (isinstance(default, int) and not isinstance(default, bool) and not fractions)


def _means_the_same(name: str, defaults: Mapping[str, Any]) -> bool:
    """Whether the method has a field of this name that means what the common range means by it."""
    default = defaults.get(name)
    if name in ("hidden", "levels", "tower"):
        return _is_layers(default)
    if name == "dropout" and isinstance(default, list):
        return _is_layers(defaults.get("hidden"))
    if name in ("experts", "shared_experts", "specific_experts", "embedding_dim"):
        return isinstance(default, int) and not isinstance(default, bool) and default > 0
    return isinstance(default, float)


def _is_layers(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(width, int) for width in value)


def _point(defaults: Mapping[str, Any], name: str) -> Any:
    """The default as a point of its dimension: rates by layer are one rate, their mean."""
    default = defaults[name]
    if name == "dropout" and isinstance(default, list):
        return sum(default) / len(default) if default else 0.0
    return tuple(default) if isinstance(default, list) else default


def _joined(search: Search, point: Any) -> Search:
    """The search with the default among its choices."""
    if isinstance(search, Between) or point in search.choices:
        return search
    return Among((*search.choices, point))


def _distribution(search: Search) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(search, Among):
        return CategoricalDistribution(range(len(search.choices)))
    if _is_whole(search):
        return IntDistribution(int(search.low), int(search.high), log=search.log, step=int(search.step or 1))
    return FloatDistribution(search.low, search.high, log=search.log, step=search.step)


def described(search: Search) -> str:
    """What is tried of a name, in words."""
    if isinstance(search, Among):
        return ", ".join(str(choice) for choice in search.choices)
    spread = ", logarithmic" if search.log else f", step {search.step:g}" if search.step else ""
    return f"{search.low:g} to {search.high:g}{spread}"


def _parameter(search: Search, point: Any) -> Any:
    if isinstance(search, Among):
        return search.choices.index(point)
    nearest = min(max(point, search.low), search.high)
    if search.step is not None:
        nearest = min(search.low + round((nearest - search.low) / search.step) * search.step, search.high)
    return nearest


def _value(search: Search, parameter: Any) -> Any:
    if isinstance(search, Among):
        choice = search.choices[parameter]
        return list(choice) if isinstance(choice, tuple) else choice
    return int(parameter) if _is_whole(search) else float(f"{parameter:.{DIGITS}g}")


def _is_whole(search: Between) -> bool:
    return isinstance(search.low, int) and isinstance(search.high, int)
