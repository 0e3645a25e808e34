"""The models of PaDiff's documentation, written anew, in torch. Names are those of its examples."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class SimpleModule(nn.Module):
    """linear1 alone; `wrong` adds that much to the output, in the model's own code."""

    def __init__(self, inputs: int = 100, outputs: int = 10, wrong: float = 0.0) -> None:
        super().__init__()
        self.linear1 = nn.Linear(inputs, outputs)
        self.wrong = wrong

    def forward(self, x: Any) -> Any:
        x = self.linear1(x)
        return x + self.wrong if self.wrong else x


class Residual(nn.Module):
    """The tutorial's: linear1, an activation, the sum with the input, linear2."""

    def __init__(self, width: int = 20, act: nn.Module | None = None) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, width)
        self.linear2 = nn.Linear(width, 10)
        self.act = act or nn.ReLU()

    def forward(self, x: Any) -> Any:
        return self.linear2(self.act(self.linear1(x)) + x)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, q: Any, k: Any, v: Any) -> Any:
        return self.attn(q, k, v)[0]


class Queries(nn.Module):
    """Queries that are a parameter here and an embedding in paddle (PaDiff's FAQ)."""

    def __init__(self) -> None:
        super().__init__()
        self.query_embed = nn.Parameter(torch.randn(6, 16))
        self.proj = nn.Linear(16, 4)

    def forward(self, x: Any) -> Any:
        return self.proj(x @ self.query_embed.T @ self.query_embed)


class Ordered(nn.Module):
    """Two linears of one shape, defined q first (paddle: k first)."""

    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(8, 8)
        self.k = nn.Linear(8, 8)

    def forward(self, x: Any) -> Any:
        return self.q(x) * torch.sigmoid(self.k(x))


class Own(nn.Module):
    """A layer whose inside is laid out as in no other framework: weight and bias in one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.packed = nn.Parameter(torch.randn(5, 8))

    def forward(self, x: Any) -> Any:
        return x @ self.packed[:4] + self.packed[4]


class WithOwn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.own = Own()

    def forward(self, x: Any) -> Any:
        return self.own(self.first(x))


class NoParameters(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU()

    def forward(self, x: Any) -> Any:
        return self.relu(x)


class Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Any) -> Any:
        return self.drop(self.fc(x))


class ApiCalls(nn.Module):
    """Functional calls between layers; `wrong` takes another activation."""

    def __init__(self, wrong: bool = False) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.wrong = wrong

    def forward(self, x: Any) -> Any:
        hidden = torch.nn.functional.relu(self.fc(x))
        hidden = torch.nn.functional.gelu(hidden) if self.wrong else torch.nn.functional.silu(hidden)
        return hidden + x


def simple(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    return SimpleModule(**options)


def residual(act: str = "ReLU", width: int = 20) -> nn.Module:
    torch.manual_seed(0)
    return Residual(width, getattr(nn, act)())


def mean_square(outputs: Any) -> Any:
    return (outputs**2).mean()
