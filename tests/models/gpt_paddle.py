"""The port of gpt_torch.py. Its head is a matrix product with the embedding's weight, and its outputs come in another order."""

from __future__ import annotations

import math

import paddle
from paddle import nn


class Attention(nn.Layer):
    def __init__(self, width: int, heads: int, bug: str) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.heads = heads
        self._bug = bug

    def forward(self, x, mask):
        batch, length, width = x.shape
        shape = [batch, length, 3, self.heads, width // self.heads]
        q, k, v = self.qkv(x).reshape(shape).transpose([2, 0, 3, 1, 4]).unbind(0)
        scores = paddle.matmul(q, k, transpose_y=True)
        if self._bug != "no_scale":
            scores = scores / math.sqrt(width // self.heads)
        if self._bug != "no_mask":
            scores = scores + mask
        weights = nn.functional.softmax(scores, -1)
        return self.proj(paddle.matmul(weights, v).transpose([0, 2, 1, 3]).reshape([batch, length, width])), weights


class Block(nn.Layer):
    def __init__(self, width: int, bug: str) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(width, epsilon=1e-3 if bug == "eps" else 1e-5)
        self.attn = Attention(width, 4, bug)
        self.ln2 = nn.LayerNorm(width)
        act = nn.GELU(approximate=bug == "tanh")
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), act, nn.Linear(4 * width, width))
        self._bug = bug

    def forward(self, x, adapter, mask):
        attended, weights = self.attn(self.ln1(x), mask)
        x = x + adapter(attended)
        if self._bug == "no_residual":
            return self.mlp(self.ln2(x)), {"weights": weights}
        return x + self.mlp(self.ln2(x)), {"weights": weights}


class GPT(nn.Layer):
    def __init__(self, depth: int, width: int, vocabulary: int, bugs: dict[str, str]) -> None:
        super().__init__()
        self.emb = nn.Embedding(vocabulary, width)
        self.pos = nn.Embedding(64, width)
        self.adapter = nn.Linear(width, width)
        self.blocks = nn.LayerList([Block(width, bugs.get(str(i), "")) for i in range(depth)])
        self.ln = nn.LayerNorm(width)

    def forward(self, ids):
        length = ids.shape[1]
        x = self.emb(ids) + self.pos(paddle.arange(length))
        mask = paddle.triu(paddle.full([length, length], float("-inf"), dtype=x.dtype), 1)
        for block in self.blocks:
            x, _ = block(x, self.adapter, mask=mask)
        return {"hidden": x, "logits": paddle.matmul(self.ln(x), self.emb.weight, transpose_y=True)}


def build(
    seed: int = 0, depth: int = 3, width: int = 32, vocabulary: int = 50, bugs: dict[str, str] | None = None
) -> nn.Layer:
    paddle.seed(seed)
    return GPT(depth, width, vocabulary, bugs or {})
