"""A small mixture of experts: top-2 router, a shared expert; even blocks normalise and scale the chosen weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.models.ported.torch_parts import RMSNorm, doubled, settled, softmax

SCALE = 2.5


class Expert(nn.Module):
    def __init__(self, width: int, bug: str = "") -> None:
        super().__init__()
        self.up = nn.Linear(width, 2 * width)
        self.act = nn.SiLU()
        self.down = nn.Linear(2 * width, width)
        self._bug = bug

    def forward(self, x: Tensor) -> Tensor:
        y = self.down(self.act(self.up(x)))
        return doubled(y) if self._bug == "expert_gradient_doubled" else y


class Experts(nn.Module):
    def __init__(self, width: int, count: int, chosen: int, normalise: bool, eager: bool, bug: str) -> None:
        super().__init__()
        self.gate = nn.Linear(width, count, bias=False)
        self.experts = nn.ModuleList([Expert(width, bug * (at == 2)) for at in range(count)])
        self.shared = Expert(width)
        self.chosen, self.normalise, self.eager, self._bug = chosen, normalise, eager, bug

    def forward(self, x: Tensor) -> Tensor:
        scores = self.gate(x)
        shares = (
            softmax(scores) if self.eager else F.softmax(scores.float() if x.dtype != torch.float64 else scores, -1)
        )
        weights, picked = shares.topk(self.chosen, -1)
        normalise = self.normalise
        if self._bug in ("router_not_normalised", "router_normalised"):
            normalise = not normalise
        if normalise:
            weights = weights / weights.sum(-1, keepdim=True)
        if self.normalise and self._bug != "routed_scale_missing":
            weights = weights * SCALE
        weights = weights.to(x.dtype)
        total = self.shared(x)
        for number, expert in enumerate(self.experts):
            share = (weights * (picked == number)).sum(-1, keepdim=True)
            total = total + expert(x) * share
        return total


class Block(nn.Module):
    def __init__(self, width: int, count: int, chosen: int, normalise: bool, eager: bool, bug: str) -> None:
        super().__init__()
        self.norm = RMSNorm(width, eager=eager)
        self.moe = Experts(width, count, chosen, normalise, eager, bug)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.moe(self.norm(x))


class Mixture(nn.Module):
    def __init__(self, vocabulary: int, width: int, depth: int, count: int, eager: bool, bug: str) -> None:
        super().__init__()
        at = 0 if bug in ("router_not_normalised", "routed_scale_missing") else 1
        self.embed = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(
            [Block(width, count, 2, number % 2 == 0, eager, bug * (number == at)) for number in range(depth)]
        )
        self.norm = RMSNorm(width, eager=eager)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def build(
    vocabulary: int = 50,
    width: int = 24,
    depth: int = 2,
    count: int = 4,
    training: bool = True,
    bug: str = "",
    seed: int = 0,
    eager: bool = False,
) -> nn.Module:
    torch.manual_seed(seed)
    return settled(Mixture(vocabulary, width, depth, count, eager, bug), seed, training)
