"""Training options: what any method's config may carry beside the method's own values.

They stand in a run's key only where they differ from their defaults, so that an option that comes later renames no
run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from benchmark.core.errors import UsageError, unknown_name

BALANCERS = (
    "equal",
    "uncertainty",
    "imtl_l",
    "random",
    "dwa",
    "stch",
    "famo",
    "gradnorm",
    "pcgrad",
    "mgda",
    "cagrad",
    "nash_mtl",
    "imtl_g",
    "aligned_mtl",
    "graddrop",
    "gradvac",
    "fairgrad",
    "upgrad",
    "sdmgrad",
    "excess_mtl",
)
"""How losses or gradients of several tasks may be combined (`benchmark.training.balancing`)."""


POOLS = ("mean", "target", "self")
"""How a sequence becomes one vector: its mean, attention to the row's candidate, or attention among its values."""


@dataclass(frozen=True)
class TrainingOptions:
    """``learning_rate`` replaces the budget's (None: the budget's). ``balancing`` is how several tasks' losses or
    gradients are combined (see `benchmark.training.balancing`); runs that train one task know no balancing.
    ``sequence_pooling`` is how a sequence becomes one vector (see `methods.sequences`); datasets without sequences know
    none."""

    learning_rate: float | None = None
    balancing: str = "equal"
    sequence_pooling: str = "mean"

    def __post_init__(self) -> None:
        rate = self.learning_rate
        if rate is not None and (isinstance(rate, bool) or not isinstance(rate, int | float) or not rate > 0):
            raise UsageError(f"learning_rate must be a number above 0, not {rate!r}.")
        if self.balancing not in BALANCERS:
            raise unknown_name("balancing", str(self.balancing), BALANCERS)
        if self.sequence_pooling not in POOLS:
            raise unknown_name("sequence_pooling", str(self.sequence_pooling), POOLS)

    def differing(self) -> dict[str, Any]:
        """The options that differ from their defaults."""
        defaults = asdict(TrainingOptions())
        return {name: value for name, value in asdict(self).items() if value != defaults[name]}


OPTION_NAMES = frozenset(field.name for field in fields(TrainingOptions))


def training_options(method: str, values: Mapping[str, Any]) -> TrainingOptions:
    """The options that ``values`` names. Raises UsageError, naming the method, for a bad value."""
    try:
        return TrainingOptions(**values)
    except UsageError as error:
        raise UsageError(f"config of {method}: {error}") from error


def split_config(config: Mapping[str, Any]) -> tuple[dict[str, Any], TrainingOptions]:
    """A run's config as the method's own values and the training options."""
    own = {name: value for name, value in config.items() if name not in OPTION_NAMES}
    return own, TrainingOptions(**{name: value for name, value in config.items() if name in OPTION_NAMES})
