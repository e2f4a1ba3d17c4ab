"""What the trainer is compared with: a minimal hand-written loop, and the usual dictionary rows behind a DataLoader.

Both train the very same model objects; they differ from the trainer in how rows reach the model and what the loop does.
"""

import torch
from torch.utils.data import DataLoader, Dataset

from methods.batch import Batch, Progress


def hand_loop(model, categorical, numeric, labels, batch_size, learning_rate=1e-3, forward=None):
    """One epoch with everything in memory, a permutation, an index gather per batch and fused Adam: nothing else."""
    forward = forward or model
    decay = {id(p): c for p, c in model.weight_decay()}
    groups = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups.setdefault(decay.get(id(parameter), 0.0), []).append(parameter)
    optimizer = torch.optim.Adam(
        [{"params": members, "weight_decay": c} for c, members in groups.items()], lr=learning_rate, fused=True
    )
    order = torch.randperm(len(categorical), device=categorical.device)
    steps = -(-len(order) // batch_size)
    for step, index in enumerate(order.split(batch_size)):
        part = {task: label[index] for task, label in labels.items()}
        batch = Batch(categorical[index], numeric[index], part, index)
        optimizer.zero_grad(set_to_none=True)
        loss = sum(model.loss(batch, forward(batch), Progress(1, step, 1, steps)).values())
        loss.backward()
        optimizer.step()
    return loss.item()


class DictionaryRows(Dataset):
    """One dictionary per row, one tensor per feature: how recommendation libraries usually feed a DataLoader."""

    def __init__(self, categorical, numeric, labels):
        self.categorical, self.numeric, self.labels = categorical, numeric, labels

    def __len__(self):
        return len(self.categorical)

    def __getitem__(self, i):
        row = {f"c{j}": value for j, value in enumerate(self.categorical[i])}
        row |= {f"n{j}": value for j, value in enumerate(self.numeric[i])}
        row |= {f"label_{task}": label[i] for task, label in self.labels.items()}
        return row | {"index": i}


def dataloader_loop(model, categorical, numeric, labels, batch_size, learning_rate=1e-3):
    """One epoch of the usual way: DataLoader, explicit L2 over whole tables, plain Adam, ``.item()`` per step."""
    loader = DataLoader(DictionaryRows(categorical, numeric, labels), batch_size=batch_size, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    running = 0.0
    for step, row in enumerate(loader):
        batch = Batch(
            torch.stack([row[f"c{j}"] for j in range(categorical.shape[1])], dim=1),
            torch.stack([row[f"n{j}"] for j in range(numeric.shape[1])], dim=1),
            {task: row[f"label_{task}"] for task in labels},
            row["index"],
        )
        optimizer.zero_grad()
        loss = sum(model.loss(batch, model(batch), Progress(1, step, 1, len(loader))).values())
        loss = loss + sum(c / 2 * (p**2).sum() for p, c in model.weight_decay() if c)
        loss.backward()
        optimizer.step()
        running += loss.item()
    return running
