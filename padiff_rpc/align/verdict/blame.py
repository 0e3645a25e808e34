"""Find the layers that introduce a difference, from the failing comparisons."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence

from padiff_rpc.align.run.judged_boundary import GETS, Judged
from padiff_rpc.align.stages.findings import StepResult
from padiff_rpc.align.verdict.cuts import Cuts
from padiff_rpc.match.routes import listed
from padiff_rpc.model.api_names import api_name
from padiff_rpc.model.model import LayerCall, ModelDescription
from padiff_rpc.per_side import PerSide
from padiff_rpc.result import Divergence, LayerRef, Pair, Stage

_ROOT: LayerCall = ("", 0)
_UNSEEN = "the model's outputs are not recorded"
_AGREES = 1e-4
"""The relative L2 error up to which a gradient is said to agree."""
_MOST_TOLD = 4
"""Names of functional calls in one sentence, where the sides make other calls in the layer at fault."""


class Blame:
    """Finds the layers to look into. Calls are base's.

    Args:
        described: are both models' descriptions.
        routes: maps base's routes to raw's.
        hidden: maps the base route of a layer to the layers directly inside it that are left out, and so not recorded (see
            `Scope`).
        inferred: are the base routes of layers that no parameter ties to their partners.
    """

    def __init__(
        self,
        described: PerSide[ModelDescription],
        routes: Mapping[str, str],
        hidden: Mapping[str, Sequence[str]] | None = None,
        inferred: Collection[str] = (),
    ) -> None:
        self._described = described
        self._routes = routes
        self._hidden = hidden or {}
        self._inferred = inferred

    def divergences(self, findings: StepResult, single_step: bool) -> list[Divergence]:
        """Return the divergences that this step's findings tell apart, in execution order, one per layer.

        In single step every layer named introduced its own error. Otherwise that is known of the first layer alone, since all
        others inherit from it.
        """
        found: dict[str, Divergence] = {}
        for divergence in self._all(findings, single_step):
            found.setdefault(divergence.base.route, divergence)
            if not single_step:
                break
        return list(found.values())

    def own_buffer(self, pair: Pair) -> Divergence:
        """Blame the layer that holds a buffer which raw computes otherwise than base, and which no checkpoint brings."""
        why = (
            "raw computes a buffer of it otherwise, and no checkpoint brings base's: the rest was compared with base's"
        )
        return self._divergence(StepResult(0), "weights_before", (pair.base_route, pair.call), pair, why)

    def _all(self, findings: StepResult, single_step: bool) -> Iterator[Divergence]:
        inherited = _Inherited(single_step)
        cuts = Cuts(findings.missing)
        put_off: list[Divergence] = []
        yield from self._held(findings, "weights_before", "its parameters differ before the first step")
        yield from self._certain(findings, self._forward(findings, inherited), single_step, put_off)
        if not inherited.nan:
            recorded = any(one.base.route == "" for one in findings.forward)
            why = "the outputs agree, the loss computed from them does not"
            yield from self._held(findings, "loss", why if recorded else f"{_UNSEEN}, and the losses differ")
        yield from self._certain(findings, self._backward(findings, inherited, cuts), single_step, put_off)
        if not inherited.nan:
            yield from self._grads(findings, cuts)
            yield from self._held(findings, "weights", "its parameter's gradient agrees, the optimiser's step does not")
            yield from self._held(findings, "buffers", "its buffer differs after the step")
        yield from put_off

    def _certain(
        self, findings: StepResult, found: Iterator[Divergence], single_step: bool, put_off: list[Divergence]
    ) -> Iterator[Divergence]:
        """Put off what may be no difference at all, since unlike tensors were compared, until after all that is one.

        Such is what a layer gets that no parameter ties to its partner, where another may correspond; and what it makes of that.
        Such are tensors of two shapes beside the first that a layer takes: they go by place or name, and may mean unlike things.
        And such are gradients of a layer's inputs of which each side has one that the other lacks: these stand in another order.
        In single step layers get base's tensors, so that each stands for itself.
        """
        if single_step:
            yield from found
            return
        both = (*findings.forward, *findings.backward)
        gets = [one for one in both if one.pairs and one.base.side == GETS[one.pairs[0].stage]]
        misled = {
            (one.pairs[0].stage, one.base.route, one.base.call)
            for one in gets
            if one.base.route in self._inferred and one.base.caller and any(pair.status != "pass" for pair in one.pairs)
        }
        beside = {(pair.base_route, pair.call, pair.tensor) for one in gets for pair in one.pairs[1:]}
        whose: dict[LayerCall, set[str]] = {}
        for one in findings.missing:
            if one.side == "input":
                whose.setdefault(one.call, set()).add(one.pair.why)
        for divergence in found:
            pair = divergence.found_at
            call = (pair.base_route, pair.call)
            unlike = pair.failure in ("shape", "dtype") and (*call, pair.tensor) in beside
            ordered = pair.failure == "missing" and len(whose.get(call, ())) > 1
            if unlike or ordered or (pair.stage, *call) in misled:
                put_off.append(divergence)
                continue
            # Where the same layer is at fault, the earlier tensor tells more exactly where in its own code.
            yield next((one for one in put_off if _place_of(one) == _place_of(divergence)), divergence)

    def _forward(self, findings: StepResult, inherited: _Inherited) -> Iterator[Divergence]:
        parents = {one.base.caller for one in findings.forward}
        for one in findings.forward:
            pair = one.failed
            if pair is None:
                continue
            culprit: LayerCall = (one.base.route, one.base.call)
            if one.base.side == "input" and one.base.caller is None:
                why = "the inputs given to the two models differ"
                if one.base.route:
                    why = f"its input differs already, and what comes before it is not recorded{self._outside()}"
            elif one.base.side == "input" and one.base.caller is not None:
                culprit = one.base.caller
                why = (
                    "its inputs and children agree until here: its own code changes what it hands to "
                    f"{self._title(one.base.route)}"
                )
            elif culprit in parents:
                why = "its inputs and children agree until here: its own code after its last child changes the output"
            else:
                why = "its inputs agree, its output does not"
            if inherited.take_forward(one, culprit):
                continue
            call = findings.calls.first_failing(culprit, before=one.base.seq)
            words = findings.calls.words.get(culprit, ())[:_MOST_TOLD]
            if call is None or call.failed is None:
                yield self._divergence(findings, "forward", culprit, pair, "; ".join((why, *words)))
            else:
                pair, name = call.failed, api_name(call.base.route, culprit[0])
                why = f"its call {pair.call} of {name} is the first to differ"
                if words:  # what only one side calls may well be the fault, and comes before it
                    why = "; ".join((f"{why} of those that both sides make", *words))
                yield self._divergence(findings, "forward", culprit, pair, why, f"{name}.{pair.tensor}")

    def _backward(self, findings: StepResult, inherited: _Inherited, cuts: Cuts) -> Iterator[Divergence]:
        parents = {one.base.caller for one in findings.backward}
        found: list[tuple[float, Divergence]] = [
            (cut.missing.at, self._divergence(findings, "backward", cut.culprit, cut.missing.pair, cut.why))
            for cut in cuts.own()
        ]
        for one in findings.backward:
            pair = one.failed
            if pair is None:
                continue
            culprit: LayerCall | None = (one.base.route, one.base.call)
            if one.base.side == "input":
                inside = " and those inside it" if culprit in parents else ""
                why = f"the gradients of its outputs{inside} agree, what it sends back to its input does not"
            else:
                # Where an enclosing layer returns this very tensor, its boundary came first: outer ones are told first.
                culprit = one.base.caller
                why = (
                    "gradients agree until here: its own code, run backward, changes the gradient that it sends to "
                    f"{self._title(one.base.route)}"
                )
            if culprit is None:
                culprit, why = _ROOT, "the gradient that the loss sends to the model's output differs"
                if one.base.route:
                    culprit = (one.base.route, one.base.call)
                    why = f"the gradient of its output differs already, and what comes after it is not recorded{self._outside()}"
            if not inherited.take_backward(one, culprit) and not cuts.lacks_summand(culprit):
                found.append((one.base.seq, self._divergence(findings, "backward", culprit, pair, why)))
        found.sort(key=lambda entry: entry[0])
        yield from (divergence for _, divergence in found)

    def _grads(self, findings: StepResult, cuts: Cuts) -> Iterator[Divergence]:
        ran = {one.base.route for one in findings.forward}
        why = "the gradients at its boundary agree, that of its own parameter does not"
        for pair in self._failing(findings, "grads"):
            route, reason = pair.base_route, why
            if pair.failure == "missing":
                if route in cuts.silent_routes:
                    continue
                while route not in ran and route:
                    route, reason = route.rpartition(".")[0], "one side makes no use of a layer inside it"
            yield self._divergence(findings, "grads", (route, pair.call), pair, reason)

    def _held(self, findings: StepResult, stage: Stage, why: str) -> Iterator[Divergence]:
        """Blame the holders of failing parameters. A step that follows a wrong gradient only inherits."""
        before = {(pair.base_route, pair.tensor) for pair in self._failing(findings, "grads")}
        for pair in self._failing(findings, stage):
            if stage != "weights" or (pair.base_route, pair.tensor) not in before:
                told = _apart_before(findings, pair) if stage == "weights" else ""
                yield self._divergence(findings, stage, (pair.base_route, pair.call), pair, told or why)

    def _failing(self, findings: StepResult, stage: Stage) -> list[Pair]:
        """Return the failing pairs of a stage; gradients in the order in which backward reached their layers."""
        failing = [pair for pair in findings.others if pair.stage == stage and pair.status == "fail"]
        if stage == "grads":
            reached = {one.base.route: at for at, one in reversed(list(enumerate(findings.backward)))}
            failing.sort(key=lambda pair: reached.get(pair.base_route, len(reached) + len(findings.backward)))
        return failing

    def _divergence(
        self, findings: StepResult, stage: Stage, culprit: LayerCall, pair: Pair, why: str, tensor: str = ""
    ) -> Divergence:
        route, call = culprit
        if pair.failure in ("shape", "dtype", "nan", "missing", "axes") and pair.why:
            why = f"{why} ({pair.why})"
        for fact in findings.one_sided.get(culprit, ()):
            why = f"{why}; {fact}"
        if stage in ("forward", "backward") and (inside := self._hidden.get(route)):
            why = f"{why}; left out inside it: {listed(inside)}"
        if not tensor:
            tensor = pair.tensor if route == pair.base_route else f"{pair.tensor} of {self._title(pair.base_route)}"
        base_layer = self._described.base.layer(route)
        raw_layer = self._described.raw.layer(self._routes[route])
        return Divergence(
            step=findings.step,
            stage=stage,
            base=LayerRef(base_layer.route, base_layer.class_name, base_layer.hyperparameters),
            raw=LayerRef(raw_layer.route, raw_layer.class_name, raw_layer.hyperparameters),
            call=call,
            tensor=tensor,
            why=why,
            found_at=pair,
        )

    def _outside(self) -> str:
        """Name what is left out outside all recorded layers."""
        outside = self._hidden.get("", ())
        return f" (left out: {listed(outside)})" if outside else ""

    def _title(self, route: str) -> str:
        return repr(route) if route else self._described.base.class_name


def _apart_before(findings: StepResult, pair: Pair) -> str:
    """Say how far apart the gradient of a parameter is that passes and whose step fails; "" where it is no more than rounding."""
    same = (pair.base_route, pair.raw_route, pair.tensor)
    for grad in findings.others:
        of_it = grad.stage == "grads" and (grad.base_route, grad.raw_route, grad.tensor) == same
        if of_it and grad.metrics is not None and _AGREES < grad.metrics.rel_l2 < math.inf:
            return (
                f"its parameter's gradient passes and is {grad.metrics.rel_l2:.2g} apart (relative L2), the optimiser's step "
                "does not pass: either of them may be at fault"
            )
    return ""


def _place_of(divergence: Divergence) -> tuple[Stage, str, int]:
    return divergence.stage, divergence.base.route, divergence.call


class _Inherited:
    """Tells the failures that spread even in single step: base's own NaN, and tensors of another shape or type.

    `nan` says that base holds NaN from somewhere on. In single step, a call is spoiled when it went on with a tensor that could
    not be replaced. In other runs all that follows inherits, and only the first failure that is certain counts.
    """

    def __init__(self, single_step: bool) -> None:
        self.nan = False
        self._replaces = single_step
        self._spoiled: set[LayerCall | None] = set()

    def take_forward(self, one: Judged, culprit: LayerCall) -> bool:
        """Take a failing boundary in; tell whether it merely inherits."""
        inherits = culprit in self._spoiled or self._has_nan(one)
        if self._replaces and any(_keeps_raws(pair) for pair in one.pairs):
            self._spoiled |= {(one.base.route, one.base.call), one.base.caller}
        return inherits

    def take_backward(self, one: Judged, culprit: LayerCall) -> bool:
        unlike = one.failed is not None and _keeps_raws(one.failed)
        return (culprit in self._spoiled and unlike) or self._has_nan(one)

    def _has_nan(self, one: Judged) -> bool:
        """Tell whether base's NaN, if this boundary holds any, was there before."""
        before, self.nan = self.nan, self.nan or one.has_nan
        return before and one.has_nan


def _keeps_raws(pair: Pair) -> bool:
    """Tell whether base's tensor could not replace raw's; what is not measured has another shape."""
    return pair.failure in ("shape", "dtype") or (pair.failure == "axes" and pair.metrics is None)
