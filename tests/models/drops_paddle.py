"""The small ViT of drops_torch, in paddle, and faults beside its dropouts."""

from __future__ import annotations

import math

import paddle
from paddle import Tensor, nn
from paddle.nn import functional as F

WIDTH, HEADS, PATCH = 32, 4, 4


class Attention(nn.Layer):
    def __init__(self, rate: float, fault: str) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)
        self.attn_drop = nn.Dropout(rate)
        self.proj_drop = nn.Identity() if fault == "missing" else nn.Dropout(rate)
        self.scale = math.sqrt(WIDTH // HEADS) * (1.001 if fault == "scale" else 1.0)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        query, key, value = (
            self.qkv(x).reshape([batch, tokens, 3, HEADS, WIDTH // HEADS]).transpose([2, 0, 3, 1, 4]).unbind(0)
        )
        weights = self.attn_drop(F.softmax(query @ key.transpose([0, 1, 3, 2]) / self.scale, -1))
        return self.proj_drop(self.proj((weights @ value).transpose([0, 2, 1, 3]).reshape([batch, tokens, WIDTH])))


class FeedForward(nn.Layer):
    def __init__(self, rate: float, fault: str) -> None:
        super().__init__()
        self.fc1 = nn.Linear(WIDTH, 2 * WIDTH)
        self.act = nn.ReLU()
        mode = "downscale_in_infer" if fault == "downscale" else "upscale_in_train"
        self.drop1 = nn.Dropout({"rate": 0.3, "near": 0.11}.get(fault, rate), mode=mode)
        self.fc2 = nn.Linear(2 * WIDTH, WIDTH)
        self.drop2 = nn.Dropout(rate)
        self._fault = fault

    def forward(self, x: Tensor) -> Tensor:
        if self._fault == "place":
            return self.drop2(self.fc2(self.act(self.drop1(self.fc1(x) + 0.5) - 0.5)))
        if self._fault == "functional":
            return F.dropout(self.fc2(self.drop1(self.act(self.fc1(x)))), 0.1, training=self.training)
        if self._fault == "twice":
            return self.drop2(self.drop2(self.fc2(self.drop1(self.act(self.fc1(x))))))
        return self.drop2(self.fc2(self.drop1(self.act(self.fc1(x)))))


class Block(nn.Layer):
    def __init__(self, rate: float, fault: str) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.attn = Attention(rate, fault)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.mlp = FeedForward(rate, fault)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Layer):
    def __init__(self, rate: float, fault: str) -> None:
        super().__init__()
        self.patch = nn.Conv2D(3, WIDTH, PATCH, PATCH)
        self.channels = nn.Dropout2D(rate)
        self.drop = nn.Dropout(rate)
        self.blocks = nn.LayerList([Block(rate, fault if at == 1 else "") for at in range(3)])
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.channels(self.patch(x)).flatten(2).transpose([0, 2, 1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


def vit(rate: float = 0.1, fault: str = "") -> ViT:
    """Plant a fault in block 1: missing, rate, near (0.11 for 0.1), downscale, place, functional, twice, eval or scale."""
    paddle.seed(0)
    model = ViT(rate, fault)
    if fault == "eval":
        model.blocks[1].mlp.drop1.eval()
    return model
