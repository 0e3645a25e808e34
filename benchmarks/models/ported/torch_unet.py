"""A small U-Net of diffusion: GroupNorm, a time embedding, strided convolutions down, interpolation up, skips."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.models.ported.torch_parts import settled


class Time(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.fc = nn.Linear(width, width)

    def forward(self, t: Tensor) -> Tensor:
        half = self.width // 2
        kind = torch.float64 if t.dtype == torch.float64 else torch.float32
        rates = torch.exp(torch.arange(half, dtype=kind) * (-math.log(1000.0) / half))
        angles = t[:, None] * rates.to(t.dtype)
        return self.fc(torch.cat([angles.cos(), angles.sin()], -1))


class Block(nn.Module):
    def __init__(self, inside: int, width: int, time: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(4, inside, eps=1e-5)
        self.act = nn.SiLU()
        self.conv = nn.Conv2d(inside, width, 3, padding=1)
        self.time = nn.Linear(time, width)
        self.short = nn.Conv2d(inside, width, 1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        y = self.conv(self.act(self.norm(x))) + self.time(t)[:, :, None, None]
        return (self.short(x) + y) * 0.7071


class Down(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Up(nn.Module):
    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        corners = False if self.mode in ("bilinear", "bicubic") else None
        return F.interpolate(x, scale_factor=2.0, mode=self.mode, align_corners=corners)


class UNet(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.time = Time(16)
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.down0, self.pool0 = Block(width, width, 16), Down(width)
        self.down1, self.pool1 = Block(width, 2 * width, 16), Down(2 * width)
        self.middle = Block(2 * width, 2 * width, 16)
        self.up1, self.join1 = Up("nearest"), Block(4 * width, width, 16)
        self.up0, self.join0 = Up("bilinear"), Block(2 * width, width, 16)
        self.out = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, image: Tensor, t: Tensor) -> Tensor:
        t = self.time(t)
        first = self.down0(self.stem(image), t)
        second = self.down1(self.pool0(first), t)
        x = self.middle(self.pool1(second), t)
        x = self.join1(torch.cat([self.up1(x), second], 1), t)
        x = self.join0(torch.cat([self.up0(x), first], 1), t)
        return self.out(x)


def build(width: int = 8, training: bool = True, seed: int = 0, channels_last: bool = False) -> nn.Module:
    torch.manual_seed(seed)
    model = settled(UNet(width), seed, training)
    return model.to(memory_format=torch.channels_last) if channels_last else model  # pyright: ignore
