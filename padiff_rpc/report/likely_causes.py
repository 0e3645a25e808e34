"""Say what may have made the first difference, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence

from padiff_rpc.result import Cause

_MOST_SHOWN = 3
_NEAR = 0.15
"""What is that much worse than the best cause only follows from it, most often."""
_CERTAIN = 0.8
"""From this score on a cause stands above what is only known of the layer, such as that it draws random numbers."""

_ADVICE = {
    "hyper-parameter": "make these hyper-parameters equal, and run again: {evidence}",
    "configuration": "make these hyper-parameters equal, and run again: {evidence}",
    "epsilon": "give both layers one epsilon: {words}",
    "mode": "set both sides to one mode, with --eval or --train: {words}",
    "active dropout": "run with --eval, or set the rate to 0 on both sides: {words}",
    "downscale_in_infer": "build this dropout with mode='upscale_in_train': {words}",
    "padding_idx": "make both sides treat that index alike: {words}",
    "precision": "compute in one type on both sides: {words}",
    "axes": "bring raw's axes into base's order there: {words}",
    "order": "bring raw's elements into base's order there: {words}",
    "shift": "look for a position that is counted from another place: {words}",
    "part": "look at what the layer does there alone: {words}",
    "marked positions": "look at how the layer treats these positions: {words}",
    "missing gradient": (
        "is the parameter frozen, detached or unused on that side (requires_grad, stop_gradient, detach)? {words}"
    ),
    "cut gradient": "look for a detach, a mask or a saturated function on that side: {words}",
    "weight decay": "give both optimisers one weight decay for this parameter: {words}",
    "learning rate": "give both optimisers one learning rate: {evidence}",
    "optimiser option": "give both optimisers the same options: {evidence}",
    "no update": "give the parameter to that side's optimiser: {words}",
}
_OF_NUMBERS = "look for it in the code of the layer: {evidence}"
_OF_FORMULAS = "make the two the same, and run again: {words}"
_NUMBERS = ("constant factor", "offset", "sign", "factor by channel", "weights of a sum")


def shown_causes(causes: Sequence[Cause]) -> list[Cause]:
    """Return the causes for the terminal: the best ones, as long as they are about as good as the first. `--json` has all."""
    return [cause for cause in causes[:_MOST_SHOWN] if cause.score >= causes[0].score - _NEAR]


def advice_of(cause: Cause) -> str:
    """Return what to do about a cause."""
    form = _ADVICE.get(cause.name, _OF_NUMBERS if cause.name in _NUMBERS else _OF_FORMULAS)
    return form.format(words=cause.words, evidence=cause.evidence)


def leading_cause(causes: Sequence[Cause], random: bool) -> Cause | None:
    """Return the cause to act on first; None where there is none, or where random numbers may well be the whole difference."""
    if not causes or (random and causes[0].score < _CERTAIN):
        return None
    return causes[0]
