"""Methods that go wrong, each in its own way; loaded with --method-file."""

import os
import signal
import sys
from dataclasses import dataclass

import torch
from torch import nn

from methods.base import MultiTaskModel, register_method


class Linear(MultiTaskModel):
    """Logistic regression on the numeric inputs: works."""

    def __init__(self, schema, tasks, config):
        super().__init__(schema, tasks, config)
        self.towers = nn.ModuleDict({t.name: nn.Linear(len(schema.numeric), 1) for t in tasks})

    def forward(self, batch):
        return {name: tower(batch.numeric).squeeze(-1) for name, tower in self.towers.items()}

    def add_task(self, task):
        self.towers[task.name] = nn.Linear(len(self.schema.numeric), 1)
        return [self.towers[task.name]]

    @dataclass(frozen=True)
    class Config:
        pass


def faulty(name, arms=("joint",)):
    return register_method(name, title=name, paper="none", arms=arms)


@faulty("healthy", arms=("joint", "frozen", "finetune"))
class Healthy(Linear):
    pass


@faulty("raises")
class Raises(Linear):
    def forward(self, batch):
        raise ValueError("a message with \x1b[31mcolour\x1b[0m")


@faulty("diverges")
class Diverges(Linear):
    def loss(self, batch, outputs, progress):
        terms = super().loss(batch, outputs, progress)
        return {name: term * (float("nan") if progress.epoch == 2 else 1.0) for name, term in terms.items()}


@faulty("leaves")
class Leaves(Linear):
    def forward(self, batch):
        sys.exit(0)


@faulty("crashes")
class Crashes(Linear):
    def forward(self, batch):
        os.kill(os.getpid(), signal.SIGSEGV)


@faulty("wrong_shape")
class WrongShape(Linear):
    def forward(self, batch):
        return {name: logits.unsqueeze(-1) for name, logits in super().forward(batch).items()}


@faulty("not_frozen", arms=("frozen",))
class NotFrozen(Linear):
    """Claims that only the new tower is new, and lets the old tasks read it."""

    def forward(self, batch):
        shift = sum(self.towers[name].bias for name in self.new_tasks) if self.new_tasks else 0.0
        return {name: tower(batch.numeric).squeeze(-1) + shift for name, tower in self.towers.items()}


class Unpicklable(Exception):
    def __init__(self, a, b):
        super().__init__(a)
        self.payload = lambda: b


@faulty("unpicklable")
class RaisesUnpicklable(Linear):
    def forward(self, batch):
        raise Unpicklable("cannot cross a process border", torch)


@faulty("hangs")
class Hangs(Linear):
    """Ignores the polite signals and leaves a child behind."""

    def forward(self, batch):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            signal.pause()
        while True:
            signal.pause()
