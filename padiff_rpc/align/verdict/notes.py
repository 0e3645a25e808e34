"""Note what a reader must know besides the verdict: faults that tolerances may hide, and layers that cannot agree."""

from __future__ import annotations

import math
from collections.abc import Sequence

from padiff_rpc.align.prepare import Prepared
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.align.stages.findings import StepResult
from padiff_rpc.compare.differing_hyperparameters import differing_hyperparameters
from padiff_rpc.compare.tolerances import EPSILON
from padiff_rpc.match.layer_map import Matching
from padiff_rpc.match.random_layers import random_layers, rates_of_own_code
from padiff_rpc.model.model import LayerInfo, ModelDescription, OptimizerSpec
from padiff_rpc.per_side import PerSide, SideName
from padiff_rpc.result import LayerRef, Pair
from padiff_rpc.tensors.tensor import DType

_SHOWN = 5
_NEARLY = 0.5
"""The share of what a tolerance allows from which on a pass is worth a note."""
_ROUNDING = 64.0
"""Relative error of gradients in epsilons, as in stages/gradient_noise.py."""
_NOT_SHARED = "only dropouts of the frameworks' own classes that correspond, and do not work in place, share draws"
_KINKED = 1e-3
"""Relative L2 error of float32 gradients from which on rounding alone does not explain it; a ReLU's kink does."""


def notes_on(prepared: Prepared, pairs: Sequence[Pair], steps: Sequence[StepResult] = ()) -> list[str]:
    """Return one sentence per note, the most important first.

    Args:
        prepared: are the two models, matched, and the settings.
        pairs: are all comparisons.
        steps: are the steps from which they come.
    """
    described, settings = prepared.described, prepared.settings
    return [
        *_random(prepared, pairs, steps),
        *_hyperparameters(described, prepared.matching),
        *_optimizers(prepared, steps),
        *_left_out(settings, steps),
        *_nearly_failed(settings, pairs),
        *_loose_gradients(prepared, pairs),
        *_perhaps_rounding(settings, pairs, steps),
    ]


def _random(prepared: Prepared, pairs: Sequence[Pair], steps: Sequence[StepResult]) -> list[str]:
    """Note the layers with active dropout: those that draw random numbers, and those that would, but never ran."""
    found: list[str] = []
    settings, training = prepared.settings, prepared.settings.training
    own, shared = _draws(steps)
    alike = PerSide({base for base, raw in shared if raw not in own}, {raw for _, raw in shared if raw not in own})
    if alike.raw:
        found.append(f"raw's dropouts take base's draws in {_listed([raw for _, raw in shared if raw in alike.raw])}")
    for side, description in prepared.described.items():
        idle = _never_ran(prepared, side, pairs)
        rest = {layer.route for layer in description.layers} - idle - alike.of(side)
        if drawing := random_layers(description, training, rest):
            found.append(
                f"{side} draws random numbers in {_listed(drawing)}: set the rate to 0, or run in eval mode"
                + (f"; {_NOT_SHARED}" if settings.sync_random else "")
            )
        if settings.sync_random and (rates := rates_of_own_code(description, training)):
            found.append(f"{side} may draw by functions in {_listed(rates)}, which is not shared: set the rate to 0")
        if waiting := random_layers(description, training, idle):
            found.append(
                f"{side} never called {_listed(waiting)}: the dropout there counts only if it is used in another way"
            )
    found += [f"raw's {route} kept its own draw: {why}" for route, why in own.items()]
    return found


def _draws(steps: Sequence[StepResult]) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Return raw's dropouts that kept a draw of their own, with the reason, and all (base, raw) that shared draws.

    Where the run was stopped, those that it did not come to count as if they had.
    """
    own: dict[str, str] = {}
    shared: dict[tuple[str, str], None] = {}
    for step in steps:
        if step.draws is None:
            continue
        if step.stopped is None:
            own |= dict.fromkeys(step.draws.alone, "base's has drawn nothing at that call")
            shared |= dict.fromkeys((base, raw) for raw, base in step.draws.shared.items())
        else:
            shared |= dict.fromkeys(zip(*step.draws.routes, strict=True))
        own |= step.draws.refused
    return own, list(shared)


def _never_ran(prepared: Prepared, side: SideName, pairs: Sequence[Pair]) -> set[str]:
    """Return the routes of one side's layers that were recorded, and at which nothing came in a forward that ended."""
    forward = [pair for pair in pairs if pair.stage == "forward"]
    if not any(pair.base_route == "" and pair.tensor.startswith("output") for pair in forward):
        return set()
    ran = {pair.base_route if side == "base" else pair.raw_route for pair in forward}
    return {layer.base if side == "base" else layer.raw for layer in prepared.scope.layers} - ran


def _left_out(settings: AlignSettings, steps: Sequence[StepResult]) -> list[str]:
    """Count the elements whose update was not compared."""
    counted = [step.left_out for step in steps if step.left_out]
    if not counted or settings.base_optimizer is None:
        return []
    elements = sum(sum(left_out.values()) for left_out in counted)
    parameters = len({name for left_out in counted for name in left_out})
    times = "the step" if len(steps) == 1 else f"{len(counted)} of {len(steps)} steps"
    return [
        f"weights: {elements:,} elements of {parameters} parameters were left out after {times}: their gradients are "
        f"rounding noise on both sides, and what {settings.base_optimizer.name} makes of noise is no fault"
    ]


