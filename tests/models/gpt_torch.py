"""A small GPT in torch for the end-to-end tests; gpt_paddle.py is its port. `bugs` names what is planted, by block.

Packed q, k, v; an additive causal mask of -inf; a head tied to the embedding; a block that returns a tuple and gets its tensors
by keyword; one adapter called in every block.
"""

from __future__ import annotations

import math

import torch
from torch import nn


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, bug: str) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.heads = heads
        self._bug = bug

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        batch, length, width = x.shape
        shape = (batch, length, 3, self.heads, width // self.heads)
        q, k, v = self.qkv(x).reshape(shape).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2)
        if self._bug != "no_scale":
            scores = scores / math.sqrt(width // self.heads)
        if self._bug != "no_mask":
            scores = scores + mask
        weights = scores.softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(batch, length, width)), weights


class Block(nn.Module):
    def __init__(self, width: int, bug: str) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(width, eps=1e-3 if bug == "eps" else 1e-5)
        self.attn = Attention(width, 4, bug)
        self.ln2 = nn.LayerNorm(width)
        act = nn.GELU(approximate="tanh") if bug == "tanh" else nn.GELU()
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), act, nn.Linear(4 * width, width))
        self._bug = bug

    def forward(
        self, x: torch.Tensor, adapter: nn.Module, mask: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        attended, weights = self.attn(x=self.ln1(x), mask=mask)
        x = x + adapter(attended)
        if self._bug == "no_residual":
            return self.mlp(self.ln2(x)), {"weights": weights}
        return x + self.mlp(self.ln2(x)), {"weights": weights}


class GPT(nn.Module):
    def __init__(self, depth: int, width: int, vocabulary: int, bugs: dict[str, str]) -> None:
        super().__init__()
        self.emb = nn.Embedding(vocabulary, width)
        self.pos = nn.Embedding(64, width)
        self.adapter = nn.Linear(width, width)
        self.blocks = nn.ModuleList([Block(width, bugs.get(str(i), "")) for i in range(depth)])
        self.ln = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.emb.weight

    def forward(self, ids: torch.Tensor) -> dict[str, torch.Tensor]:
        length = ids.shape[1]
        x = self.emb(ids) + self.pos(torch.arange(length, device=ids.device))
        mask = torch.full((length, length), float("-inf"), dtype=x.dtype, device=ids.device).triu(1)
        for block in self.blocks:
            x, _ = block(x=x, adapter=self.adapter, mask=mask)
        return {"logits": self.head(self.ln(x)), "hidden": x}


def build(
    seed: int = 0, depth: int = 3, width: int = 32, vocabulary: int = 50, bugs: dict[str, str] | None = None
) -> nn.Module:
    torch.manual_seed(seed)
    return GPT(depth, width, vocabulary, bugs or {})
