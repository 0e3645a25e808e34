"""A small Llama: rope, grouped queries with a bias, a sliding window in odd layers, SwiGLU; scale and cap as Gemma has them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.models.ported.torch_parts import RMSNorm, attend, doubled, settled

WINDOW = 4


class Embed(nn.Module):
    def __init__(self, vocabulary: int, width: int, bug: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.3 * torch.randn(vocabulary, width))
        self._bug = bug

    def forward(self, ids: Tensor) -> Tensor:
        x = F.embedding(ids, self.weight)
        return x if self._bug == "embedding_scale_missing" else x * self.weight.shape[1] ** 0.5


class Rotary(nn.Module):
    def __init__(self, size: int, start: int, bug: str) -> None:
        super().__init__()
        self.size, self.start, self._bug = size, start, bug

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        kind = torch.float64 if x.dtype == torch.float64 else torch.float32
        rates = 10000.0 ** (-torch.arange(0, self.size, 2, dtype=kind) / self.size)
        places = self.start + torch.arange(x.shape[1], dtype=kind)
        if self._bug == "rope_in_low_precision":
            places, rates = places.to(torch.bfloat16), rates.to(torch.bfloat16)
        angles = places[:, None] * rates
        angles = torch.cat([angles, angles], -1)
        return angles.cos().to(x.dtype), angles.sin().to(x.dtype)


def turned(x: Tensor) -> Tensor:
    one, two = x.chunk(2, -1)
    return torch.cat([-two, one], -1)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, groups: int, window: int, eager: bool, bug: str) -> None:
        super().__init__()
        self.heads, self.groups, self.window, self.eager, self._bug = heads, groups, window, eager, bug
        size = width // heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, groups * size)
        self.v_proj = nn.Linear(width, groups * size)
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, width = x.shape
        size = width // self.heads
        q = self.q_proj(x).reshape(batch, length, self.heads, size).transpose(1, 2)
        k = self.k_proj(x).reshape(batch, length, self.groups, size).transpose(1, 2)
        v = self.v_proj(x).reshape(batch, length, self.groups, size).transpose(1, 2)
        q, k = q * cos + turned(q) * sin, k * cos + turned(k) * sin
        times = self.heads // self.groups
        if self._bug == "kv_heads_tiled":
            k, v = k.repeat(1, times, 1, 1), v.repeat(1, times, 1, 1)
        else:
            k, v = k.repeat_interleave(times, 1), v.repeat_interleave(times, 1)
        if self._bug == "keys_detached":
            k = k.detach()
        far = torch.arange(length)[:, None] - torch.arange(length)
        hidden = far < (-1 if self._bug == "causal_off_by_one" else 0)
        if self.window:
            hidden = hidden | (far >= self.window)
        mask = torch.zeros(length, length, dtype=x.dtype).masked_fill(hidden, -30000.0)
        scale = size**-0.5
        if self._bug == "scale_by_width":
            scale = width**-0.5
        y = attend(q, k, v, mask, scale, self.eager)
        return self.o_proj(y.transpose(1, 2).reshape(batch, length, width))


class Mlp(nn.Module):
    def __init__(self, width: int, bug: str) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = (nn.Linear(width, 2 * width, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(2 * width, width, bias=False)
        self.act = nn.GELU() if bug == "gelu_for_silu" else nn.SiLU()
        self._bug = bug

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_proj(x), self.up_proj(x)
        if self._bug == "gate_and_up_swapped":
            gate, up = up, gate
        y = self.down_proj(self.act(gate) * up)
        return doubled(y) if self._bug == "gradient_doubled" else y


class Layer(nn.Module):
    def __init__(self, width: int, heads: int, groups: int, window: int, eager: bool, bug: str) -> None:
        super().__init__()
        self.norm1 = RMSNorm(width, eager=eager, bug=bug)
        self.attn = Attention(width, heads, groups, window, eager, bug)
        self.norm2 = RMSNorm(width, eager=eager)
        self.mlp = Mlp(width, bug)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x), cos, sin)
        return x + self.mlp(self.norm2(x))


class Cap(nn.Module):
    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / self.limit) * self.limit


class Decoder(nn.Module):
    def __init__(
        self, vocabulary: int, width: int, depth: int, heads: int, groups: int, start: int, eager: bool, bug: str
    ) -> None:
        super().__init__()
        self.embed = Embed(vocabulary, width, bug)
        self.rotary = Rotary(width // heads, start, bug)
        self.layers = nn.ModuleList(
            [Layer(width, heads, groups, WINDOW * (at % 2), eager, bug * (at == 1)) for at in range(depth)]
        )
        self.norm = RMSNorm(width, unit=True, eager=eager)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.cap = Cap(2.0)

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
    eager: bool = False,
) -> nn.Module:
    torch.manual_seed(seed)
    return settled(Decoder(vocabulary, width, depth, heads, groups, start, eager, bug), seed, training)
