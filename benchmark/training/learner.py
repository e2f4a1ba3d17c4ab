"""One run's model with everything that training it takes: built once, used by protocol, preparation and kit alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.core.seeding import stream_seed, torch_stream
from benchmark.training.balancing import Balancer
from benchmark.training.rows import DataRows, FrozenBatch, FrozenRows, RowSource, cache_features, shuffled
from benchmark.training.untouched import left_alone
from methods.base import MultiTaskModel
from methods.batch import Batch, Progress

Loss = Callable[[Batch, Mapping[str, Tensor], Progress], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Streams:
    """The random streams of a run, by name. All methods see the rows of a dataset in one order at one seed.

    Order and noise are drawn anew for every epoch, so that a resumed run needs no generator state.
    """

    dataset: str
    method: str
    seed: int

    @property
    def words(self) -> tuple[str, str, int]:
        """What names a stream of this method's own."""
        return self.dataset, self.method, self.seed

    def order(self, epoch: int) -> torch.Generator:
        """Of the rows of an epoch."""
        return torch_stream("order", self.dataset, self.seed, epoch)

    def noise(self, epoch: int) -> int:
        """Seed of torch's own generator in an epoch: dropout, and whatever a method draws while it trains."""
        return stream_seed("dropout", *self.words, epoch)

    def environment(self) -> torch.Generator:
        """Given to the method before training."""
        return torch_stream("environment", *self.words)

    def preparation(self, epoch: int) -> torch.Generator:
        """Of the rows of an epoch of the method's own preparation."""
        return torch_stream("preparation", *self.words, epoch)


