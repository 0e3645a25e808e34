"""The losses and optimisers of the bugs, in torch: functions of the model's outputs, and of the model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

IGNORED = -100


def labels(shape: tuple[int, ...], classes: int) -> Tensor:
    rng = np.random.default_rng(7)
    values = rng.integers(0, classes, shape)
    values[rng.random(shape) < 0.3] = IGNORED
    return torch.from_numpy(values)


def language(logits: Tensor) -> Tensor:
    """The next token's cross entropy over what is not ignored, and a small loss of the logits' norm."""
    target = labels(tuple(logits.shape[:2]), logits.shape[-1])[:, 1:]
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), target.flatten(), ignore_index=IGNORED)
    counted = (target != IGNORED).to(logits.dtype)
    norms = torch.logsumexp(logits[:, :-1].float(), -1).pow(2)
    return loss + 1e-2 * (norms * counted).sum() / counted.sum()


def smoothed(logits: Tensor) -> Tensor:
    return F.cross_entropy(logits, torch.arange(len(logits)) % logits.shape[-1], label_smoothing=0.1)


def weighted(logits: Tensor) -> Tensor:
    weight = torch.linspace(0.5, 2.0, logits.shape[-1])
    return F.cross_entropy(logits, torch.arange(len(logits)) % logits.shape[-1], weight=weight)


def regression(outputs: Tensor) -> Tensor:
    target = torch.linspace(-1, 1, outputs.numel()).reshape(outputs.shape)
    return F.smooth_l1_loss(outputs, target, beta=0.5)


def distilled(logits: Tensor) -> Tensor:
    teacher = torch.softmax(torch.linspace(-1, 1, logits.numel()).reshape(logits.shape), -1)
    return F.kl_div(F.log_softmax(logits / 2, -1), teacher, reduction="batchmean") * 4


def accumulated(logits: Tensor) -> Tensor:
    return language(logits) / 4


class Trained:
    """An optimiser with what a training loop does around its step."""

    def __init__(
        self, optimizer: torch.optim.Optimizer, before: Callable[[], Any] = int, after: Callable[[], Any] = int
    ) -> None:
        self.optimizer, self.before, self.after = optimizer, before, after

    def step(self) -> None:
        self.before()
        self.optimizer.step()
        self.after()


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    """No decay on norms and biases."""
    decayed = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in model.parameters() if parameter.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.95), eps=1e-8)


def sgd_clipped(model: nn.Module) -> Trained:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return Trained(optimizer, lambda: nn.utils.clip_grad_norm_(list(model.parameters()), 0.05))


def momentum(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True)


def rmsprop(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.RMSprop(model.parameters(), lr=1e-3, alpha=0.95, eps=1e-3)


def scheduled(model: nn.Module) -> Trained:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda at: math.cos(at / 4))
    return Trained(optimizer, after=schedule.step)


class Master:
    """AdamW on float32 copies of a model in low precision."""

    def __init__(self, model: nn.Module) -> None:
        self.pairs = [(each, each.detach().float().clone().requires_grad_()) for each in model.parameters()]
        self.optimizer = torch.optim.SGD([master for _, master in self.pairs], lr=0.02)

    def step(self) -> None:
        for each, master in self.pairs:
            master.grad = None if each.grad is None else each.grad.float()
        self.optimizer.step()
        with torch.no_grad():
            for each, master in self.pairs:
                each.copy_(master)


def master(model: nn.Module) -> Master:
    return Master(model)


def master__missing(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.02)
