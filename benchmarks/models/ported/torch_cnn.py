"""A small ResNet."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.models.ported.torch_parts import settled


class Block(nn.Module):
    def __init__(self, inside: int, width: int, stride: int, bug: str = "") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width, eps=1e-2 if bug == "bn_eps" else 1e-5)
        self.act = nn.LeakyReLU(0.01) if bug == "leaky_relu" else nn.ReLU()
        self.short = nn.Conv2d(inside, width, 1, stride=stride, bias=False) if stride > 1 or inside != width else None
        self.short_bn = nn.BatchNorm2d(width) if self.short is not None else None
        self._bug = bug

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if self.short is not None and self.short_bn is not None:
            x = self.short_bn(self.short(x))
        if self._bug == "residual_missing":
            return self.act(y)
        return self.act(x + y)


class Stem(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.act = nn.ReLU()
        self.pool = nn.MaxPool2d(3, 2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.act(self.bn(self.conv(x))))


class ResNet(nn.Module):
    def __init__(self, width: int, depth: int, bug: str) -> None:
        super().__init__()
        self.stem = Stem(width)
        self.blocks = nn.ModuleList(
            [Block(width, width, 1), Block(width, 2 * width, 2, bug)]
            + [Block(2 * width, 2 * width, 1) for _ in range(depth - 2)]
        )
        self.pool = nn.AvgPool2d(3, 2, padding=1)
        self.flatten = nn.Flatten()
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(2 * width * 4, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        for block in self.blocks:
            x = block(x)
        return self.fc(self.drop(self.flatten(self.pool(x))))


def build(
    width: int = 8, depth: int = 3, training: bool = True, bug: str = "", seed: int = 0, channels_last: bool = False
) -> nn.Module:
    """`channels_last` changes the memory layout, and so the order of sums."""
    torch.manual_seed(seed)
    model = settled(ResNet(width, depth, bug), seed, training)
    model.get_submodule("drop").p = 0.0 if training else 0.5  # pyright: ignore
    return model.to(memory_format=torch.channels_last) if channels_last else model
