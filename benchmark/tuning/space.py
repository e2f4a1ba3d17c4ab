"""Search spaces: which values tuning tries for a method's config, and how they become a config.

A space has the common ranges below, as far as they mean something for the method's Config, and what the method
declares as ``search_space``. The default of every field is among the values, or as near as the range allows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from benchmark.core.errors import UsageError, unknown_name
from benchmark.spec.options import TrainingOptions
from methods import METHODS
from methods.base import Among, Between, Search

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

COMMON: Mapping[str, Search] = {
    "learning_rate": Between(1e-4, 1e-2, log=True),
    "hidden": Among(((256, 192, 128), (256, 128), (128, 64))),
    "dropout": Among((0.0, 0.1, 0.3)),
    "l2_embedding": Between(1e-7, 1e-2, log=True),
    "l2_dnn": Between(1e-7, 1e-2, log=True),
}
"""Ranges by well-known names. ``dropout`` is one rate for all layers, also where the field has a rate for each."""

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


def search_space(method: str, config: Mapping[str, Any], learning_rate: float, fixed: Collection[str]) -> Space:
    """The space of a method with this resolved config and the budget's learning rate, without the names ``fixed``.

    Raises UsageError, naming the method's file, for something declared that cannot be searched.
    """
    defaults = {**dataclasses.asdict(TrainingOptions()), "learning_rate": learning_rate, **config}
    dimensions = {name: search for name, search in COMMON.items() if _means_the_same(name, defaults)}
    dimensions |= _declared(method, defaults)
    joined = {name: _joined(search, _point(defaults, name)) for name, search in dimensions.items()}
    return Space(defaults, {name: search for name, search in joined.items() if name not in fixed})


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
    if name == "hidden":
        return _is_layers(default)
    if name == "dropout" and isinstance(default, list):
        return _is_layers(defaults.get("hidden"))
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
