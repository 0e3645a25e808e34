"""The models of PaDiff's documentation, written anew, in paddle. Names are those of its examples."""

from __future__ import annotations

from typing import Any

import paddle
from paddle import nn


class SimpleLayer(nn.Layer):
    """linear1 alone; `wrong` adds that much to the output, in the model's own code."""

    def __init__(self, inputs: int = 100, outputs: int = 10, wrong: float = 0.0) -> None:
        super().__init__()
        self.linear1 = nn.Linear(inputs, outputs)
        self.wrong = wrong

    def forward(self, x: Any) -> Any:
        x = self.linear1(x)
        return x + self.wrong if self.wrong else x


class Residual(nn.Layer):
    """The tutorial's: linear1, an activation, the sum with the input, linear2."""

    def __init__(self, width: int = 20, act: nn.Layer | None = None) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, width)
        self.linear2 = nn.Linear(width, 10)
        self.act = act or nn.ReLU()

    def forward(self, x: Any) -> Any:
        return self.linear2(self.act(self.linear1(x)) + x)


class Attention(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiHeadAttention(16, 2)

    def forward(self, q: Any, k: Any, v: Any) -> Any:
        return self.attn(q, k, v)


class Queries(nn.Layer):
    """Queries that are an embedding here and a parameter in torch (PaDiff's FAQ)."""

    def __init__(self) -> None:
        super().__init__()
        self.query_embed = nn.Embedding(6, 16)
        self.proj = nn.Linear(16, 4)

    def forward(self, x: Any) -> Any:
        weight = self.query_embed.weight
        return self.proj(x @ weight.t() @ weight)


class Ordered(nn.Layer):
    """Two linears of one shape, defined k first (torch: q first)."""

    def __init__(self) -> None:
        super().__init__()
        self.k = nn.Linear(8, 8)
        self.q = nn.Linear(8, 8)

    def forward(self, x: Any) -> Any:
        return self.q(x) * nn.functional.sigmoid(self.k(x))


class Own(nn.Layer):
    """A layer whose inside is laid out as in no other framework: the parameters are split otherwise than in torch."""

    def __init__(self) -> None:
        super().__init__()
        self.top = self.create_parameter([2, 8])
        self.bottom = self.create_parameter([2, 8])
        self.shift = self.create_parameter([8])

    def forward(self, x: Any) -> Any:
        return x @ paddle.concat([self.top, self.bottom]) + self.shift


class WithOwn(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.own = Own()

    def forward(self, x: Any) -> Any:
        return self.own(self.first(x))


class NoParameters(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU()

    def forward(self, x: Any) -> Any:
        return self.relu(x)


class Dropping(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Any) -> Any:
        return self.drop(self.fc(x))


class ApiCalls(nn.Layer):
    """Functional calls between layers; `wrong` takes another activation."""

    def __init__(self, wrong: bool = False) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.wrong = wrong

    def forward(self, x: Any) -> Any:
        hidden = nn.functional.relu(self.fc(x))
        hidden = nn.functional.gelu(hidden) if self.wrong else nn.functional.silu(hidden)
        return hidden + x


def simple(**options: Any) -> nn.Layer:
    paddle.seed(1)
    return SimpleLayer(**options)


def residual(act: str = "ReLU", width: int = 20) -> nn.Layer:
    paddle.seed(1)
    return Residual(width, getattr(nn, act)())


def mean_square(outputs: Any) -> Any:
    return (outputs**2).mean()
