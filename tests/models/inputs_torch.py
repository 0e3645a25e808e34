"""A model of two inputs, in torch: forward(x, mask=None)."""

from __future__ import annotations

from typing import Any

from torch import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Any, mask: Any = None) -> Any:
        hidden = self.a(x)
        return self.b(hidden if mask is None else hidden * mask)