@dataclass
class Learner:
    """A model, the rows that it learns from, and how a step is made.

    ``rows`` carry the labels that are trained on. ``trained`` are the parameters that move; with ``frozen`` all others
    stay in evaluation mode and without gradient. ``loss`` turns outputs into named terms (None: the model's own) and
    ``balance`` these into gradients (None: of their sum). ``cached`` are the outputs of the frozen part for all
    ``rows``, if they are kept (see `cache`). In the first ``probing`` epochs only ``head`` moves, and all else is as
    frozen as with ``frozen``.
    """

    model: MultiTaskModel
    rows: RowSource
    trained: Sequence[nn.Parameter]
    streams: Streams
    device: torch.device
    frozen: bool = False
    loss: Loss | None = None
    balance: Balancer | None = None
    cached: FrozenRows | None = field(default=None, repr=False)
    head: Sequence[nn.Parameter] = ()
    probing: int = 0

    def __post_init__(self) -> None:
        self._modules = self._holding(self.trained)

    def _holding(self, parameters: Sequence[nn.Parameter]) -> list[nn.Module]:
        """The modules that hold one of the parameters and no other."""
        moving = {id(parameter) for parameter in parameters}
        return [
            module
            for module in self.model.modules()
            if (own := list(module.parameters())) and all(id(parameter) in moving for parameter in own)
        ]

    def begin_epoch(self, number: int) -> None:
        """Called before the steps of an epoch, counted from 1: what moves in it, and the modules' modes."""
        if self.probing:
            probes = number <= self.probing
            moving = self.head if probes else self.trained
            identities = {id(parameter) for parameter in moving}
            for parameter in self.model.parameters():
                parameter.requires_grad_(id(parameter) in identities)
            self.frozen, self._modules = probes, self._holding(moving)
            if not probes:
                self.cached = None
            elif self.cached is None:
                self.cache()
        self.training_mode()

    def cache(self) -> None:
        """Compute the frozen part's outputs once, where the model separates them and they fit."""
        assert isinstance(self.rows, DataRows)
        self.model.eval()
        self.cached = cache_features(self.model, self.rows)

    def forward(self, batch: Batch) -> Mapping[str, Tensor]:
        """Outputs of the whole model, or of the new task's head on cached features."""
        with left_alone(batch, self.model):
            return self.model.forward_new(batch.features) if isinstance(batch, FrozenBatch) else self.model(batch)

    def terms(self, batch: Batch, outputs: Mapping[str, Tensor], progress: Progress) -> Mapping[str, Tensor]:
        """Named scalar terms of the loss."""
        return (self.loss or self.model.loss)(batch, outputs, progress)

    def training_mode(self) -> None:
        """Frozen parts stay in evaluation mode: no dropout in a backbone that does not learn."""
        self.model.train(not self.frozen)
        for module in self._modules if self.frozen else ():
            module.train()

    def epoch(self, number: int, batch_size: int) -> Iterator[Batch]:
        """The batches of an epoch (counted from 1) in its own order."""
        rows = self.rows if self.cached is None else self.cached
        return shuffled(rows, batch_size, self.streams.order(number), self.device)

    def step(self, batch: Batch, progress: Progress, optimizer: torch.optim.Optimizer) -> Mapping[str, Tensor]:
        """One step of training on ``batch``; returns the terms of the loss. Raises InputsChanged."""
        with left_alone(batch, self.model):
            return self._step(batch, progress, optimizer)

    def _step(self, batch: Batch, progress: Progress, optimizer: torch.optim.Optimizer) -> Mapping[str, Tensor]:
        if self.model.training_step is not None:
            return self.model.training_step(batch, progress, optimizer)
        optimizer.zero_grad(set_to_none=True)
        if self.balance is None:
            terms = self.terms(batch, self.forward(batch), progress)
            total(terms).backward()
            optimizer.step()
            return terms

        def losses(rows: Batch) -> Mapping[str, Tensor]:
            return self.terms(rows, self.forward(rows), progress)

        terms = self.balance.step(batch, losses)
        optimizer.step()
        self.balance.after_step(batch, losses)
        return terms

    def end_epoch(self, number: int) -> None:
        """Called after the steps of an epoch; leaves the model in evaluation mode."""
        self.model.eval()
        if self.balance is not None:
            self.balance.end_epoch()
        self.model.end_epoch(number, self.rows)

    def warnings(self, kept_epoch: int) -> list[str]:
        """What a reader of the scores has to know: that what method, balancing or arm are about did not act."""
        balance = self.balance.warnings(kept_epoch) if self.balance is not None else []
        unprobed = "nothing was probed: the budget has one epoch, and so this is plain fine-tuning."
        return [*self.model.warnings(kept_epoch), *balance, *([unprobed] if self.head and not self.probing else [])]

    def optimizer(self, learning_rate: float) -> torch.optim.Adam:
        """Of everything that is trained, the balancer's own weights among it."""
        parameters = [*self.trained, *(self.balance.parameters() if self.balance else ())]
        return make_optimizer(self.model, parameters, learning_rate)

    def state(self) -> dict[str, Any]:
        """What an interrupted training needs beside its optimizer."""
        return {
            "model": self.model.state_dict(),
            "training_state": self.model.training_state(),
            "balancing": self.balance.state() if self.balance else {},
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        self.model.load_state_dict(state["model"])
        self.model.load_training_state(state["training_state"])
        if self.balance is not None and "balancing" in state:
            self.balance.load_state(state["balancing"])


def make_optimizer(model: MultiTaskModel, trained: Sequence[nn.Parameter], learning_rate: float) -> torch.optim.Adam:
    """Fused Adam over ``trained``, L2 as weight decay per parameter group (the same gradient as the explicit term)."""
    decay = {id(parameter): coefficient for parameter, coefficient in model.weight_decay() if coefficient}
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in trained:
        groups.setdefault(decay.get(id(parameter), 0.0), []).append(parameter)
    return torch.optim.Adam(
        [{"params": members, "weight_decay": coefficient} for coefficient, members in sorted(groups.items())],
        lr=learning_rate,
        fused=True,
    )


def total(terms: Mapping[str, Tensor]) -> Tensor:
    """Sum of named scalar loss terms."""
    first, *rest = terms.values()
    for term in rest:
        first = first + term
    return first
