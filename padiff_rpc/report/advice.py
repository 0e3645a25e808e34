"""Advise in one line what to try next, from what failed and from what the run already used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from padiff_rpc.report.extras_in_words import accepting
from padiff_rpc.report.likely_causes import advice_of, leading_cause
from padiff_rpc.result import Divergence, Pair, Result

_BY_KIND = {
    "semantics": "compare the code of the two layers: float64 shows that they compute different functions",
    "float32 inside": "look in the two layers for what is cast to float32, or made in it (a table, a constant, a mask)",
    "lower precision": "look for what lowers the precision on that side: TF32, autocast, a fused kernel, a cast",
    "kink": "the layers agree: inputs that are zero but for rounding fall on either side of a kink, which --dtype float64 tells",
    "rounding": "the layer itself agrees in float64: --dtype float64 tells whether the models do",
}
"""What to do by what the judge has found of the first layer that differs."""


def advise(result: Result) -> str:
    """Return the next thing to try if a result differs; "" if it is aligned."""
    if result.aligned:
        return ""
    divergence = result.first_divergence
    failing = divergence.found_at if divergence else next((p for p in result.pairs if p.status == "fail"), None)
    if failing is None:
        return _nothing_failed(result)
    match failing.failure:
        case "dtype":
            return (
                "if the dtypes are meant to differ, allow it with --allow-dtype-difference; if not, give both sides "
                "one with --dtype"
            )
        case "shape":
            return _shape(result, divergence)
        case "axes":
            return "bring raw's axes into base's order there: all that reads the tensor takes one axis for another"
        case "nan":
            return _nan(result, failing)
        case "missing":
            return _missing(failing)
        case _:
            return _values(result, divergence, failing)


def framework(result: Result, side: str) -> str:
    """Return the framework of a side; "" if the result does not name it."""
    return str(_mapping(result.environment.get(side)).get("framework", ""))


def _nothing_failed(result: Result) -> str:
    extras = any(extra.status == "fails" for extra in result.extras)
    if extras or any(one.fails for one in (*result.unmatched_base, *result.unmatched_raw)):
        return _pair_or_accept(result)
    if any(pair.status == "pass" for pair in result.pairs):
        return "the notes above say what was not compared, and so what the run lacked"
    return "see above why nothing was compared; layers that were not found as pairs can be named with --pair BASE=RAW"


def _pair_or_accept(result: Result) -> str:
    accept = accepting(result.extras)
    meant = f"; what is meant to differ is accepted with {accept}" if accept else ""
    failing = [[one for one in side if one.fails] for side in (result.unmatched_base, result.unmatched_raw)]
    if any(one.proposal for side in failing for one in side):
        return f"put the lines above that are right into a map, and give it with --map FILE{meant}"
    if accept and not all(failing):
        return f"give the poorer model what it lacks{meant}"
    return (
        "pair what belongs together with --pair BASE=RAW (layers) or --map FILE (parameters too), or give the poorer model what "
        f"it lacks{meant}"
    )


def _shape(result: Result, divergence: Divergence | None) -> str:
    where = f"of {divergence.base.route or divergence.base.class_name!r} " if divergence else ""
    look = f"compare the hyper-parameters {where}that set the shape"
    inside = divergence is not None and any(
        _is_below(route, divergence.base.route) for route, _ in result.trees.get("base", [])
    )
    if inside and {framework(result, side) for side in ("base", "raw")} == {"torch", "paddle"}:
        look += (
            " and where its own code splits tensors (torch.split takes the size of a part, paddle.split their number)"
        )
    return f"{look}; if the two layers do not belong together, pair the right ones with --pair BASE=RAW"


def _nan(result: Result, failing: Pair) -> str:
    if not _in_float64(result):
        return (
            "run with --dtype float64: if the NaN or Inf goes away it was overflow, if it stays it is the formula; "
            f"{failing.tensor!r} is where it first shows"
        )
    return (
        f"it is no overflow, float64 has it too: look at what feeds {failing.tensor!r} (division, log, a mask of -inf)"
    )


def _missing(failing: Pair) -> str:
    if failing.stage in ("backward", "grads"):
        return (
            "one side sends no gradient there: is the parameter frozen, detached or unused on that side "
            "(requires_grad, stop_gradient, detach)?"
        )
    return "one side has no such tensor: compare what the two layers take and return"


def _values(result: Result, divergence: Divergence | None, failing: Pair) -> str:
    cause = leading_cause(result.causes, _is_random(result, divergence))
    shares = bool(result.settings.get("sync_random"))
    if cause is not None:
        if cause.name == "active dropout" and divergence is not None and _are_drops(divergence) and not shares:
            return f"run with --sync-random, so that raw's dropouts draw what base's do, or with --eval: {cause.words}"
        return advice_of(cause)
    if divergence and failing.stage == "forward" and _are_unlike_leaves(result, divergence):
        classes = f"{divergence.base.class_name} against {divergence.raw.class_name}"
        return f"the two layers are of different classes, {classes}: make them the same"
    if _is_random(result, divergence):
        if shares:
            return "random layers are active that cannot draw the same on both sides: set their rates to 0, or run with --eval"
        return (
            "random layers are active, and the two frameworks draw different numbers: run with --sync-random or --eval"
        )
    if result.judgement is not None and result.judgement.kind in _BY_KIND:
        return _BY_KIND[result.judgement.kind]
    match failing.stage:
        case "weights_before" if result.environment.get("raw", {}).get("recorded"):
            return "the weights differ before anything ran, and a dump takes no others: record raw from base's weights"
        case "weights_before":
            return (
                "the weights differ before anything ran: leave out --no-assign to copy base's into raw"
                if result.settings.get("assign") is False
                else "the weights were assigned and still differ: look at the parameter named above and its layout"
            )
        case "weights":
            return "gradients agree, so the optimisers do not: compare lr, momentum, weight decay and eps on both sides"
        case "buffers":
            return (
                "compare the momentum of the layer (torch's 0.1 is paddle's 0.9) and whether its variance is the "
                "biased or the unbiased one"
            )
        case "grads" | "backward" if not _in_float64(result):
            return (
                "forward agrees and gradients do not: run with --dtype float64; if they agree there, it is float32 "
                "rounding, if not, the backward is wrong"
            )
    if not result.settings.get("single_step"):
        return (
            "run again with --single-step: it feeds every raw layer base's own inputs, and so names each layer that "
            "adds an error"
        )
    if not _in_float64(result):
        return "compare the code of the two layers; --dtype float64 tells rounding (it goes away) from a wrong formula"
    return "single step in float64 leaves only the formula: compare the code of the two layers line by line"


def _are_unlike_leaves(result: Result, divergence: Divergence) -> bool:
    """Tell whether two layers without sublayers are of different classes, such as ReLU and ReLU6.

    Conv2d and Conv2D count as the same class. Layers with sublayers do not count: authors name whole blocks freely.
    """
    if divergence.base.class_name.lower() == divergence.raw.class_name.lower():
        return False
    return all(
        (layer.route, layer.class_name) in result.trees.get(side, [])
        and not any(_is_below(route, layer.route) for route, _ in result.trees[side])
        for side, layer in (("base", divergence.base), ("raw", divergence.raw))
    )


def _is_below(route: str, above: str) -> bool:
    return route != above and (not above or route.startswith(f"{above}."))


def _is_random(result: Result, divergence: Divergence | None) -> bool:
    drops = divergence is not None and any("Drop" in name for name in _classes(divergence))
    return (drops and not result.settings.get("sync_random")) or any("random" in note.lower() for note in result.notes)


def _are_drops(divergence: Divergence) -> bool:
    return all("Drop" in name for name in _classes(divergence))


def _classes(divergence: Divergence) -> tuple[str, str]:
    return divergence.base.class_name, divergence.raw.class_name


def _in_float64(result: Result) -> bool:
    return all(
        _mapping(result.settings.get(side)).get("dtype", result.settings.get("dtype")) == "float64"
        for side in ("base", "raw")
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
