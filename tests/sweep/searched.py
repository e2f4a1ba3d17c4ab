"""Methods to tune, each with a search space of its own; loaded with --method-file."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from benchmark.core.errors import UsageError
from methods.base import Among, Between, MultiTaskModel, register_method


class Linear(MultiTaskModel):
    """Logistic regression on the numeric inputs."""

    def __init__(self, schema, tasks, config):
        super().__init__(schema, tasks, config)
        self.towers = nn.ModuleDict({t.name: nn.Linear(len(schema.numeric), 1) for t in tasks})

    def forward(self, batch):
        return {name: tower(batch.numeric).squeeze(-1) for name, tower in self.towers.items()}

    def add_task(self, task):
        self.towers[task.name] = nn.Linear(len(self.schema.numeric), 1)
        return [self.towers[task.name]]


@register_method("plain", title="plain", paper="none", arms=("joint", "frozen"))
class Plain(Linear):
    @dataclass(frozen=True)
    class Config:
        pass


@register_method("picky", title="picky", paper="none", arms=("frozen",))
class Picky(Linear):
    """Rejects one of the modes that it offers, and fails with another."""

    @dataclass(frozen=True)
    class Config:
        mode: str = "good"
        experts: int = 2

        def __post_init__(self):
            if self.mode == "rejected":
                raise UsageError("picky.mode cannot be rejected")

    search_space: ClassVar = {"mode": Among(("rejected", "fails")), "experts": Between(1, 4)}

    def forward(self, batch):
        if self.config.mode == "fails":
            raise ValueError("failed on purpose")
        return super().forward(batch)


@register_method("hopeless", title="hopeless", paper="none", arms=("joint",))
class Hopeless(Linear):
    @dataclass(frozen=True)
    class Config:
        pass

    def forward(self, batch):
        raise ValueError("failed on purpose")
