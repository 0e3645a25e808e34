"""The twin in paddle of the network in extras_torch.py, with all that paddle or its author adds."""

from __future__ import annotations

from typing import Any

import paddle
from paddle import nn
from paddle.nn import functional as F


class LoRA(nn.Linear):
    """A Linear with a low-rank adapter, as parameters of its own."""

    def __init__(self, size: int, rank: int, scaling: float) -> None:
        super().__init__(size, size)
        self.lora_A = self.create_parameter([size, rank])
        self.lora_B = self.create_parameter([rank, size])
        self.scaling = scaling
        self.weight.stop_gradient = True
        self.bias.stop_gradient = True

    def forward(self, x: Any) -> Any:
        return F.linear(x, self.weight, self.bias) + (x @ self.lora_A @ self.lora_B) * self.scaling


class Net(nn.Layer):
    def __init__(self, scaling: float, statistics: bool, scale: float) -> None:
        super().__init__()
        self.conv = nn.Conv1D(4, 8, 3)
        unused = None if statistics else False
        self.bn = nn.BatchNorm1D(8, weight_attr=False, bias_attr=False, use_global_stats=unused)
        self.norm = nn.InstanceNorm1D(8, weight_attr=nn.initializer.Constant(scale))
        self.adapted = LoRA(8, 4, scaling)
        self.head = nn.Linear(8, 5)
        self.pooler = nn.Sequential(nn.Linear(8, 8), nn.Tanh())

    def forward(self, x: Any) -> Any:
        hidden = paddle.tanh(self.norm(paddle.tanh(self.bn(self.conv(x)))))
        hidden = self.adapted(hidden.transpose([0, 2, 1])).mean(1)
        return self.head(hidden), self.pooler(hidden)


def build(seed: int = 1, scaling: float = 2.0, statistics: bool = False, scale: float = 1.0) -> nn.Layer:
    """Build it; `scaling` of the adapter, `scale` of the norm, and `statistics` that are used are faults to plant."""
    paddle.seed(seed)
    return Net(scaling, statistics, scale)
