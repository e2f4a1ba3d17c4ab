"""The warm-up of Learning without forgetting: the new task's own parameters first, everything else as it is."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from benchmark.spec.budget import Budget
from benchmark.training.learner import Learner
from methods.batch import Progress


def warm_up(learner: Learner, tasks: Sequence[str], budget: Budget, epochs: int) -> int:
    """Train what belongs to ``tasks`` alone for some epochs; returns how many parameters that are.

    Batch size, learning rate and order of rows are the run's. Everything else stays bit for bit. The last epoch's
    weights are kept. A method that adds nothing of a task's own (by `parameter_roles`) has nothing to warm up.
    """
    model = learner.model
    roles = model.parameter_roles()
    own = [parameter for task in tasks for parameter in roles.get(f"task:{task}", [])]
    if not own or not epochs:
        return 0
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    moving = {id(parameter) for parameter in own}
    for parameter in trainable:
        parameter.requires_grad_(id(parameter) in moving)
    head = Learner(model, learner.rows, own, learner.streams, learner.device, frozen=True)
    head.cache()
    optimizer = head.optimizer(budget.learning_rate)
    steps = -(-len(learner.rows) // budget.batch_size)
    for number in range(1, epochs + 1):
        head.training_mode()
        torch.manual_seed(learner.streams.noise(number))
        for position, batch in enumerate(head.epoch(number, budget.batch_size)):
            head.step(batch, Progress(number, position, epochs, steps), optimizer)
    for parameter in trainable:
        parameter.requires_grad_(True)
    model.zero_grad(set_to_none=True)
    return sum(parameter.numel() for parameter in own)
