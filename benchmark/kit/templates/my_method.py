"""My Method: say what the method does, in which paper, and where you deviate."""

from dataclasses import dataclass

from torch import nn

from methods.base import MultiTaskModel, register_method
from methods.layers import MLP, FeatureEmbedding, Tower


@register_method("my_method", title="My Method", paper="Authors, Title, Venue Year")
class MyMethod(MultiTaskModel):
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
        self.towers = nn.ModuleDict({task.name: Tower(config.hidden[-1], config.tower) for task in tasks})

    def forward(self, batch):  # {task name: logits [B]}
        shared = self.shared(self.embed(batch))
        return {name: tower(shared) for name, tower in self.towers.items()}

    def add_task(self, task):  # returns what the frozen arm trains
        self.towers[task.name] = Tower(self.config.hidden[-1], self.config.tower)
        return [self.towers[task.name]]
