"""The port of torch_encoder.py in paddle, with the bugs that it may have."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from benchmarks.models.ported.paddle_parts import attend, doubled, mode


class Embeddings(nn.Layer):
    def __init__(self, vocabulary: int, width: int, bug: str) -> None:
        super().__init__()
        self.word = nn.Embedding(vocabulary, width, padding_idx=0 if bug == "padding_idx" else None)
        self.position = nn.Embedding(40, width)
        self.kind = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, epsilon=1e-5 if bug == "layer_norm_eps" else 1e-12)
        self._bug = bug

    def forward(self, ids: Tensor) -> Tensor:
        places = paddle.arange(ids.shape[1])
        kinds = (places >= ids.shape[1] // 2).astype("int64")
        if self._bug == "positions_start_at_2":
            places = places + 2
        if self._bug == "token_types_lost":
            kinds = kinds * 0
        return self.norm(self.word(ids) + self.position(places) + self.kind(kinds))


class Attention(nn.Layer):
    def __init__(self, width: int, heads: int, bug: str) -> None:
        super().__init__()
        self.heads, self._bug = heads, bug
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        batch, length, width = x.shape

        def split(y: Tensor) -> Tensor:
            return y.reshape([batch, length, self.heads, -1]).transpose([0, 2, 1, 3])

        q, k, v = split(self.query(x)), split(self.key(x)), split(self.value(x))
        if self._bug == "query_and_key_swapped":
            q, k = k, q
        if self._bug == "padding_mask_lost":
            mask = mask * 0
        if self._bug == "mask_inverted":
            mask = -10000.0 - mask
        if self._bug == "mask_too_weak":
            mask = mask * 5e-4
        if self._bug == "softmax_in_half":
            scores = paddle.matmul(q, k, transpose_y=True) * q.shape[-1] ** -0.5 + mask
            weights = F.softmax(scores, -1).astype("float16").astype(v.dtype)
            y = paddle.matmul(weights, v)
        elif self._bug == "dropout_on_weights":
            scores = paddle.matmul(q, k, transpose_y=True) * q.shape[-1] ** -0.5 + mask
            y = paddle.matmul(F.dropout(F.softmax(scores, -1), 0.1, training=True), v)
        else:
            y = attend(q, k, v, mask)
        return self.out(y.transpose([0, 2, 1, 3]).reshape([batch, length, width]))


class Mlp(nn.Layer):
    def __init__(self, width: int, bug: str) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.act = nn.ReLU() if bug == "relu_for_gelu" else nn.GELU(approximate=bug == "gelu_tanh")
        self.fc2 = nn.Linear(4 * width, width)
        self._bug = bug

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc2(self.act(self.fc1(x)))
        return doubled(y) if self._bug == "gradient_doubled" else y


class Layer(nn.Layer):
    def __init__(self, width: int, heads: int, bug: str = "") -> None:
        super().__init__()
        self.attn = Attention(width, heads, bug)
        self.norm1 = nn.LayerNorm(width, epsilon=1e-12)
        self.mlp = Mlp(width, bug)
        self.norm2 = nn.LayerNorm(width, epsilon=1e-12)
        self._bug = bug

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.norm1(x + self.attn(x, mask))
        if self._bug == "norm_before_residual":
            return x + self.norm2(self.mlp(x))
        return self.norm2(x + self.mlp(x))


class Pooler(nn.Layer):
    def __init__(self, width: int, bug: str) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self._bug = bug

    def forward(self, x: Tensor) -> Tensor:
        y = self.dense(x[:, 0])
        return y if self._bug == "pooler_without_tanh" else paddle.tanh(y)


class Head(nn.Layer):
    def __init__(self, weight: Tensor, bug: str) -> None:
        super().__init__()
        self.weight = self.create_parameter(weight.shape) if bug == "head_untied" else weight
        self.bias = self.create_parameter([weight.shape[0]], is_bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return paddle.matmul(x, self.weight, transpose_y=True) + self.bias


class Encoder(nn.Layer):
    def __init__(self, vocabulary: int, width: int, depth: int, heads: int, bug: str) -> None:
        super().__init__()
        at = 0 if bug in ("mask_inverted", "query_and_key_swapped", "dropout_on_weights", "gelu_tanh") else 1
        self.embeddings = Embeddings(vocabulary, width, bug)
        self.layers = nn.LayerList([Layer(width, heads, bug * (number == at)) for number in range(depth)])
        self.pooler = Pooler(width, bug)
        self.head = Head(self.embeddings.word.weight, bug)

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embeddings(ids)
        added = (1 - mask.unsqueeze([1, 2])).astype(x.dtype) * -10000.0
        for layer in self.layers:
            x = layer(x, added)
        return self.head(x), self.pooler(x)


def build(
    vocabulary: int = 60,
    width: int = 32,
    depth: int = 3,
    heads: int = 4,
    training: bool = True,
    bug: str = "",
    seed: int = 0,
) -> nn.Layer:
    paddle.seed(seed)
    return mode(Encoder(vocabulary, width, depth, heads, bug), training)
