"""Judge one layer by itself: whether its two sides compute the same function, and in the same precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from padiff_rpc.compare.tolerances import EPSILON
from padiff_rpc.explain.distance import Distance, distance, flipped_signs, narrowest, share_of_difference
from padiff_rpc.explain.judgement import Judgement, Kind, TensorError
from padiff_rpc.explain.layer_in_step import LayerInStep
from padiff_rpc.explain.pair_replays import Key, Paired, pair_replays
from padiff_rpc.explain.replays import CannotJudge, Replayed, Replays
from padiff_rpc.model.replaying import Replaying
from padiff_rpc.per_side import OTHER_SIDE, SIDES, PerSide, SideName
from padiff_rpc.tensors.tensor import DType, Tensor

ROUNDING = 1e-9
"""The largest relative distance (L2) in float64 between sides that compute the same. Healthy transformers reach 2e-15."""
ROUNDING_OF_CONSTANTS = 1e-7
"""The same where paddle keeps a constant in float32 in every dtype (an epsilon, one over the size of a window)."""
FLOAT32_INSIDE = 1e-6
"""The largest relative distance that float32 inside explains by itself."""
FACTOR_OF_FLOAT32 = 2.0**-22
"""How far raw = factor x base may be from base where a constant was rounded to float32; beyond, it is another constant."""
LESS_PRECISE = 3.0
"""How many times further from float64 than the other side a side is that computes in lower precision."""
_NAIVE_SUM = 16.0
"""How many epsilons of float32 (or float64) a tensor may be off by the order of its sums alone: two frameworks' kernels for the
gradients of a norm's weights are one and three epsilons off. Sums of halves are taken in float32."""
FEW = 0.1
"""The share of elements that hold nine tenths of a difference, up to which single elements make it, and not rounding."""
_NEARLY_ZERO = 1e-4
"""The share of the largest root mean square in the layer below which a tensor may be zero but for rounding (a bias before a
softmax). A fault in it still shows above ROUNDING times this share."""
_INSIDE = 16.0
"""How many roundings of a lower precision a difference may be that this precision inside explains."""
_CONSTANTS_OF_PADDLE = ("batchnorm", "avgpool")


def judge_layer(layer: LayerInStep, seed: int = 0) -> Judgement:
    """Replay a layer on both sides, in float64 and then in their own dtypes, and say what its difference is.

    Raw takes base's own inputs, and has base's weights, so that nothing is inherited. Nothing of either model changes but that
    the autograd graph of the last step is dropped.

    Args:
        layer: The layer call.
        seed: The seed of the projection from which backward runs.

    Raises:
        PadiffError: A worker cannot be reached any more, and the like; that a layer cannot be replayed is a finding.
    """
    blank = Judgement(layer.routes.base, layer.routes.raw, layer.call, "not judged")
    for side, model in layer.models.items():
        if not isinstance(model, Replaying):
            return replace(blank, why=f"{side} is a dump, which cannot be run")
    replays = Replays(layer, seed)
    try:
        exact = replays.exact()
        paired = pair_replays(layer, exact)
        measured = {key: distance(both.base, both.raw) for key, both in paired.tensors.items()}
        if replays.without_backward:
            paired.not_compared.append(f"the gradients: {replays.without_backward}")
        blank = replace(blank, not_compared=tuple(paired.not_compared), limit=_limit(layer))
        found = _in_float64(blank, paired, measured)
    except CannotJudge as err:
        return replace(blank, why=str(err))
    if found.kind != "rounding":
        return found
    try:
        return _in_own_dtypes(found, layer, exact, replays.own(), paired, _scales(measured))
    except CannotJudge as err:
        return replace(found, not_compared=(*found.not_compared, f"the sides in their own dtypes: {err}"))


def _in_float64(blank: Judgement, paired: Paired, measured: Mapping[Key, Distance]) -> Judgement:
    """Judge by the replays in float64 alone."""
    if any(each.nans for each in measured.values()):
        return replace(blank, why="there is NaN on both sides in float64")
    errors = _errors(measured)
    found = replace(blank, errors=errors)
    if paired.missing:
        return replace(found, kind="semantics", why="; ".join(paired.missing))
    if found.apart <= found.limit:
        return replace(found, kind="rounding")
    for side in SIDES:
        dtype = _betrayed(paired.tensors, side)
        if dtype is not None and found.apart <= _INSIDE * EPSILON[dtype] / 2:
            kind: Kind = "float32 inside" if dtype is DType.F32 else "lower precision"
            return replace(found, kind=kind, side=side, dtype=dtype.value)
    factors = [each.factor for each in errors if each.apart > found.limit]
    if found.apart <= FLOAT32_INSIDE and all(abs(factor - 1) <= FACTOR_OF_FLOAT32 for factor in factors):
        return replace(found, kind="float32 inside")
    return replace(found, kind="semantics")


