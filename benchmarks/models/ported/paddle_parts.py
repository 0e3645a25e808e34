"""What the paddle models of the bugs share."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, scale: float | None = None) -> Tensor:
    """Attend over [batch, heads, length, size]; `mask` is added."""
    scores = paddle.matmul(q, k, transpose_y=True) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if mask is not None:
        scores = scores + mask
    return paddle.matmul(F.softmax(scores, -1), v)


def doubled(x: Tensor) -> Tensor:
    """Leave the values and double the gradient."""
    return x * 2 - x.detach()


def mode(model: nn.Layer, training: bool) -> nn.Layer:
    if training:
        model.train()
    else:
        model.eval()
    return model


class RMSNorm(nn.Layer):
    """The port of torch_parts.RMSNorm. `unit`: its weight is an offset from 1."""

    def __init__(self, width: int, eps: float = 1e-5, unit: bool = False, bug: str = "") -> None:
        super().__init__()
        self.weight = self.create_parameter([width], default_initializer=nn.initializer.Constant(1.0 - unit))
        self.eps, self.unit, self._bug = eps, unit, bug

    def forward(self, x: Tensor) -> Tensor:
        if self._bug == "norm_subtracts_mean":
            x = x - x.mean(-1, keepdim=True)
        scaled = x * paddle.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)
        weight = self.weight + 1 if self.unit and self._bug != "unit_of_norm_dropped" else self.weight
        return weight * scaled
