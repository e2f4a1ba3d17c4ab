"""The file that ``run_all.py new-method NAME`` writes: a complete method, to be changed, and its test."""

from __future__ import annotations

import re
from pathlib import Path

from benchmark.core.errors import UsageError
from methods import METHODS

METHOD = '''"""{title}: say what the method does, in which paper, and where you deviate."""

from dataclasses import dataclass

from torch import nn

from methods.base import MultiTaskModel, register_method
from methods.layers import MLP, FeatureEmbedding, Tower


@register_method("{name}", title="{title}", paper="Authors, Title, Venue Year")
class {class_name}(MultiTaskModel):
    """One shared network, one tower per task. Change this into your method."""

    @dataclass(frozen=True)
    class Config:
        embedding_dim: int = 4
        hidden: tuple[int, ...] = (256, 128)
        tower: tuple[int, ...] = (64, 32)
        l2_embedding: float = 3e-4
        l2_dnn: float = 3e-4

    def __init__(self, schema, tasks, config):  # no data is seen here
        super().__init__(schema, tasks, config)
        self.embed = FeatureEmbedding(schema, config.embedding_dim)
        self.shared = MLP(self.embed.width, config.hidden)
        self.towers = nn.ModuleDict({{task.name: Tower(config.hidden[-1], config.tower) for task in tasks}})

    def forward(self, batch):  # {{task name: logits [B]}}
        shared = self.shared(self.embed(batch))
        return {{name: tower(shared) for name, tower in self.towers.items()}}

    def add_task(self, task):  # returns what the frozen arm trains
        self.towers[task.name] = Tower(self.config.hidden[-1], self.config.tower)
        return [self.towers[task.name]]
'''

TEST = '''"""{title} keeps its promises: `python -m pytest {test_file}` or `run_all.py check-method {file}`."""

from pathlib import Path

from methods import METHODS
from benchmark.kit.check_method import check

FILE = Path(__file__).with_name("{file}")


def test_conforms():
    METHODS.load_file(FILE)
    failed = [f"{{c.name}}: {{c.reason}} ({{c.hint}})" for c in check(METHODS.get("{name}")) if c.passed is False]
    assert not failed, "\\n".join(failed)
'''


def new_method(name: str, directory: str | Path) -> tuple[Path, Path]:
    """Write ``directory``/NAME.py and test_NAME.py; returns both. UsageError for a bad name or existing files."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UsageError(f"A method's name is small letters, digits and '_', not {name!r}.")
    if name in METHODS:
        raise UsageError(f"There is a method '{name}' already: {METHODS.file(name)}.")
    words = {
        "name": name,
        "title": name.replace("_", " ").title(),
        "class_name": "".join(part.capitalize() for part in name.split("_")),
        "file": f"{name}.py",
        "test_file": f"test_{name}.py",
    }
    paths = Path(directory) / words["file"], Path(directory) / words["test_file"]
    for path in paths:
        if path.exists():
            raise UsageError(f"{path} exists; nothing was written.")
    Path(directory).mkdir(parents=True, exist_ok=True)
    for path, text in zip(paths, (METHOD, TEST), strict=True):
        path.write_text(text.format(**words), encoding="utf-8")
    return paths
