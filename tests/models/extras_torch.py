"""A network in torch whose twin in paddle has more than it: a pooler, InstanceNorm's scale and shift, unused statistics."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class LoRA(nn.Module):
    """A Linear with a low-rank adapter, as a wrapper."""

    def __init__(self, size: int, rank: int = 4) -> None:
        super().__init__()
        self.base_layer = nn.Linear(size, size)
        self.lora_A = nn.ModuleDict({"default": nn.Linear(size, rank, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(rank, size, bias=False)})
        for parameter in self.base_layer.parameters():
            parameter.requires_grad = False

    def forward(self, x: Any) -> Any:
        return self.base_layer(x) + self.lora_B["default"](self.lora_A["default"](x)) * 2.0


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 8, 3)
        self.bn = nn.BatchNorm1d(8, affine=False, track_running_stats=False)
        self.norm = nn.InstanceNorm1d(8)
        self.adapted = LoRA(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Any) -> Any:
        hidden = torch.tanh(self.norm(torch.tanh(self.bn(self.conv(x)))))
        hidden = self.adapted(hidden.transpose(1, 2)).mean(1)
        return (self.head(hidden),)


def build(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return Net()
