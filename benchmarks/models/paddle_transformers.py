"""The port of torch_transformers.py: the same BERT and decoder in paddle."""

from __future__ import annotations

import math

import paddle
from paddle import Tensor, nn


class Attention(nn.Layer):
    """Softmax attention with separate projections; causal where asked for."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(0.0)
        self._heads = heads
        self._causal = causal

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        shape = [batch, length, self._heads, width // self._heads]
        q, k, v = (layer(x).reshape(shape).transpose([0, 2, 1, 3]) for layer in (self.query, self.key, self.value))
        scores = paddle.matmul(q, k, transpose_y=True) / math.sqrt(width // self._heads)
        if self._causal:
            scores = scores + paddle.triu(paddle.full([length, length], float("-inf"), dtype=x.dtype), 1)
        mixed = paddle.matmul(self.dropout(nn.functional.softmax(scores, -1)), v)
        return self.out(mixed.transpose([0, 2, 1, 3]).reshape([batch, length, width]))


class Mlp(nn.Layer):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 4 * width)
        self.act = nn.GELU()
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.act(self.up(x)))


class Block(nn.Layer):
    """Normalises after each half as BERT does, or before it as GPT does."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.attention = Attention(width, heads, causal)
        self.norm1 = nn.LayerNorm(width, epsilon=1e-5)
        self.mlp = Mlp(width)
        self.norm2 = nn.LayerNorm(width, epsilon=1e-5)
        self.dropout = nn.Dropout(0.0)
        self._first = causal

    def forward(self, x: Tensor) -> Tensor:
        if self._first:
            x = x + self.dropout(self.attention(self.norm1(x)))
            return x + self.dropout(self.mlp(self.norm2(x)))
        x = self.norm1(x + self.dropout(self.attention(x)))
        return self.norm2(x + self.dropout(self.mlp(x)))


class Bert(nn.Layer):
    """Token ids [N, T] to hidden states [N, T, width]."""

    def __init__(self, layers: int, width: int, heads: int, vocabulary: int, length: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(length, width)
        self.norm = nn.LayerNorm(width, epsilon=1e-5)
        self.dropout = nn.Dropout(0.0)
        self.blocks = nn.LayerList([Block(width, heads, causal=False) for _ in range(layers)])

    def forward(self, ids: Tensor) -> Tensor:
        x = self.dropout(self.norm(self.words(ids) + self.positions(paddle.arange(ids.shape[1]))))
        for block in self.blocks:
            x = block(x)
        return x


class Decoder(nn.Layer):
    """Token ids [N, T] to scores [N, T, vocabulary]; the head is a Linear of its own."""

    def __init__(self, layers: int, width: int, heads: int, vocabulary: int, length: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(length, width)
        self.blocks = nn.LayerList([Block(width, heads, causal=True) for _ in range(layers)])
        self.norm = nn.LayerNorm(width, epsilon=1e-5)
        self.lm_head = nn.Linear(width, vocabulary, bias_attr=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids) + self.positions(paddle.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.lm_head(self.norm(x))


def bert(
    layers: int = 12, width: int = 768, heads: int = 12, vocabulary: int = 30522, length: int = 512, seed: int = 0
) -> nn.Layer:
    paddle.seed(seed)
    return Bert(layers, width, heads, vocabulary, length)


def decoder(
    layers: int = 24, width: int = 1024, heads: int = 16, vocabulary: int = 32000, length: int = 1024, seed: int = 0
) -> nn.Layer:
    paddle.seed(seed)
    return Decoder(layers, width, heads, vocabulary, length)
