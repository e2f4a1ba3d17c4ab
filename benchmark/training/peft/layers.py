"""Parts behind the linear layers that old and new tasks share: x [B, ..., in] and y = W x + b [B, ..., out] to the
shape of y; a layer that works on tokens has [B, tokens, ...]."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LowRank(nn.Module):
    """y + alpha / rank * B A x with A [rank, in], B [out, rank]; B starts at zero (Hu et al., section 4.1)."""

    def __init__(self, layer: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.scale = alpha / rank
        self.down = nn.Linear(layer.in_features, rank, bias=False)
        self.up = nn.Linear(rank, layer.out_features, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return y + self.scale * self.up(self.down(x))


class Bottleneck(nn.Module):
    """y + U relu(D y), width ``width`` in between; U and its bias start at zero (Houlsby et al., section 2.1)."""

    def __init__(self, out: int, width: int) -> None:
        super().__init__()
        self.down = nn.Linear(out, width)
        self.up = nn.Linear(width, out)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return y + self.up(torch.relu(self.down(y)))


class Shift(nn.Module):
    """y + b: the new task's own biases, starting from the old ones (Ben Zaken et al.)."""

    def __init__(self, out: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(out))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return y + self.bias


class Scale(nn.Module):
    """l * y, one factor per feature, 1 at the start (Liu et al., (IA)3, section 3.3).

    The paper scales keys, values (outputs of linear layers, as here) and the hidden values of feed-forward layers; on
    a network of linear layers and ReLUs all of them are the layers' outputs, and a factor above 0 before a ReLU is the
    same as one behind it.
    """

    def __init__(self, out: int) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(out))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.factor * y


class FeatureWise(nn.Module):
    """gamma * y + beta, one pair per feature, 1 and 0 at the start (Perez et al., FiLM, equation 2).

    What the paper conditions on is here the new task alone, so gamma and beta are its own learnt vectors.
    """

    def __init__(self, out: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(out))
        self.beta = nn.Parameter(torch.zeros(out))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.addcmul(self.beta, self.gamma, y)
