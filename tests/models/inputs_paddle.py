"""The model of inputs_torch.py in paddle, which calls its inputs by other names, or takes them otherwise."""

from __future__ import annotations

from typing import Any

from paddle import nn


class Renamed(nn.Layer):
    """`wrong` scales its output, a fault in its own code."""

    def __init__(self, wrong: float = 1.0) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)
        self.wrong = wrong

    def forward(self, inputs: Any, attn_mask: Any = None) -> Any:
        hidden = self.a(inputs)
        return self.b(hidden if attn_mask is None else hidden * attn_mask) * self.wrong


class PositionalOnly(Renamed):
    def forward(self, inputs: Any, gate: Any, /) -> Any:
        return super().forward(inputs, gate)


class Starred(Renamed):
    def forward(self, *tensors: Any) -> Any:
        return super().forward(*tensors)


class MaskFirst(Renamed):
    def forward(self, mask: Any, inputs: Any) -> Any:
        return super().forward(inputs, mask)


class TwoOptions(Renamed):
    def forward(self, inputs: Any, cache: Any = None, attn_mask: Any = None) -> Any:
        return super().forward(inputs, attn_mask)