def _in_own_dtypes(
    found: Judgement,
    layer: LayerInStep,
    exact: PerSide[Replayed],
    own: PerSide[Replayed],
    paired: Paired,
    scales: Mapping[str, float],
) -> Judgement:
    """Tell plain rounding from lower precision and from kinks, where both sides compute the same in float64."""
    owned = pair_replays(layer, own, inputs=exact)
    off: dict[Key, PerSide[float]] = {}
    for key, both in paired.tensors.items():
        if key in owned.tensors:
            mine = owned.tensors[key]
            off[key] = PerSide(
                distance(both.base, mine.base).relative(scales[key[0]]),
                distance(both.raw, mine.raw).relative(scales[key[0]]),
            )
    errors = tuple(
        replace(each, e_base=off[_key(each)].base, e_raw=off[_key(each)].raw) if _key(each) in off else each
        for each in found.errors
    )
    found = replace(found, errors=errors)
    worse = {key: side for key, each in off.items() if (side := _less_precise(each, owned.tensors[key]))}
    outputs = [side for key, side in worse.items() if key[0] == "output"]
    if outputs:
        return replace(found, kind="lower precision", side=outputs[0])
    if not worse:
        return found
    flips = _flips(layer, exact, own)
    few = all(share_of_difference(owned.tensors[key].base, owned.tensors[key].raw) <= FEW for key in worse)
    if flips or few:
        return replace(found, kind="kink", flips=flips)
    return replace(found, kind="lower precision", side=next(iter(worse.values())))


def _errors(measured: Mapping[Key, Distance]) -> tuple[TensorError, ...]:
    scales = _scales(measured)
    errors = [
        TensorError(*key, apart=each.relative(scales[key[0]]), factor=each.factor) for key, each in measured.items()
    ]
    return tuple(sorted(errors, key=lambda each: -each.apart))


def _scales(measured: Mapping[Key, Distance]) -> dict[str, float]:
    """Return, for outputs and for gradients, the root mean square below which a tensor may be zero but for rounding."""
    outputs = max((each.rms for key, each in measured.items() if key[0] == "output"), default=0.0)
    gradients = max((each.rms for key, each in measured.items() if key[0] != "output"), default=0.0)
    scales = {"output": outputs, "input gradient": gradients, "parameter gradient": gradients}
    return {quantity: _NEARLY_ZERO * size for quantity, size in scales.items()}


def _betrayed(tensors: Mapping[Key, PerSide[Tensor]], side: SideName) -> DType | None:
    """Return the lower precision that one side's float64 outputs are exact in, though the other's are not."""
    for key, both in tensors.items():
        if key[0] == "output" and both.base.spec.dtype is both.raw.spec.dtype is DType.F64:
            dtype = narrowest(both.of(side))
            if dtype is not None and narrowest(both.of(OTHER_SIDE[side])) is None:
                return dtype
    return None


def _less_precise(off: PerSide[float], tensors: PerSide[Tensor]) -> SideName | None:
    """Return the side that is much further from its own float64 than the other, and than a rounding of its dtype."""
    for side in SIDES:
        other = OTHER_SIDE[side]
        dtype = tensors.of(side).spec.dtype
        if dtype in EPSILON and off.of(side) > LESS_PRECISE * max(off.of(other), _noise(dtype)):
            return side
    return None


def _noise(dtype: DType) -> float:
    return EPSILON[dtype] * (0.5 if dtype.item_bytes <= 2 else _NAIVE_SUM)


def _flips(layer: LayerInStep, exact: PerSide[Replayed], own: PerSide[Replayed]) -> int:
    """Count the elements of inner layers' outputs near zero whose signs differ between the sides; 0 where others differ too."""
    total = 0
    for routes in layer.inner:
        wanted = [replays.outputs_inside(routes.of(side)) for replays, side in _each(exact, own)]
        for boundaries in zip(*wanted, strict=False):
            for records in zip(*(boundary.records for boundary in boundaries), strict=False):
                exact_base, exact_raw, base, raw = (
                    replay.tensors[record.id] for (replay, _), record in zip(_each(exact, own), records, strict=True)
                )
                if not base.spec.dtype.is_floating or base.spec.shape != raw.spec.shape:
                    continue
                reach = 4 * max(distance(exact_base, base).relative(), distance(exact_raw, raw).relative())
                near, far = flipped_signs(base, raw, exact_base, reach)
                if far:
                    return 0
                total += near
    return total


def _each(exact: PerSide[Replayed], own: PerSide[Replayed]) -> list[tuple[Replayed, SideName]]:
    return [(exact.base, "base"), (exact.raw, "raw"), (own.base, "base"), (own.raw, "raw")]


def _limit(layer: LayerInStep) -> float:
    """Return the largest distance in float64 that is rounding: more where paddle keeps constants in float32."""
    for side, description in layer.described.items():
        if description.framework != "paddle":
            continue
        ahead = [layer.routes.of(side)]
        while ahead:
            info = description.layer(ahead.pop())
            if any(word in info.class_name.lower() for word in _CONSTANTS_OF_PADDLE):
                return ROUNDING_OF_CONSTANTS
            ahead += info.children
    return ROUNDING


def _key(error: TensorError) -> Key:
    return error.quantity, error.base, error.raw
