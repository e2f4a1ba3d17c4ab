"""Small schemas, rows and a plain training loop for tests of methods."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from benchmark.core.seeding import stream_seed
from datasets_registry.schema import CategoricalFeature, Schema, Task
from methods import METHODS
from methods.base import MultiTaskModel
from methods.batch import Batch, Progress

SCHEMA = Schema(
    (CategoricalFeature("user", 20, reserved=1), CategoricalFeature("item", 30), CategoricalFeature("tags", 9, 1, 3)),
    ("age", "price"),
)
SMALL = {
    "hidden": (8, 6),
    "tower": (5,),
    "levels": (8, 6),
}


class ToyRows:
    """Rows whose labels follow from the inputs; every task has its own weights."""

    def __init__(self, tasks: Sequence[Task], rows: int = 512, schema: Schema = SCHEMA, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        columns = [
            torch.randint(feature.size, (rows,), generator=generator, dtype=torch.int32) + offset
            for feature, offset in zip(schema.categorical, schema.offsets, strict=True)
            for _ in range(feature.length)
        ]
        self.categorical = torch.stack(columns, 1) if columns else torch.empty(rows, 0, dtype=torch.int32)
        self.numeric = torch.rand(rows, len(schema.numeric), generator=generator)
        self.labels = {}
        for task in tasks:
            own = torch.Generator().manual_seed(stream_seed("toy", task.name))
            effects = torch.randn(max(schema.embedding_rows, 1), generator=own)
            slopes = torch.randn(len(schema.numeric), generator=own)
            score = effects[self.categorical.long()].sum(1) + self.numeric @ slopes
            score = score - score.mean()
            label = score if task.kind == "regression" else (score > 0).float()
            if task.partial:
                label = torch.where(torch.arange(rows) % 3 == 0, torch.nan, label)
            self.labels[task.name] = label

    def __len__(self) -> int:
        return len(self.categorical)

    def take(self, index: Tensor) -> Batch:
        labels = {name: label[index] for name, label in self.labels.items()}
        return Batch(self.categorical[index], self.numeric[index], labels, index)

    def batches(self, size: int) -> Iterator[Batch]:
        for index in torch.arange(len(self)).split(size):
            yield self.take(index)


def tasks(names: str = "ab") -> list[Task]:
    return [Task(name) for name in names]


def small(name: str, **changes: object) -> object:
    """The method's config with small layers."""
    config = METHODS.get(name).Config
    own = {key: value for key, value in SMALL.items() if hasattr(config(), key)}
    if getattr(config(), "dropout", None):  # rates by layer, of which there are fewer here
        own["dropout"] = ()
    return config(**own | changes)


def build(name: str, of: Sequence[Task], schema: Schema = SCHEMA, seed: int = 0, **changes: object) -> MultiTaskModel:
    """A small model with the weights of the streams that ``seed`` and the module paths name."""
    model = METHODS.get(name)(schema, list(of), small(name, **changes))
    draw(model, seed)
    return model


def draw(model: nn.Module, seed: int, known: frozenset[str] = frozenset()) -> None:
    with torch.random.fork_rng():
        for path, module in reversed(list(model.named_modules())):
            if path not in known and callable(getattr(module, "reset_parameters", None)):
                torch.manual_seed(stream_seed("test", seed, path))
                module.reset_parameters()


def grow(model: MultiTaskModel, task: Task) -> list[nn.Parameter]:
    """Add a task as the harness does for the frozen arm; returns what is trained."""
    known = frozenset(path for path, _ in model.named_modules())
    parts = model.add_task(task)
    model.tasks = (*model.tasks, task)
    draw(model, 0, known | {""})
    model.zero_grad(set_to_none=True)
    trained = [p for part in parts for p in ([part] if isinstance(part, nn.Parameter) else part.parameters())]
    for parameter in model.parameters():
        parameter.requires_grad_(any(parameter is other for other in trained))
    return trained


def random_weights(model: nn.Module, dtype: torch.dtype = torch.float64) -> nn.Module:
    """Biases included, so that a reference which forgets one is found out."""
    model.to(dtype)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=dtype) * 0.3)
    return model


def train_mode(model: MultiTaskModel) -> None:
    """As the harness does: whatever is frozen stays in evaluation mode."""
    model.train(all(parameter.requires_grad for parameter in model.parameters()))
    for module in model.modules():
        own = list(module.parameters())
        if own and all(parameter.requires_grad for parameter in own):
            module.train()


def fit(model: MultiTaskModel, rows: ToyRows, epochs: int = 5, size: int = 64, rate: float = 0.01) -> list[float]:
    """Train everything that requires a gradient; returns the mean loss of each epoch."""
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=rate)
    steps = -(-len(rows) // size)
    model.start_training(rows, torch.Generator().manual_seed(3))
    means = []
    for epoch in range(1, epochs + 1):
        train_mode(model)
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(epoch))
        losses = []
        for step, index in enumerate(order.split(size)):
            batch = rows.take(index)
            optimizer.zero_grad(set_to_none=True)
            loss = sum(model.loss(batch, model(batch), Progress(epoch, step, epochs, steps)).values())
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        means.append(sum(losses) / len(losses))
        model.eval()
        model.end_epoch(epoch, rows)
    return means
