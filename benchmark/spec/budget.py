"""How much a run may train."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

SELECTION_RULE = "best mean validation AUC"
SELECTION_RULES = {"auc": SELECTION_RULE, "gauc": "best mean validation GAUC"}
"""How an epoch is chosen, by what a suite's ``selection`` names; the words stand in the key of every run."""


class StrictTable(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Budget(StrictTable):
    """What a run may spend. Equal for every method of a suite on a dataset, except where a suite says otherwise."""

    batch_size: int = Field(256, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    epochs: int = Field(30, ge=1)
    patience: int = Field(5, ge=1)

    @classmethod
    def of(cls, table: Mapping[str, Any], new_task_alone: bool, learning_rate: float | None = None) -> Budget:
        """The budget of a run from its key's table; ``learning_rate`` replaces the table's if given."""
        spent = {name: table[name] for name in Budget.model_fields}
        if new_task_alone:
            spent["epochs"] = table.get("new_task_epochs") or spent["epochs"]
            spent["patience"] = table.get("new_task_patience") or spent["patience"]
        if learning_rate:
            spent["learning_rate"] = learning_rate
        return Budget(**spent)


class BudgetTable(Budget):
    """A suite's budget, and the part of a run's key that all runs which are compared share.

    ``new_task_epochs`` and ``new_task_patience`` hold for arms that train the new task alone on a stage-0 model;
    None: as for the others.
    """

    new_task_epochs: int | None = Field(None, ge=1)
    new_task_patience: int | None = Field(None, ge=1)
