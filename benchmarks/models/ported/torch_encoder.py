"""A small BERT: post-norm, padding mask, pooler, tied head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.models.ported.torch_parts import LayerNorm, attend, doubled, settled


class Embeddings(nn.Module):
    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.word = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(40, width)
        self.kind = nn.Embedding(2, width)
        self.norm = LayerNorm(width, eps=1e-12)

    def forward(self, ids: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1])
        kinds = (places >= ids.shape[1] // 2).long()
        return self.norm(self.word(ids) + self.position(places) + self.kind(kinds))


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, eager: bool, bug: str) -> None:
        super().__init__()
        self.heads, self.eager, self._bug = heads, eager, bug
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        batch, length, width = x.shape

        def split(y: Tensor) -> Tensor:
            return y.reshape(batch, length, self.heads, -1).transpose(1, 2)

        q, k, v = split(self.query(x)), split(self.key(x)), split(self.value(x))
        if self._bug == "padding_mask_lost":
            mask = mask * 0
        if self._bug == "softmax_in_low_precision":
            scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + mask
            y = torch.softmax(scores.to(torch.float16), -1).to(v.dtype) @ v
        else:
            y = attend(q, k, v, mask, eager=self.eager)
        return self.out(y.transpose(1, 2).reshape(batch, length, width))


class Mlp(nn.Module):
    def __init__(self, width: int, bug: str) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.act = nn.ReLU() if bug == "relu_for_gelu" else nn.GELU()
        self.fc2 = nn.Linear(4 * width, width)
        self._bug = bug

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc2(self.act(self.fc1(x)))
        return doubled(y) if self._bug == "gradient_doubled" else y


class Layer(nn.Module):
    def __init__(self, width: int, heads: int, eager: bool, bug: str = "") -> None:
        super().__init__()
        self.attn = Attention(width, heads, eager, bug)
        self.norm1 = LayerNorm(width, eps=1e-12)
        self.mlp = Mlp(width, bug)
        self.norm2 = LayerNorm(width, eps=1e-12)
        self._bug = bug

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.norm1(x + self.attn(x, mask))
        if self._bug == "norm_before_residual":
            return x + self.norm2(self.mlp(x))
        return self.norm2(x + self.mlp(x))


class Pooler(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.dense(x[:, 0]))


class Head(nn.Module):
    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight
        self.bias = nn.Parameter(torch.zeros(len(weight)))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.t() + self.bias


class Encoder(nn.Module):
    def __init__(self, vocabulary: int, width: int, depth: int, heads: int, eager: bool, bug: str) -> None:
        super().__init__()
        self.embeddings = Embeddings(vocabulary, width)
        self.layers = nn.ModuleList([Layer(width, heads, eager, bug * (at == 1)) for at in range(depth)])
        self.pooler = Pooler(width)
        self.head = Head(self.embeddings.word.weight)

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embeddings(ids)
        added = ((1 - mask[:, None, None]).to(x.dtype) * -10000.0).to(x.dtype)
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
    eager: bool = False,
) -> nn.Module:
    torch.manual_seed(seed)
    model = Encoder(vocabulary, width, depth, heads, eager, bug)
    for layer in model.modules():
        if isinstance(layer, LayerNorm):
            layer.eager = eager
    return settled(model, seed, training)
