"""Layers for the judge, each run by itself, in paddle; judge_torch.py has the same ones. `faulty` plants bugs."""

from __future__ import annotations

from typing import Any

import paddle
from paddle import nn


class Rope(nn.Layer):
    def __init__(self, float32: bool) -> None:
        super().__init__()
        self._in_float32 = float32

    def forward(self, x: Any) -> Any:
        dtype = "float32" if self._in_float32 else x.dtype
        half = x.shape[-1] // 2
        base = paddle.full([], 10000.0, dtype)
        frequencies = base ** (-paddle.arange(half).astype(dtype) / half)
        angles = paddle.outer(paddle.arange(x.shape[1]).astype(dtype), frequencies)
        cos, sin = angles.cos().astype(x.dtype), angles.sin().astype(x.dtype)
        one, other = x[..., :half], x[..., half:]
        return paddle.concat([one * cos - other * sin, other * cos + one * sin], -1)


class Mix(nn.Layer):
    def __init__(self, low: bool) -> None:
        super().__init__()
        self.weight = self.create_parameter([16, 16])
        self._low = low

    def forward(self, x: Any) -> Any:
        if self._low:
            # Paddle has no product of bfloat16 on a CPU; so the operands and the result are rounded to it.
            return _rounded(_rounded(x) @ _rounded(self.weight))
        return x @ self.weight


def _rounded(x: Any) -> Any:
    return x.astype("bfloat16").astype(x.dtype)


class Rms(nn.Layer):
    def __init__(self, eps: float) -> None:
        super().__init__()
        self.weight = self.create_parameter([16], default_initializer=nn.initializer.Constant(1.0))
        self._eps = eps

    def forward(self, x: Any) -> Any:
        return self.weight * (x * paddle.rsqrt(x.square().mean(-1, keepdim=True) + self._eps))


class Layers(nn.Layer):
    def __init__(self, faulty: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(16, epsilon=1e-6 if faulty else 1e-5)
        self.rms = Rms(1e-6 if faulty else 1e-5)
        self.rope = Rope(float32=faulty)
        self.mix = Mix(low=faulty)
        self.gelu = nn.GELU(approximate=faulty)
        self.linear = nn.Linear(16, 16)
        self.attention = nn.MultiHeadAttention(16, 4)
        self.lstm = nn.LSTM(16, 16)
        self.mlp = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 16))
        self.conv = nn.Conv2D(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2D(8)
        self.maxpool = nn.MaxPool2D(2)
        self.avgpool = nn.AvgPool2D(3, 2)
        self.group = nn.GroupNorm(2, 8)
        self.instance = nn.InstanceNorm2D(8)
        self.softmax = nn.Softmax(-1)

    def forward(self, x: Any, image: Any) -> list[Any]:
        plain = [self.norm, self.rms, self.rope, self.mix, self.gelu, self.linear, self.mlp, self.softmax]
        found = [layer(x) for layer in plain]
        found += [self.attention(x, x, x), self.lstm(x)[0]]
        h = self.bn(self.conv(image))
        return [*found, self.maxpool(h), self.avgpool(h), self.group(h), self.instance(h)]


def build(faulty: bool = False, seed: int = 0) -> nn.Layer:
    paddle.seed(seed)
    return Layers(faulty)
