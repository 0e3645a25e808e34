"""Hold the gradients of a layer's parameters against what the layer got: they agree as well as that does."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from padiff_rpc.align.run.judged_boundary import Judged
from padiff_rpc.compare.tolerances import EPSILON
from padiff_rpc.model.model import ModelDescription
from padiff_rpc.per_side import PerSide
from padiff_rpc.result import Pair, Verdict
from padiff_rpc.tensors.tensor import DType

_LEAST = 2e-3
"""The relative error that a gradient may have in any case; convolutions in TF32 leave up to 1e-3."""
_FACTOR = 10.0
"""How many times the relative errors of what its layer got a gradient may be apart."""
_PRECISE = (DType.F32.value, DType.F64.value)
_LINEAR = ("linear", "conv1d", "conv2d", "conv3d", "bilinear")
_FRAMEWORKS = ("torch.nn.modules.", "paddle.nn.layer.", "padiff_rpc.numpy_framework.", "transformers.pytorch_utils.")
"""Where such layers come from; transformers' Conv1D is a Linear."""


class OwnGradients:
    """The errors of what one step's Linears and convolutions got: their inputs, and the gradients of their outputs.

    The tolerance of gradients is wide, since an input of a ReLU that rounds to the other side of zero changes whole elements.
    Nothing of the kind lies between a Linear's output and its parameters. Where what it got agrees to 1e-6, the gradients of its
    parameters agree as well, but for sums that cancel: these are as far apart as their summands are.
    """

    def __init__(
        self, described: PerSide[ModelDescription], forward: Iterable[Judged], backward: Iterable[Judged]
    ) -> None:
        self._linear = described.map(_linear_layers)
        self._shared = {info.name for model in described for info in model.parameters if info.aliases}
        self._got: dict[str, float] = defaultdict(float)
        self._complete = {one.base.route for one in backward if one.base.side == "output"}
        for one in (
            *(each for each in forward if each.base.side == "input"),
            *(each for each in backward if each.base.side == "output"),
        ):
            self._got[one.base.route] += max((_error(pair) for pair in one.pairs), default=0.0)

    def judge(self, grads: Sequence[Pair], noise: Sequence[float]) -> list[Pair]:
        """Fail the gradients that pass by the table of tolerances, though what their layer got agrees far better.

        Args:
            grads: are the comparisons of the parameters' gradients.
            noise: bounds, for each of them, the rounding noise of an element, as an absolute value.
        """
        return [self._judge(pair, bound) for pair, bound in zip(grads, noise, strict=True)]

    def _judge(self, pair: Pair, noise: float) -> Pair:
        metrics = pair.metrics
        if pair.status != "pass" or metrics is None or metrics.measure == "max_abs" or not self._applies(pair):
            return pair
        got = self._got[pair.base_route]
        allowed = max(_LEAST, _FACTOR * got)
        # Summands that are further apart than by rounding leave a sum that cancels further apart, likewise.
        epsilon = max(EPSILON[DType(metrics.base_dtype)], EPSILON[DType(metrics.raw_dtype)])
        if metrics.rel_l2 <= allowed or metrics.max_abs <= noise * max(1.0, got / epsilon):
            return pair
        why = (
            f"the relative L2 error is {metrics.rel_l2:.3g}, though what the layer got agrees to {got:.2g}: its input, and the "
            f"gradient of its output; allowed are {allowed:.3g}"
        )
        held = replace(metrics, measure="rel_l2", measured=metrics.rel_l2, allowed=allowed)
        return pair.judged_anew(Verdict("fail", "values", why, held))

    def _applies(self, pair: Pair) -> bool:
        metrics = pair.metrics
        precise = metrics is not None and {metrics.base_dtype, metrics.raw_dtype} <= set(_PRECISE)
        linear = pair.base_route in self._linear.base and pair.raw_route in self._linear.raw
        alone = (
            not {f"{pair.raw_route}.{pair.tensor}", f"{pair.base_route}.{pair.base_tensor or pair.tensor}"}
            & self._shared
        )
        return precise and linear and alone and pair.base_route in self._complete


def _linear_layers(model: ModelDescription) -> set[str]:
    """Return the routes of the frameworks' own layers that are linear in their parameters and run no others."""
    return {
        layer.route
        for layer in model.layers
        if layer.class_name.lower() in _LINEAR and layer.class_path.startswith(_FRAMEWORKS) and not layer.children
    }


def _error(pair: Pair) -> float:
    """Return how far a boundary's tensors are apart, relatively; inf where that was not measured."""
    return math.inf if pair.metrics is None else pair.metrics.rel_l2