def _nearly_failed(settings: AlignSettings, pairs: Sequence[Pair]) -> list[str]:
    """Name, for each stage, the pass that used most of what the tolerance allowed, if it used more than half."""
    if settings.compare.mode != "scaled" or any(pair.status == "fail" for pair in pairs):
        return []
    worst: dict[str, tuple[float, Pair]] = {}
    for pair in pairs:
        if pair.status != "pass" or pair.metrics is None or not pair.metrics.allowed:
            continue
        used = pair.metrics.measured / pair.metrics.allowed
        if used > max(_NEARLY, worst.get(pair.stage, (0.0, pair))[0]):
            worst[pair.stage] = used, pair
    return [
        f"{stage}: {used:.0%} of what the tolerance allows was used, at {pair.raw_route or 'the whole model'} {pair.tensor}"
        for stage, (used, pair) in worst.items()
    ]


def _hyperparameters(described: PerSide[ModelDescription], matching: Matching) -> list[str]:
    """Note the hyper-parameters that differ.

    An epsilon of 1e-5 in place of 1e-12 stays below every tolerance, until an input comes that is small enough.
    """
    base, raw = described
    found: list[str] = []
    for pair in matching.layers:
        ours, theirs = base.layer(pair.base), raw.layer(pair.raw)
        differences = differing_hyperparameters(_ref(ours), _ref(theirs), base.framework, raw.framework)
        found += [f"{pair.base or base.class_name} ({one.base} against {one.raw})" for one in differences]
    return [f"hyper-parameters differ between layers that correspond: {_listed(found)}"] if found else []


def _optimizers(prepared: Prepared, steps: Sequence[StepResult]) -> list[str]:
    """Note in which hyper-parameters the optimisers differ; where one does not tell them, what they are called."""
    base, raw = prepared.settings.optimizers
    told = dict.fromkeys(
        sentence
        for step in steps
        if step.options is not None and step.options.known
        for sentence in step.options.differences([link for link in prepared.scope.links if link.kind == "parameter"])
    )
    if told or any(step.options is not None and step.options.known for step in steps):
        return list(told)
    if base is None or raw is None or base == raw:
        return []
    return [f"the two sides step with different optimisers: {_called(base)} and {_called(raw)}"]


def _called(optimizer: OptimizerSpec) -> str:
    options = ", ".join(f"{key}={value:g}" for key, value in optimizer.options.items())
    return f"{optimizer.name}({options})"


def _loose_gradients(prepared: Prepared, pairs: Sequence[Pair]) -> list[str]:
    """Note when gradients passed only because float32 is judged loosely without single step (see compare/tolerances.py).

    Those at pairs of layers that are inferred do not count: two dropouts may stand at other places. Nor do those that have a
    floor.
    """
    base, settings = prepared.described.base, prepared.settings
    if settings.compare.mode != "scaled" or settings.single_step or settings.compare.rtol is not None:
        return []
    if not any(info.spec.dtype is DType.F32 for info in base.parameters):
        return []
    if any(pair.status == "fail" for pair in pairs):
        return []  # what is found already spreads into every gradient
    inferred = {pair.base for pair in prepared.matching.layers if not pair.certain}
    loose = [
        pair
        for pair in pairs
        if pair.base_route not in inferred
        and pair.stage in ("backward", "grads")
        and pair.status == "pass"
        and pair.metrics is not None
        and pair.metrics.measure in ("rel_l2", "max_scaled")
        and pair.metrics.rel_l2 > _KINKED
        and pair.metrics.ratio is None  # this run's floor has said what rounding makes of the others
    ]
    if not loose:
        return []
    worst = max(loose, key=lambda pair: pair.metrics.rel_l2 if pair.metrics else 0.0)
    error = worst.metrics.rel_l2 if worst.metrics else 0.0
    return [
        f"{len(loose)} gradients agree only to {error:.1g} (relative L2, {worst.raw_route} {worst.tensor}): inputs of a ReLU "
        "that round to either side of zero do that, and so does a small fault; single step or float64 tells them apart"
    ]


def _perhaps_rounding(settings: AlignSettings, pairs: Sequence[Pair], steps: Sequence[StepResult]) -> list[str]:
    """Note when the first failure is a gradient that is apart by no more than the rounding of those it was computed from.

    Such gradients may be zero in exact arithmetic. How much of the rounding a layer lets through is not known, so that this
    does not excuse them.
    """
    first = next((pair for pair in pairs if pair.status == "fail"), None)
    if settings.compare.mode != "scaled" or first is None or first.stage != "backward" or first.metrics is None:
        return []
    if not first.tensor.startswith("grad of input"):
        return []
    place = (first.step, first.base_route, "output")
    came = [one for step in steps for one in step.backward if (step.step, one.base.route, one.base.side) == place]
    size = max((math.sqrt(one.square / one.first.count) for one in came if one.first and one.first.count), default=0.0)
    epsilon = EPSILON.get(DType(first.metrics.base_dtype), 0.0)
    if not first.metrics.max_abs <= _ROUNDING * epsilon * size < math.inf:
        return []
    where = f"{first.raw_route or 'the whole model'} {first.tensor}"
    test = "; with --dtype float64 rounding shrinks with epsilon, and a fault does not"
    return [
        f"{where}: apart by {first.metrics.max_abs:.1g}, where the gradients at the layer's output are of size {size:.1g}: "
        "this may be rounding of what is zero in exact arithmetic"
        + (test if first.metrics.base_dtype != DType.F64.value else "")
    ]


def _listed(items: Sequence[str]) -> str:
    return ", ".join(items[:_SHOWN]) + (f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else "")


def _ref(layer: LayerInfo) -> LayerRef:
    return LayerRef(layer.route, layer.class_name, layer.hyperparameters)
