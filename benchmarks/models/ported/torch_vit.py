"""A small vision transformer with layer scale."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.models.ported.torch_parts import LayerNorm, attend, settled


class Embed(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, 4, stride=4)
        self.cls = nn.Parameter(torch.randn(1, 1, width))
        self.position = nn.Parameter(0.2 * torch.randn(1, 17, width))

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch(image).flatten(2).transpose(1, 2)
        return torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.position


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, eager: bool) -> None:
        super().__init__()
        self.heads, self.eager = heads, eager
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(attend(q, k, v, eager=self.eager).transpose(1, 2).reshape(batch, length, width))


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class Scale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(0.7 * torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    def __init__(self, width: int, heads: int, eager: bool) -> None:
        super().__init__()
        self.norm1 = LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads, eager)
        self.scale1 = Scale(width)
        self.norm2 = LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width)
        self.scale2 = Scale(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.scale1(self.attn(self.norm1(x)))
        return x + self.scale2(self.mlp(self.norm2(x)))


class First(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0]


class ViT(nn.Module):
    def __init__(self, width: int, depth: int, heads: int, eager: bool) -> None:
        super().__init__()
        self.embed = Embed(width)
        self.blocks = nn.ModuleList([Block(width, heads, eager) for _ in range(depth)])
        self.norm = LayerNorm(width, eps=1e-6)
        self.pool = First()
        self.head = nn.Linear(width, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.embed(image)
        for block in self.blocks:
            x = block(x)
        return self.head(self.pool(self.norm(x)))


def build(
    width: int = 32, depth: int = 3, heads: int = 4, training: bool = True, seed: int = 0, eager: bool = False
) -> nn.Module:
    torch.manual_seed(seed)
    model = ViT(width, depth, heads, eager)
    for layer in model.modules():
        if isinstance(layer, LayerNorm):
            layer.eager = eager
    return settled(model, seed, training)
