"""A small ViT, in torch, with dropout after its positions, in its attention, and on both sides of its feed-forward's ReLU."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

WIDTH, HEADS, PATCH = 32, 4, 4


class Attention(nn.Module):
    def __init__(self, rate: float) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)
        self.attn_drop = nn.Dropout(rate)
        self.proj_drop = nn.Dropout(rate)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        query, key, value = self.qkv(x).reshape(batch, tokens, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        weights = self.attn_drop(torch.softmax(query @ key.transpose(-2, -1) / math.sqrt(WIDTH // HEADS), -1))
        return self.proj_drop(self.proj((weights @ value).transpose(1, 2).reshape(batch, tokens, WIDTH)))


class FeedForward(nn.Module):
    def __init__(self, rate: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(WIDTH, 2 * WIDTH)
        self.act = nn.ReLU()
        self.drop1 = nn.Dropout(rate)
        self.fc2 = nn.Linear(2 * WIDTH, WIDTH)
        self.drop2 = nn.Dropout(rate)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop2(self.fc2(self.drop1(self.act(self.fc1(x)))))


class Block(nn.Module):
    def __init__(self, rate: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.attn = Attention(rate)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.mlp = FeedForward(rate)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    def __init__(self, rate: float) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.channels = nn.Dropout2d(rate)
        self.drop = nn.Dropout(rate)
        self.blocks = nn.ModuleList([Block(rate) for _ in range(3)])
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.channels(self.patch(x)).flatten(2).transpose(1, 2))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


def vit(rate: float = 0.1) -> ViT:
    torch.manual_seed(0)
    return ViT(rate)
