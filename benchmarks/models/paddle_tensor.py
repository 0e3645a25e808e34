"""The port of torch_tensor.py."""

from __future__ import annotations

import numpy as np
from paddle import Tensor, nn


class Holder(nn.Layer):
    def __init__(self, values: np.ndarray) -> None:
        super().__init__()
        self.weight = self.create_parameter(values.shape, default_initializer=nn.initializer.Constant(0.0))
        self.weight.stop_gradient = True
        self.weight.set_value(values)

    def forward(self, x: Tensor | None = None) -> Tensor:
        return self.weight if x is None else x


def build(mib: int, zeros: bool = False, seed: int = 0) -> nn.Layer:
    """float32 [mib * 256, 1024]; the seed moves every value by a millionth part."""
    if zeros:
        return Holder(np.zeros((mib * 256, 1024), np.float32))
    values = np.random.default_rng(0).standard_normal((mib * 256, 1024), np.float32)
    values *= np.float32(1 + seed * 1e-6)
    return Holder(values)
