"""Gather what is known of the first divergence: facts about its layer, and tensors of its step, which is run once more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from padiff_rpc.align.prepare import Prepared
from padiff_rpc.align.stages.findings import StepResult
from padiff_rpc.align.verdict.evidence_at_boundary import at_boundary, directly_inside
from padiff_rpc.align.verdict.evidence_of_loss import of_loss
from padiff_rpc.align.verdict.evidence_of_parameter import link_of, of_parameter
from padiff_rpc.align.verdict.run_again import Again, Lacking
from padiff_rpc.errors import PadiffError
from padiff_rpc.explain.causes.evidence import Evidence, SeenLayer, SeenOptimizer
from padiff_rpc.model.model import Inputs, LossSpec, Model, OptionValue
from padiff_rpc.per_side import PerSide, SideName
from padiff_rpc.result import Divergence
from padiff_rpc.tensors.tensor import Tensor, collect_all


@dataclass(frozen=True)
class Gathered:
    """The evidence, and why its tensors are not at hand; "" where they are."""

    evidence: Evidence
    lacks: str = ""


def gather_evidence(
    prepared: Prepared, steps: Sequence[StepResult], divergence: Divergence, inputs: PerSide[Inputs]
) -> Gathered:
    """Gather the evidence of a divergence. Nothing is raised: where the tensors cannot be had, it holds the facts alone.

    The models take part once more, so that their weights, and what they hold of the run, are not to be used after this.

    Args:
        prepared: are the matched models and the settings.
        steps: are the results of the run.
        divergence: is the first one.
        inputs: are the arguments of each side's forward.
    """
    step = next(one for one in steps if one.step == divergence.step)
    facts = _facts(prepared, step, divergence)
    try:
        return Gathered(_with_tensors(prepared, step, divergence, inputs, facts))
    except Lacking as lacking:
        return Gathered(facts, str(lacking))
    except PadiffError as err:
        return Gathered(facts, f"running the step once more for its tensors failed: {err.message}")


# -- facts ---------------------------------------------------------------------------------------------------------------
def _facts(prepared: Prepared, step: StepResult, divergence: Divergence) -> Evidence:
    found_at, metrics = divergence.found_at, divergence.metrics
    base = raw = None
    if divergence.stage == "loss" and metrics is not None and metrics.base_value is not None:
        base, raw = np.array(metrics.base_value), np.array(metrics.raw_value)
    return Evidence(
        stage=divergence.stage,
        step=divergence.step,
        tensor=divergence.tensor,
        layers=_seen(prepared, PerSide(divergence.base.route, divergence.raw.route)),
        failure=found_at.failure,
        why=found_at.why,
        enclosing=tuple(
            _seen(prepared, routes)
            for routes in _around(prepared, divergence.base.route)
            if routes.base != divergence.base.route
        ),
        inside=tuple(
            _seen(prepared, routes)
            for routes in directly_inside(prepared, step, PerSide(divergence.base.route, divergence.raw.route))
        ),
        dtypes=PerSide(metrics.base_dtype, metrics.raw_dtype) if metrics else PerSide("", ""),
        base=base,
        raw=raw,
        optimizers=_optimizers(prepared, step, divergence),
        shares_draw=step.draws is not None and divergence.raw.route in {*step.draws.shared, *step.draws.refused},
    )


def _around(prepared: Prepared, route: str) -> list[PerSide[str]]:
    """Return the matched layers that enclose a layer of base, the innermost first."""
    to_raw = {pair.base: pair.raw for pair in prepared.matching.layers}
    found: list[PerSide[str]] = []
    while route:
        route = route.rpartition(".")[0]
        if route in to_raw:
            found.append(PerSide(route, to_raw[route]))
    return found


def _seen(prepared: Prepared, routes: PerSide[str]) -> PerSide[SeenLayer]:
    training = prepared.settings.training

    def of(side: SideName) -> SeenLayer:
        description = prepared.described.of(side)
        layer = description.layer(routes.of(side))
        info = prepared.sides.models.of(side).info()
        return SeenLayer(
            layer.route,
            layer.class_name,
            layer.hyperparameters,
            description.framework,
            info.framework_version,
            layer.training if training is None else training,
        )

    return PerSide(of("base"), of("raw"))


def _optimizers(prepared: Prepared, step: StepResult, divergence: Divergence) -> PerSide[SeenOptimizer | None]:
    """Return how each side's optimiser treats the parameter that differs, as it tells; else by what it was named."""
    if divergence.stage == "weights" and step.options is not None:
        try:
            link, raw = link_of(prepared, divergence.found_at)
            treated = step.options.treated([link])
            told = PerSide(treated.base.get(link.base[0]), treated.raw.get(raw))
        except Lacking:
            told = PerSide(None, None)
        if told.base is not None and told.raw is not None:
            return told.map(lambda one: None if one is None else SeenOptimizer(one[0], _numbers(one[1])))
    return prepared.settings.optimizers.map(
        lambda spec: None if spec is None else SeenOptimizer(spec.name, spec.options)
    )


def _numbers(options: Mapping[str, OptionValue]) -> dict[str, float]:
    return {name: float(value) for name, value in options.items() if not isinstance(value, str)}


# -- tensors -------------------------------------------------------------------------------------------------------------
def _with_tensors(
    prepared: Prepared, step: StepResult, divergence: Divergence, inputs: PerSide[Inputs], facts: Evidence
) -> Evidence:
    facts = replace(facts, ids=_integers(inputs.base, prepared.settings.base_loss))
    if divergence.stage == "weights_before" or divergence.found_at.failure in ("missing", "dtype"):
        return facts
    again = Again(prepared, step, inputs)
    again.check()
    buffers = [(model, _buffers(model)) for model in prepared.sides.models if not model.info().recorded]
    try:
        again.start(divergence)
        if divergence.stage in ("forward", "backward"):
            return at_boundary(again, step, divergence, facts)
        if divergence.stage == "loss":
            return of_loss(again, step, divergence, facts)
        return of_parameter(again, step, divergence, facts)
    finally:
        for model, held in buffers:
            model.write_parameters(tensor.stream(name) for name, tensor in held.items())
        for model in prepared.sides.models:
            model.reset()


def _buffers(model: Model) -> dict[str, Tensor]:
    return collect_all(model.read_parameters([i.name for i in model.describe().parameters if i.kind == "buffer"]))


def _integers(inputs: Inputs, loss: LossSpec) -> dict[str, np.ndarray]:
    """Return the integer and boolean tensors that the model and the loss were given, as float64."""
    given = {**inputs, **loss.targets}
    return {
        name: value.to_array().astype(np.float64)
        for name, value in given.items()
        if isinstance(value, Tensor) and not value.spec.dtype.is_floating and not value.spec.dtype.is_complex
    }
