"""The port of torch_moe.py in paddle, with the bugs that it may have."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from benchmarks.models.ported.paddle_parts import RMSNorm, doubled, mode

SCALE = 2.5


class Expert(nn.Layer):
    def __init__(self, width: int, bug: str = "") -> None:
        super().__init__()
        self.up = nn.Linear(width, 2 * width)
        self.act = nn.Silu()
        self.down = nn.Linear(2 * width, width)
        self._bug = bug

    def forward(self, x: Tensor) -> Tensor:
        y = self.down(self.act(self.up(x)))
        return doubled(y) if self._bug == "expert_gradient_doubled" else y


class Experts(nn.Layer):
    def __init__(self, width: int, count: int, chosen: int, normalise: bool, bug: str) -> None:
        super().__init__()
        self.gate = nn.Linear(width, count, bias_attr=False)
        self.experts = nn.LayerList([Expert(width, bug * (at == 2)) for at in range(count)])
        self.shared = Expert(width)
        self.chosen = 1 if bug == "top_1_for_2" else chosen
        self.normalise, self._bug = normalise, bug

    def forward(self, x: Tensor) -> Tensor:
        weights, picked = self.routed(self.gate(x))
        total = self.shared(x)
        if self._bug == "shared_expert_missing":
            total = total * 0
        for number, expert in enumerate(self.experts):
            at = (number + 1) % len(self.experts) if self._bug == "experts_rotated" else number
            share = (weights * (picked == at).astype(x.dtype)).sum(-1, keepdim=True)
            total = total + expert(x) * share
        return total

    def routed(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        if self._bug == "router_in_half":
            scores = scores.astype("float16").astype(scores.dtype)
        if self._bug == "softmax_after_choice":
            best, picked = scores.topk(self.chosen, -1)
            return F.softmax(best, -1), picked
        shares = F.sigmoid(scores) if self._bug == "sigmoid_for_softmax" else F.softmax(scores, -1)
        weights, picked = shares.topk(self.chosen, -1)
        if self.normalise != (self._bug in ("router_not_normalised", "router_normalised")):
            weights = weights / weights.sum(-1, keepdim=True)
        if self.normalise and self._bug != "routed_scale_missing":
            weights = weights * SCALE
        if self._bug == "weights_transposed_by_reshape":
            weights = weights.transpose([2, 0, 1]).reshape(weights.shape)
        if self._bug == "router_detached":
            weights = weights.detach()
        return weights, picked


class Block(nn.Layer):
    def __init__(self, width: int, count: int, chosen: int, normalise: bool, bug: str) -> None:
        super().__init__()
        self.norm = RMSNorm(width)
        self.moe = Experts(width, count, chosen, normalise, bug)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.moe(self.norm(x))


class Mixture(nn.Layer):
    def __init__(self, vocabulary: int, width: int, depth: int, count: int, bug: str) -> None:
        super().__init__()
        at = 0 if bug in ("router_not_normalised", "routed_scale_missing", "top_1_for_2", "experts_rotated") else 1
        self.embed = nn.Embedding(vocabulary, width)
        self.blocks = nn.LayerList(
            [Block(width, count, 2, number % 2 == 0, bug * (number == at)) for number in range(depth)]
        )
        self.norm = RMSNorm(width)
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
) -> nn.Layer:
    paddle.seed(seed)
    return mode(Mixture(vocabulary, width, depth, count, bug), training)
