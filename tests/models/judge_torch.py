"""Layers for the judge, each run by itself, in torch; judge_paddle.py has the same ones. `faulty` plants bugs."""

from __future__ import annotations

import torch
from torch import nn


class Rope(nn.Module):
    """Rotary positions; the table is computed in the input's dtype, or in float32 as many libraries do."""

    def __init__(self, float32: bool) -> None:
        super().__init__()
        self._float32 = float32

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dtype = torch.float32 if self._float32 else x.dtype
        half = x.shape[-1] // 2
        frequencies = 10000.0 ** (-torch.arange(half, dtype=dtype) / half)
        angles = torch.outer(torch.arange(x.shape[1], dtype=dtype), frequencies)
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        one, other = x[..., :half], x[..., half:]
        return torch.cat([one * cos - other * sin, other * cos + one * sin], -1)


class Mix(nn.Module):
    """A product with a matrix, in bfloat16 where `low`."""

    def __init__(self, low: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, 16) / 4)
        self._low = low

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self._low:
            return (x.bfloat16() @ self.weight.bfloat16()).to(x.dtype)
        return x @ self.weight


class Rms(nn.Module):
    def __init__(self, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(16))
        self._eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self._eps))


class Layers(nn.Module):
    def __init__(self, faulty: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(16, eps=1e-6 if faulty else 1e-5)
        self.rms = Rms(1e-6 if faulty else 1e-5)
        self.rope = Rope(float32=faulty)
        self.mix = Mix(low=faulty)
        self.gelu = nn.GELU("tanh" if faulty else "none")
        self.linear = nn.Linear(16, 16)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.lstm = nn.LSTM(16, 16, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 16))
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.maxpool = nn.MaxPool2d(2)
        self.avgpool = nn.AvgPool2d(3, 2)
        self.group = nn.GroupNorm(2, 8)
        self.instance = nn.InstanceNorm2d(8, affine=True)
        self.softmax = nn.Softmax(-1)

    def forward(self, x: torch.Tensor, image: torch.Tensor) -> list[torch.Tensor]:
        plain = [self.norm, self.rms, self.rope, self.mix, self.gelu, self.linear, self.mlp, self.softmax]
        found = [layer(x) for layer in plain]
        found += [self.attention(x, x, x, need_weights=False)[0], self.lstm(x)[0]]
        h = self.bn(self.conv(image))
        return [*found, self.maxpool(h), self.avgpool(h), self.group(h), self.instance(h)]


def build(faulty: bool = False, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return Layers(faulty)
