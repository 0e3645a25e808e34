"""Measure how far raw's layers are from base's when each starts from base's own inputs, and how far tensors are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from padiff_rpc.align.prepare import Prepared
from padiff_rpc.align.run.fail_fast import PhaseStop, PhaseStopped
from padiff_rpc.align.run.pairing import Pairing
from padiff_rpc.align.run.phase import run_phase
from padiff_rpc.align.run.threads import SideThreads
from padiff_rpc.align.trying.decide import Fit
from padiff_rpc.compare.judge import statistics_for
from padiff_rpc.compare.rules import CompareRules
from padiff_rpc.compare.tolerances import EPSILON, tolerance
from padiff_rpc.match.layer_map import LayerPair
from padiff_rpc.model.model import ForwardRequest, Inputs, RecordOptions
from padiff_rpc.per_side import PerSide
from padiff_rpc.result import Pair
from padiff_rpc.tensors.tensor import DType

_RULES = CompareRules(mode="scaled", allow_dtype_difference=True)
"""A mean tells no order from another, so that the user's mode does not count here."""

_TELLS_NOTHING = ("shape", "dtype", "missing")
"""Failures that come of the layers' form, whatever their parameters hold."""


def measuring(prepared: Prepared) -> Prepared:
    """Return two models that are fed and judged as it takes to tell one alternative from another."""
    return replace(prepared, sides=replace(prepared.sides, rules=_RULES, single_step=True))


def fits_at_outputs(
    prepared: Prepared, threads: SideThreads, inputs: PerSide[Inputs], layers: Sequence[LayerPair]
) -> dict[str, Fit]:
    """Run both forwards without gradients, raw's layers fed with base's tensors; return the fit at each layer's outputs.

    Both models are reset before, so that a dump begins anew.

    Args:
        prepared: are the matched models, as `measuring` returns them.
        threads: run them.
        inputs: are the arguments of each forward, by name.
        layers: are the pairs of layers that are fed and measured. What lies between two of them is raw's own.

    Returns:
        The fits by base's route, without the layers that are not called on both sides, or of which no output can be compared.
    """
    settings, sides = prepared.settings, prepared.sides
    # Where each forward of the run sets the mode anew, dropout and running statistics need not blur this one.
    training = settings.training if settings.training is None or sides.replays else False
    threads.both(sides.base.reset, sides.raw.reset)

    def request(given: Inputs, routes: Iterable[str], sync: bool) -> ForwardRequest:
        record = RecordOptions(tuple(routes), gradients=False, sync=sync, statistics=statistics_for(_RULES))
        return ForwardRequest(given, training, settings.seed, gradients=False, record=record)

    to_base = {pair.raw: pair.base for pair in layers}
    of_base, of_raw = request(inputs.base, to_base.values(), False), request(inputs.raw, to_base, True)
    jobs = PerSide(
        lambda observer: sides.base.forward(of_base, observer), lambda observer: sides.raw.forward(of_raw, observer)
    )
    pairing = Pairing(to_base, numbered=sides.replays)
    try:
        judged = run_phase(sides, threads, pairing, "forward", 0, jobs, lambda _: None, PhaseStop(None)).judged
    except PhaseStopped as stopped:  # a model raised, after something had differed
        judged = stopped.judged
    outputs: dict[str, list[Pair]] = {}
    for one in judged:
        if one.base.side == "output":
            outputs.setdefault(one.base.route, []).extend(one.pairs)
    found = {route: fit_of(pairs) for route, pairs in outputs.items()}
    return {route: fit for route, fit in found.items() if fit is not None}


def fit_of(pairs: Sequence[Pair]) -> Fit | None:
    """Return how well these comparisons fit; None where none of them tells anything."""
    telling = [pair for pair in pairs if pair.status != "skipped" and pair.failure not in _TELLS_NOTHING]
    if not telling:
        return None
    return Fit(max(map(_error, telling)), all(map(_passes, telling)))


def _error(pair: Pair) -> float:
    error = 0.0 if pair.metrics is None else pair.metrics.rel_l2
    return math.inf if pair.failure == "nan" or math.isnan(error) else error


def _passes(pair: Pair) -> bool:
    """Tell whether a comparison is within the tolerance of a whole run: a layer is measured with all that lies in it."""
    metrics = pair.metrics
    if pair.status == "pass" or metrics is None or pair.failure != "values":
        return pair.status == "pass"
    base, raw = DType(metrics.base_dtype), DType(metrics.raw_dtype)
    return base in EPSILON and raw in EPSILON and metrics.rel_l2 <= tolerance(base, raw, pair.stage, False).rtol
