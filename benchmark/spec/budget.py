"""How much a run may train."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

BUDGET_KEYS = ("batch_size", "learning_rate", "epochs", "patience", "new_task_epochs", "new_task_patience")


class StrictTable(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BudgetTable(StrictTable):
    """What every run may spend; the part of a run's key that all runs which are compared share.

    ``new_task_epochs`` and ``new_task_patience`` hold for arms that train the new task alone on a stage-0 model;
    None: as for the others.
    """

    batch_size: int = Field(256, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    epochs: int = Field(30, ge=1)
    patience: int = Field(5, ge=1)
    new_task_epochs: int | None = Field(None, ge=1)
    new_task_patience: int | None = Field(None, ge=1)


SELECTION_RULE = "best mean validation AUC"


@dataclass(frozen=True)
class Budget:
    """What a run may spend. Equal for every method of a suite on a dataset, except where a suite says otherwise."""

    batch_size: int = 256
    learning_rate: float = 1e-3
    epochs: int = 30
    patience: int = 5

    @classmethod
    def of(cls, table: Mapping[str, Any], new_task_alone: bool, learning_rate: float | None = None) -> Budget:
        """The budget of a run from its key's table; ``learning_rate`` replaces the table's if given."""
        epochs, patience = table["epochs"], table["patience"]
        if new_task_alone:
            epochs = table.get("new_task_epochs") or epochs
            patience = table.get("new_task_patience") or patience
        return cls(table["batch_size"], learning_rate or table["learning_rate"], epochs, patience)
