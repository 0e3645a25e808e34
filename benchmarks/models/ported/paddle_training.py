"""The port of torch_training.py in paddle. `NAME__BUG` is a loss or an optimiser with a bug."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

IGNORED = -100


def labels(shape: tuple[int, ...], classes: int) -> np.ndarray:
    rng = np.random.default_rng(7)
    values = rng.integers(0, classes, shape)
    values[rng.random(shape) < 0.3] = IGNORED
    return values


def language(logits: Tensor, bug: str = "") -> Tensor:
    target = paddle.to_tensor(labels(tuple(logits.shape[:2]), logits.shape[-1])[:, 1:])
    logits = logits[:, :-1]
    if bug == "labels_shifted_twice":
        target, logits = target[:, 1:], logits[:, :-1]
    if bug == "labels_not_shifted":
        target = paddle.to_tensor(labels((logits.shape[0], logits.shape[1] + 1), logits.shape[-1])[:, :-1])
    counted = (target != IGNORED).astype(logits.dtype)
    each = F.cross_entropy(logits, target.unsqueeze(-1), ignore_index=IGNORED, reduction="none").squeeze(-1)
    count = counted.sum()
    loss = each.mean() if bug == "ignored_in_denominator" else (each * counted).sum() / count
    norms = paddle.logsumexp(logits, -1).pow(2)
    extra = norms.mean() if bug == "auxiliary_over_ignored" else (norms * counted).sum() / count
    total = loss + 1e-2 * extra
    return total * count if bug == "sum_for_mean" else total


def smoothed(logits: Tensor, bug: str = "") -> Tensor:
    classes = logits.shape[-1]
    target = F.one_hot(paddle.arange(logits.shape[0]) % classes, classes)
    if bug != "smoothing_missing":
        target = F.label_smooth(target, epsilon=0.1)
    return F.cross_entropy(logits, target, soft_label=True)


def weighted(logits: Tensor, bug: str = "") -> Tensor:
    weight = paddle.linspace(0.5, 2.0, logits.shape[-1])
    target = paddle.arange(logits.shape[0]) % logits.shape[-1]
    each = F.cross_entropy(logits, target.unsqueeze(-1), reduction="none").squeeze(-1) * weight[target]
    return each.mean() if bug == "weights_not_normalised" else each.sum() / weight[target].sum()


def regression(outputs: Tensor, bug: str = "") -> Tensor:
    target = paddle.linspace(-1, 1, outputs.size).reshape(outputs.shape)
    huber = F.smooth_l1_loss(outputs, target, delta=0.5)
    return huber if bug == "delta_for_beta" else huber / 0.5


def distilled(logits: Tensor, bug: str = "") -> Tensor:
    teacher = F.softmax(paddle.linspace(-1, 1, logits.size).reshape(logits.shape), -1)
    reduction = "mean" if bug == "mean_for_batch_mean" else "batchmean"
    scale = 1 if bug == "temperature_not_squared" else 4
    return F.kl_div(F.log_softmax(logits / 2, -1), teacher, reduction=reduction) * scale


def accumulated(logits: Tensor, bug: str = "") -> Tensor:
    return language(logits) / (16 if bug == "normalised_twice" else 4)


class Trained:
    """An optimiser with what a training loop does around its step."""

    def __init__(self, optimizer: Any, after: Callable[[], Any] = int) -> None:
        self.optimizer, self.after = optimizer, after

    def step(self) -> None:
        self.optimizer.step()
        self.after()


class WithoutCorrection:
    """AdamW without bias correction."""

    def __init__(self, model: nn.Layer) -> None:
        self.held = [(each, paddle.zeros_like(each), paddle.zeros_like(each)) for each in model.parameters()]

    @paddle.no_grad()
    def step(self) -> None:
        for each, m, v in self.held:
            if each.grad is None:
                continue
            m.set_value(0.9 * m + 0.1 * each.grad)
            v.set_value(0.95 * v + 0.05 * each.grad * each.grad)
            decay = 0.1 if each.ndim > 1 else 0.0
            each.set_value(each * (1 - 1e-2 * decay) - 1e-2 * m / (v.sqrt() + 1e-8))


def adamw(model: nn.Layer, bug: str = "", clip: Any = None) -> Any:
    if bug == "bias_correction_missing":
        return WithoutCorrection(model)
    decayed = {each.name for each in model.parameters() if each.ndim > 1}
    held = model.parameters()
    if bug == "one_parameter_left_out":
        held = held[:-1]
    options: dict[str, Any] = {"learning_rate": 1e-2, "parameters": held, "beta1": 0.9, "grad_clip": clip}
    options["beta2"] = 0.999 if bug == "beta2" else 0.95
    options["epsilon"] = 1e-5 if bug == "epsilon" else 1e-8
    if bug == "l2_for_decoupled":
        return paddle.optimizer.Adam(weight_decay=0.1, **options)
    if bug == "decay_missing":
        return paddle.optimizer.AdamW(weight_decay=0.0, **options)
    rule = None if bug == "decay_on_norms" else decayed.__contains__
    return paddle.optimizer.AdamW(weight_decay=0.1, apply_decay_param_fun=rule, **options)


def sgd_clipped(model: nn.Layer, bug: str = "") -> Any:
    clips = {
        "": nn.ClipGradByGlobalNorm(0.05),
        "clip_of_each": nn.ClipGradByNorm(0.05),
        "clip_missing": None,
        "clip_by_value": nn.ClipGradByValue(0.05),
    }
    return paddle.optimizer.SGD(0.1, parameters=model.parameters(), grad_clip=clips[bug])


def momentum(model: nn.Layer, bug: str = "") -> Any:
    nesterov = bug != "nesterov_missing"
    return paddle.optimizer.Momentum(0.05, 0.9, parameters=model.parameters(), use_nesterov=nesterov)


def rmsprop(model: nn.Layer, bug: str = "epsilon_inside_root") -> Any:
    """Paddle's own always has the bug."""
    return paddle.optimizer.RMSProp(1e-3, rho=0.95, epsilon=1e-3, parameters=model.parameters())


def scheduled(model: nn.Layer, bug: str = "") -> Any:
    late = bug == "schedule_one_late"
    schedule = paddle.optimizer.lr.LambdaDecay(0.1, lambda at: math.cos(max(at - late, 0) / 4))
    optimizer = paddle.optimizer.SGD(schedule, parameters=model.parameters())
    return Trained(optimizer, after=schedule.step)


def __getattr__(name: str) -> Callable[..., Any]:
    function, _, bug = name.partition("__")
    if not bug or function not in globals():
        raise AttributeError(name)
    return functools.partial(globals()[function], bug=bug)
