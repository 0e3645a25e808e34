"""A small T5: RMSNorm, attention without scale, relative position bias from a first layer, tied head with a scale."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from benchmarks.models.ported.torch_parts import RMSNorm, attend, settled


class Bias(nn.Module):
    def __init__(self, heads: int, both_ways: bool, buckets: int = 8, furthest: int = 12) -> None:
        super().__init__()
        self.table = nn.Embedding(buckets, heads)
        self.both_ways, self.buckets, self.furthest = both_ways, buckets, furthest

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1])
        return self.table(self.bucket(places[None, :] - places[:, None])).permute(2, 0, 1)[None]

    def bucket(self, far: Tensor) -> Tensor:
        buckets = self.buckets
        found = torch.zeros_like(far)
        if self.both_ways:
            buckets //= 2
            found = found + (far > 0).long() * buckets
            far = far.abs()
        else:
            far = -torch.minimum(far, torch.zeros_like(far))
        exact = buckets // 2
        large = torch.log(far.clamp(min=1).double() / exact) / math.log(self.furthest / exact) * (buckets - exact)
        large = (exact + large.long()).clamp(max=buckets - 1)
        return found + torch.where(far < exact, far, large)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, eager: bool) -> None:
        super().__init__()
        self.heads, self.eager = heads, eager
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))

    def forward(self, x: Tensor, memory: Tensor, added: Tensor) -> Tensor:
        batch, length, width = x.shape

        def split(y: Tensor) -> Tensor:
            return y.reshape(batch, y.shape[1], self.heads, -1).transpose(1, 2)

        q, k, v = split(self.q(x)), split(self.k(memory)), split(self.v(memory))
        return self.o(attend(q, k, v, added, 1.0, self.eager).transpose(1, 2).reshape(batch, length, width))


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.wi = nn.Linear(width, 2 * width, bias=False)
        self.act = nn.ReLU()
        self.wo = nn.Linear(2 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.wo(self.act(self.wi(x)))


class Layer(nn.Module):
    def __init__(self, width: int, heads: int, cross: bool, eager: bool) -> None:
        super().__init__()
        self.norm1, self.attn = RMSNorm(width, 1e-6, eager=eager), Attention(width, heads, eager)
        self.norm2 = RMSNorm(width, 1e-6, eager=eager) if cross else None
        self.cross = Attention(width, heads, eager) if cross else None
        self.norm3, self.mlp = RMSNorm(width, 1e-6, eager=eager), Mlp(width)

    def forward(self, x: Tensor, added: Tensor, memory: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        y = self.norm1(x)
        x = x + self.attn(y, y, added)
        if self.norm2 is not None and self.cross is not None and memory is not None and mask is not None:
            x = x + self.cross(self.norm2(x), memory, mask)
        return x + self.mlp(self.norm3(x))


class Stack(nn.Module):
    def __init__(self, width: int, heads: int, depth: int, cross: bool, eager: bool) -> None:
        super().__init__()
        self.bias = Bias(heads, both_ways=not cross)
        self.layers = nn.ModuleList([Layer(width, heads, cross, eager) for _ in range(depth)])
        self.norm = RMSNorm(width, 1e-6, eager=eager)

    def forward(self, x: Tensor, mask: Tensor, memory: Tensor | None = None, across: Tensor | None = None) -> Tensor:
        added = self.bias(x) + mask
        for layer in self.layers:
            x = layer(x, added, memory, across)
        return self.norm(x)


class Head(nn.Module):
    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.weight.shape[1] ** -0.5) @ self.weight.t()


class Shift(nn.Module):
    def forward(self, labels: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(labels[:, :1]), labels[:, :-1]], 1)


class T5(nn.Module):
    def __init__(self, vocabulary: int, width: int, depth: int, heads: int, eager: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.shift = Shift()
        self.encoder = Stack(width, heads, depth, False, eager)
        self.decoder = Stack(width, heads, depth, True, eager)
        self.head = Head(self.embed.weight)

    def forward(self, ids: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        x = self.embed(ids)
        padding = (1 - mask[:, None, None]).to(x.dtype) * -10000.0
        memory = self.encoder(x, padding)
        length = labels.shape[1]
        causal = torch.triu(torch.full((length, length), -10000.0), 1).to(x.dtype)
        return self.head(self.decoder(self.embed(self.shift(labels)), causal, memory, padding))


def build(
    vocabulary: int = 50,
    width: int = 32,
    depth: int = 2,
    heads: int = 4,
    training: bool = True,
    seed: int = 0,
    eager: bool = False,
) -> nn.Module:
    torch.manual_seed(seed)
    model = settled(T5(vocabulary, width, depth, heads, eager), seed, training)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("q.weight", "k.weight")):
                parameter.mul_(0.6)
    return model
