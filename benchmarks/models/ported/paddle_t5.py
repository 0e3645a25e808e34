"""The port of torch_t5.py in paddle, with the bugs that it may have."""

from __future__ import annotations

import math

import paddle
from paddle import Tensor, nn

from benchmarks.models.ported.paddle_parts import RMSNorm, attend, mode


class Bias(nn.Layer):
    def __init__(self, heads: int, both_ways: bool, bug: str = "", buckets: int = 8, furthest: int = 12) -> None:
        super().__init__()
        self.table = nn.Embedding(buckets, heads)
        self.both_ways = both_ways or bug == "decoder_buckets_both_ways"
        self.buckets, self.furthest, self._bug = buckets, furthest, bug

    def forward(self, x: Tensor) -> Tensor:
        places = paddle.arange(x.shape[1])
        return self.table(self.bucket(places.unsqueeze(0) - places.unsqueeze(1))).transpose([2, 0, 1]).unsqueeze(0)

    def bucket(self, far: Tensor) -> Tensor:
        buckets = self.buckets
        found = paddle.zeros_like(far)
        if self._bug == "relative_position_turned":
            far = -far
        if self._bug == "bucket_off_by_one":
            far = far + 1
        if self.both_ways:
            buckets //= 2
            found = found + (far > 0).astype("int64") * buckets
            far = far.abs()
        else:
            far = -paddle.minimum(far, paddle.zeros_like(far))
        exact = buckets // 2
        furthest = 32 if self._bug == "bucket_furthest" else self.furthest
        large = paddle.log(far.clip(min=1).astype("float64") / exact) / math.log(furthest / exact) * (buckets - exact)
        large = (exact + large.astype("int64")).clip(max=buckets - 1)
        return found + paddle.where(far < exact, far, large)


class Attention(nn.Layer):
    def __init__(self, width: int, heads: int, bug: str = "") -> None:
        super().__init__()
        self.heads, self._bug = heads, bug
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias_attr=False) for _ in range(4))

    def forward(self, x: Tensor, memory: Tensor, added: Tensor) -> Tensor:
        batch, length, width = x.shape

        def split(y: Tensor) -> Tensor:
            return y.reshape([batch, y.shape[1], self.heads, -1]).transpose([0, 2, 1, 3])

        q, k, v = split(self.q(x)), split(self.k(memory)), split(self.v(memory))
        if self._bug in ("position_bias_lost", "cross_mask_lost"):
            added = added * 0
        scale = (width // self.heads) ** -0.5 if self._bug == "attention_scaled" else 1.0
        y = attend(q, k, v, added, scale)
        return self.o(y.transpose([0, 2, 1, 3]).reshape([batch, length, width]))


class Mlp(nn.Layer):
    def __init__(self, width: int, bug: str = "") -> None:
        super().__init__()
        self.wi = nn.Linear(width, 2 * width, bias_attr=False)
        self.act = nn.GELU() if bug == "gelu_for_relu" else nn.ReLU()
        self.wo = nn.Linear(2 * width, width, bias_attr=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.wo(self.act(self.wi(x)))


class Layer(nn.Layer):
    def __init__(self, width: int, heads: int, cross: bool, bug: str = "") -> None:
        super().__init__()
        itself = bug * (bug in ("position_bias_lost", "attention_scaled"))
        self.norm1, self.attn = RMSNorm(width, 1e-6, bug=bug), Attention(width, heads, itself)
        self.norm2 = RMSNorm(width, 1e-6) if cross else None
        self.cross = Attention(width, heads, bug * (bug == "cross_mask_lost")) if cross else None
        self.norm3, self.mlp = RMSNorm(width, 1e-6), Mlp(width, bug)
        self._bug = bug

    def forward(self, x: Tensor, added: Tensor, memory: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        y = self.norm1(x)
        x = x + self.attn(y, y, added)
        if self.norm2 is not None and self.cross is not None and memory is not None and mask is not None:
            if self._bug == "memory_detached":
                memory = memory.detach()
            x = x + self.cross(self.norm2(x), memory, mask)
        return x + self.mlp(self.norm3(x))


class Stack(nn.Layer):
    def __init__(self, width: int, heads: int, depth: int, cross: bool, bug: str) -> None:
        super().__init__()
        self.bias = Bias(heads, not cross, bug)
        at = 0 if bug in ("attention_scaled",) else 1
        self.layers = nn.LayerList([Layer(width, heads, cross, bug * (number == at)) for number in range(depth)])
        self.norm = RMSNorm(width, 1e-6)
        self._bug = bug

    def forward(self, x: Tensor, mask: Tensor, memory: Tensor | None = None, across: Tensor | None = None) -> Tensor:
        added = self.bias(x) + mask
        for layer in self.layers:
            x = layer(x, added, memory, across)
        return x if self._bug == "final_norm_missing" else self.norm(x)


class Head(nn.Layer):
    def __init__(self, weight: Tensor, bug: str) -> None:
        super().__init__()
        self.weight = weight
        self._bug = bug

    def forward(self, x: Tensor) -> Tensor:
        if self._bug != "logits_scale_missing":
            x = x * self.weight.shape[1] ** -0.5
        return paddle.matmul(x, self.weight, transpose_y=True)


class Shift(nn.Layer):
    def __init__(self, bug: str) -> None:
        super().__init__()
        self._bug = bug

    def forward(self, labels: Tensor) -> Tensor:
        if self._bug == "labels_not_shifted":
            return labels
        return paddle.concat([paddle.zeros_like(labels[:, :1]), labels[:, :-1]], 1)


DECODER = ("decoder_buckets_both_ways", "cross_mask_lost", "memory_detached")


class T5(nn.Layer):
    def __init__(self, vocabulary: int, width: int, depth: int, heads: int, bug: str) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.shift = Shift(bug)
        self.encoder = Stack(width, heads, depth, False, bug * (bug not in DECODER))
        self.decoder = Stack(width, heads, depth, True, bug * (bug in DECODER))
        self.head = Head(self.embed.weight, bug)
        self._bug = bug

    def forward(self, ids: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        x = self.embed(ids)
        padding = (1 - mask.unsqueeze([1, 2])).astype(x.dtype) * -10000.0
        memory = self.encoder(x, padding)
        length = labels.shape[1]
        causal = paddle.triu(paddle.full([length, length], -10000.0), 1).astype(x.dtype)
        if self._bug == "decoder_mask_missing":
            causal = causal * 0
        return self.head(self.decoder(self.embed(self.shift(labels)), causal, memory, padding))


def build(
    vocabulary: int = 50,
    width: int = 32,
    depth: int = 2,
    heads: int = 4,
    training: bool = True,
    bug: str = "",
    seed: int = 0,
) -> nn.Layer:
    paddle.seed(seed)
    return mode(T5(vocabulary, width, depth, heads, bug), training)
