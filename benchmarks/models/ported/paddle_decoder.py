"""The port of torch_decoder.py in paddle, with the bugs that it may have."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from benchmarks.models.ported.paddle_parts import RMSNorm, attend, doubled, mode

WINDOW = 4
FIRST = ("rope_interleaved", "kv_heads_tiled", "causal_mask_missing", "gate_and_up_swapped", "scale_off_by_1e-5")
"""The bugs that sit in layer 0; all others sit in layer 1."""


class Embed(nn.Layer):
    def __init__(self, vocabulary: int, width: int, bug: str) -> None:
        super().__init__()
        self.weight = self.create_parameter([vocabulary, width])
        self._bug = bug

    def forward(self, ids: Tensor) -> Tensor:
        x = F.embedding(ids, self.weight)
        return x if self._bug == "embedding_scale_missing" else x * self.weight.shape[1] ** 0.5


class Rotary(nn.Layer):
    def __init__(self, size: int, start: int, bug: str) -> None:
        super().__init__()
        self.size, self.start, self._bug = size, start, bug

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        kind = "float32" if self._bug == "rope_in_float32" else x.dtype
        base = 1000.0 if self._bug == "rope_theta" else 10000.0
        size = self.size + 2 if self._bug == "rope_size" else self.size
        rates = base ** (paddle.arange(0, self.size, 2).astype(kind) * -1.0 / size)
        places = (self.start + paddle.arange(x.shape[1])).astype(kind)
        if self._bug == "rope_in_bfloat16":
            rates = rates.astype("bfloat16").astype(kind)
        angles = places.unsqueeze(-1) * rates
        angles = paddle.concat([angles, angles], -1)
        return angles.cos().astype(x.dtype), angles.sin().astype(x.dtype)


def turned(x: Tensor) -> Tensor:
    one, two = x.chunk(2, -1)
    return paddle.concat([-two, one], -1)


def turned_pairwise(x: Tensor) -> Tensor:
    return paddle.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)


class BiaslessLinear(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight)


class Attention(nn.Layer):
    def __init__(self, width: int, heads: int, groups: int, window: int, bug: str) -> None:
        super().__init__()
        self.heads, self.groups, self.window, self._bug = heads, groups, window, bug
        size = width // heads
        self.q_proj = (BiaslessLinear if bug == "query_bias_missing" else nn.Linear)(width, width)
        self.k_proj = nn.Linear(width, groups * size)
        self.v_proj = nn.Linear(width, groups * size)
        self.o_proj = nn.Linear(width, width, bias_attr=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, width = x.shape
        size = width // self.heads
        q = self.q_proj(x).reshape([batch, length, self.heads, size]).transpose([0, 2, 1, 3])
        k = self.k_proj(x).reshape([batch, length, self.groups, size]).transpose([0, 2, 1, 3])
        v = self.v_proj(x).reshape([batch, length, self.groups, size]).transpose([0, 2, 1, 3])
        turn = turned_pairwise if self._bug == "rope_interleaved" else turned
        q = q * cos + turn(q) * sin
        if self._bug == "rope_of_keys_shifted":
            cos, sin = paddle.roll(cos, 1, 0), paddle.roll(sin, 1, 0)
        if self._bug != "rope_of_keys_missing":
            k = k * cos + turn(k) * sin
        times = self.heads // self.groups
        if self._bug == "kv_heads_tiled":
            k, v = k.tile([1, times, 1, 1]), v.tile([1, times, 1, 1])
        else:
            k, v = k.repeat_interleave(times, 1), v.repeat_interleave(times, 1)
        if self._bug == "keys_detached":
            k = k.detach()
        scale = {"scale_off_by_1e-5": (1 + 1e-5) * size**-0.5, "scale_by_width": width**-0.5}.get(self._bug, size**-0.5)
        y = attend(q, k, v, self.mask(length).astype(x.dtype), scale)
        return self.o_proj(y.transpose([0, 2, 1, 3]).reshape([batch, length, width]))

    def mask(self, length: int) -> Tensor:
        far = paddle.arange(length).unsqueeze(-1) - paddle.arange(length)
        hidden = far < (-1 if self._bug == "causal_off_by_one" else 0)
        if self._bug == "causal_mask_missing":
            hidden = far < -length
        if self.window:
            hidden = hidden | (far >= self.window + (self._bug == "window_one_wider"))
        return hidden.astype("float32") * -30000.0


class Mlp(nn.Layer):
    def __init__(self, width: int, bug: str) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = (nn.Linear(width, 2 * width, bias_attr=False) for _ in range(2))
        self.down_proj = nn.Linear(2 * width, width, bias_attr=False)
        self.act = nn.GELU() if bug == "gelu_for_silu" else nn.Silu()
        self._bug = bug

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_proj(x), self.up_proj(x)
        if self._bug == "gate_and_up_swapped":
            gate, up = up, gate
        y = self.down_proj(self.act(gate) * up)
        if self._bug == "output_clamped":
            y = y.clip(-0.3, 0.3)
        return doubled(y) if self._bug == "gradient_doubled" else y


class Layer(nn.Layer):
    def __init__(self, width: int, heads: int, groups: int, window: int, bug: str) -> None:
        super().__init__()
        self.norm1 = RMSNorm(width, eps=1e-6 if bug == "rms_norm_eps" else 1e-5)
        self.attn = Attention(width, heads, groups, window, bug)
        self.norm2 = RMSNorm(width)
        self.mlp = Mlp(width, bug)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x), cos, sin)
        return x + self.mlp(self.norm2(x))


class Cap(nn.Layer):
    def __init__(self, limit: float, bug: str) -> None:
        super().__init__()
        self.limit, self._bug = limit, bug

    def forward(self, x: Tensor) -> Tensor:
        return x if self._bug == "soft_cap_missing" else paddle.tanh(x / self.limit) * self.limit


class Decoder(nn.Layer):
    def __init__(self, vocabulary: int, width: int, depth: int, heads: int, groups: int, start: int, bug: str) -> None:
        super().__init__()
        at = 0 if bug in FIRST else 1
        self.embed = Embed(vocabulary, width, bug)
        self.rotary = Rotary(width // heads, start, bug)
        self.layers = nn.LayerList(
            [Layer(width, heads, groups, WINDOW * (number % 2), bug * (number == at)) for number in range(depth)]
        )
        self.norm = RMSNorm(width, unit=True, bug=bug)
        self.head = nn.Linear(width, vocabulary, bias_attr=False)
        self.cap = Cap(2.0, bug)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        cos, sin = self.rotary(x)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.cap(self.head(self.norm(x)))


def build(
    vocabulary: int = 60,
    width: int = 32,
    depth: int = 3,
    heads: int = 4,
    groups: int = 2,
    start: int = 0,
    training: bool = True,
    bug: str = "",
    seed: int = 0,
) -> nn.Layer:
    paddle.seed(seed)
    return mode(Decoder(vocabulary, width, depth, heads, groups, start, bug), training)
