"""The result of an alignment: plain data that `align` writes and `report` reads, and its JSON form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from padiff_rpc.per_side import SideName

SCHEMA = "padiff-rpc/result/1"

Stage = Literal["weights_before", "forward", "loss", "backward", "grads", "weights", "buffers"]
STAGES: tuple[Stage, ...] = ("weights_before", "forward", "loss", "backward", "grads", "weights", "buffers")
Status = Literal["pass", "fail", "skipped"]
Failure = Literal["", "values", "nan", "shape", "dtype", "missing", "axes", "floor"]
"""The kind of a failure: values out of tolerance, NaN or Inf, another shape or dtype, a tensor that one side lacks, the same
elements along axes in another order, or more than rounding makes of it in this run."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """How far two tensors are apart, in float64; base is the reference.

    Attributes:
        max_abs: is max |raw - base|.
        max_rel: is max |raw - base| / |base| over the elements with base != 0.
        mean_abs: is the mean of |raw - base|.
        rel_l2: is ||raw - base|| / ||base||, or ||raw - base|| where base is all zero.
        cosine: is the cosine similarity of the flattened tensors.
        mismatched: counts the elements out of tolerance.
        total: counts all elements; a complex one counts as two. It is 1 where two means are compared.
        nan: counts the NaN of both sides together.
        inf: counts the Inf of both sides together.
        index: is the place of max_abs, or of the first non-finite difference.
        allowed: is the limit of the check, in the unit of `measured`.
        measured: is the value that was held against this limit.
        measure: names that value, such as "rel_l2".
        base_value: is base's element at `index`, or base's mean.
        raw_value: is raw's element at `index`, or raw's mean.
        base_dtype: is base's element type, under its name in safetensors.
        raw_dtype: is raw's element type, under its name in safetensors.
        floor: is how far base's own tensor moves (relative L2) when weights and inputs move by their last bit, and at least two
            such moves; None where it was not measured.
        ratio: is rel_l2 / floor.
    """

    max_abs: float
    max_rel: float
    mean_abs: float
    rel_l2: float
    cosine: float
    mismatched: int
    total: int
    nan: int
    inf: int
    index: tuple[int, ...]
    allowed: float
    measured: float
    measure: str
    base_value: float | None = None
    raw_value: float | None = None
    base_dtype: str = ""
    raw_dtype: str = ""
    floor: float | None = None
    ratio: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one comparison of two tensors.

    Attributes:
        status: tells whether they agree.
        failure: tells in which way they do not; it is empty unless the status is "fail".
        why: gives the reason in a sentence for people; it is empty where a pass needs none.
        metrics: tell how far the tensors are apart; None where this was not measured.
    """

    status: Status
    failure: Failure
    why: str
    metrics: Metrics | None

    @classmethod
    def skip(cls, why: str) -> Verdict:
        """Return the verdict on tensors that are not compared, for the reason `why`."""
        return cls("skipped", "", why, None)


@dataclass(frozen=True, slots=True)
class Pair:
    """One comparison of two tensors that correspond, and its verdict.

    Attributes:
        step: counts the steps from 0.
        stage: names the part of the step from which the tensors come.
        base_route: is the route of the layer in base; "" stands for the whole model.
        raw_route: is the route of the layer in raw.
        call: counts the calls of the layer in this step, from 0.
        tensor: names the tensor in its layer, such as `output.0` or `input.hidden_states`; a parameter has its own name in raw,
            such as `weight`.
        status: tells whether the tensors agree.
        why: gives the reason in a sentence for people.
        failure: tells in which way they do not agree. Of what is skipped, an output that one model alone returns has "missing".
        metrics: tell how far they are apart; None where this was not measured.
        base_tensor: is the parameter's own name in base where it differs from raw's; several names are joined by commas.
    """

    step: int
    stage: Stage
    base_route: str
    raw_route: str
    call: int
    tensor: str
    status: Status
    why: str = ""
    failure: Failure = ""
    metrics: Metrics | None = None
    base_tensor: str = ""

    @classmethod
    def of(
        cls,
        verdict: Verdict,
        *,
        step: int,
        stage: Stage,
        base_route: str,
        raw_route: str,
        tensor: str,
        call: int = 0,
        base_tensor: str = "",
    ) -> Pair:
        """Return the comparison that stands at this place, with its verdict."""
        return cls(
            step=step,
            stage=stage,
            base_route=base_route,
            raw_route=raw_route,
            call=call,
            tensor=tensor,
            status=verdict.status,
            why=verdict.why,
            failure=verdict.failure,
            metrics=verdict.metrics,
            base_tensor=base_tensor,
        )

    def judged_anew(self, verdict: Verdict) -> Pair:
        """Return the same comparison with another verdict."""
        return replace(self, status=verdict.status, why=verdict.why, failure=verdict.failure, metrics=verdict.metrics)


@dataclass(frozen=True)
class LayerRef:
    """A layer by its route and class, with its hyperparameters under the names that its framework gives them."""

    route: str
    class_name: str
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Divergence:
    """A layer that introduces a difference, and the failing comparison that shows it.

    Attributes:
        step: counts the steps from 0.
        stage: names the part of the step in which the difference shows.
        base: is the layer to look into, in base.
        raw: is the layer to look into, in raw.
        call: counts the calls of the layer in this step, from 0.
        tensor: names the tensor that differs; it names the layer as well where that is another one.
        why: gives the reason in one sentence for people.
        found_at: is the failing comparison. It lies at the layer to look into; where that layer's own code between its children
            is at fault, it lies at the child that came next.
    """

    step: int
    stage: Stage
    base: LayerRef
    raw: LayerRef
    call: int
    tensor: str
    why: str
    found_at: Pair

    @property
    def metrics(self) -> Metrics | None:
        """How far the tensors of the failing comparison are apart."""
        return self.found_at.metrics


@dataclass(frozen=True)
class IntroducedError:
    """What a layer adds to the difference itself, found by handing raw's layer base's own tensors.

    Attributes:
        stage: names the part of the step: forward, backward or grads.
        base_route: is the layer in base.
        raw_route: is its partner in raw.
        class_name: is base's class.
        tensor: names the tensor at which most of it shows.
        total: is the error there in the plain run, as a relative L2 distance: what came to the layer included.
        introduced: is the error that the layer adds.
        floor: is what rounding makes of one such tensor, in one layer.
        ratio: is introduced / floor.
    """

    stage: Stage
    base_route: str
    raw_route: str
    class_name: str
    tensor: str
    total: float
    introduced: float
    floor: float
    ratio: float


@dataclass(frozen=True)
class LayerJudgement:
    """What a replay of one layer, alone on base's inputs and in float64, says of its two sides.

    Attributes:
        base_route: is base's layer.
        raw_route: is raw's layer.
        call: is the number of its call within the step.
        kind: tells what the difference is: "rounding", "float32 inside", "lower precision", "kink", "semantics", or
            "not judged".
        apart: is the largest relative L2 distance of two tensors of the layer in float64.
        words: say it in a sentence or two.
    """

    base_route: str
    raw_route: str
    call: int
    kind: str
    apart: float
    words: str


@dataclass(frozen=True)
class Unmatched:
    """A layer, parameter or buffer without a partner on the other side.

    Attributes:
        what: tells which of the three it is.
        name: is the layer's route, or the tensor's full name.
        why: gives the reason in a sentence for people.
        fails: tells whether its lack of a partner alone makes the result "differs".
        tensors: are the full names of the parameters and buffers that need a partner and that this side alone has: the tensor
            itself, or those in the layer. They are empty where it does not fail, or fails for another reason (two shapes).
        proposal: is a map, in TOML, that gives it a partner; "" where none is plausible.
    """

    what: Literal["layer", "parameter", "buffer"]
    name: str
    why: str
    fails: bool
    tensors: tuple[str, ...] = ()
    proposal: str = ""


ExtraStatus = Literal["fails", "allowed", "neutral"]
"""Whether something extra makes the result "differs", is accepted by the settings, or changes nothing as it is."""


@dataclass(frozen=True)
class Extra:
    """A parameter, buffer or output of the model that one side alone has. It keeps its own values and is not compared.

    Attributes:
        side: is the side that has it.
        what: tells which of the three it is.
        name: is the tensor's full name; an output's name is that in its pair, such as `output.1`.
        layer: is the route of the layer that it is told under: the outermost one that this side alone has, or the one that
            holds it. For an output it is the layer without partner that returned it; "" where that is not known.
        status: tells what follows from it.
        why: gives the reason in a sentence for people.
    """

    side: SideName
    what: Literal["parameter", "buffer", "output"]
    name: str
    layer: str
    status: ExtraStatus
    why: str


@dataclass(frozen=True)
class Cause:
    """What may have made the first difference, with what speaks for it.

    Attributes:
        name: names the kind of cause, for programs, such as `hyper-parameter` or `constant factor`.
        words: say what is different, for people.
        evidence: says what in the run shows it.
        score: ranks the causes of one result; 1 is as good as proved.
    """

    name: str
    words: str
    evidence: str
    score: float


@dataclass
class Result:
    """The outcome of an alignment.

    Attributes:
        aligned: is true only when something was compared and nothing failed.
        divergences: hold every layer that introduces a difference which the run can tell apart, in execution order. There is more
            than one only in single step.
        pairs: hold all comparisons, by step and stage.
        unmatched_base: hold what base has and raw lacks.
        unmatched_raw: hold what raw has and base lacks.
        notes: tell what a reader must know, such as random layers, skipped stages or a definition order that differs.
        settings: hold the settings as JSON values.
        environment: maps "base" and "raw" to a description of where each model ran (`ModelInfo`).
        figures: hold times in seconds, under names that end in `_s`, and sizes in bytes.
        trees: map "base" and "raw" to (route, class) of each layer, in definition order.
        paired_routes: hold (base's route, raw's route) of the layers that correspond.
        inferred_routes: hold those of them that no parameter ties and that no layer map names.
        guessed_routes: hold those of them that their order alone joins, though others have the same shapes, and that the run does
            not bear out.
        extras: hold the parameters, buffers and outputs that one side alone has. The first two are listed as unmatched, too.
        lacking: tell which comparisons had to be made and were not; they stand in the notes, too.
        introduced: hold each layer's own error, the largest first, in floors. They are measured where the models differ, with the
            tolerance "auto".
        judgement: tells what the first divergence's layer does when it runs alone in float64, with the tolerance "auto".
        causes: are what may have made the first divergence, the best first; none is told without evidence.
    """

    aligned: bool
    divergences: list[Divergence]
    pairs: list[Pair]
    unmatched_base: list[Unmatched]
    unmatched_raw: list[Unmatched]
    notes: list[str]
    settings: dict[str, Any]
    environment: dict[str, Any]
    figures: dict[str, Any]
    trees: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    paired_routes: list[tuple[str, str]] = field(default_factory=list)
    inferred_routes: list[tuple[str, str]] = field(default_factory=list)
    guessed_routes: list[tuple[str, str]] = field(default_factory=list)
    extras: list[Extra] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)
    introduced: list[IntroducedError] = field(default_factory=list)
    judgement: LayerJudgement | None = None
    causes: list[Cause] = field(default_factory=list)

    @property
    def first_divergence(self) -> Divergence | None:
        """The divergence that came first in the execution; None without any."""
        return self.divergences[0] if self.divergences else None

    def to_json(self) -> dict[str, Any]:
        """Return the result in the schema of docs/result.md; NaN and Inf, which JSON lacks, are written as strings."""
        return _plain(
            {
                "schema": SCHEMA,
                "aligned": self.aligned,
                "first_divergence": _divergence(self.divergences[0]) if self.divergences else None,
                "divergences": [_divergence(d) for d in self.divergences],
                "causes": [asdict(cause) for cause in self.causes],
                "pairs": [asdict(pair) for pair in self.pairs],
                "unmatched": {
                    "base": [asdict(u) for u in self.unmatched_base],
                    "raw": [asdict(u) for u in self.unmatched_raw],
                },
                "extras": [asdict(extra) for extra in self.extras],
                "lacking": self.lacking,
                "introduced": [asdict(one) for one in self.introduced],
                "judgement": None if self.judgement is None else asdict(self.judgement),
                "notes": self.notes,
                "settings": self.settings,
                "environment": self.environment,
                "figures": self.figures,
                "trees": self.trees,
                "paired_routes": self.paired_routes,
                "inferred_routes": self.inferred_routes,
                "guessed_routes": self.guessed_routes,
            }
        )


def _divergence(divergence: Divergence) -> dict[str, Any]:
    def layer(ref: LayerRef) -> dict[str, Any]:
        return {"route": ref.route, "class": ref.class_name, "hyperparameters": dict(ref.hyperparameters)}

    return {
        "step": divergence.step,
        "stage": divergence.stage,
        "base": layer(divergence.base),
        "raw": layer(divergence.raw),
        "call": divergence.call,
        "tensor": divergence.tensor,
        "why": divergence.why,
        "metrics": asdict(divergence.metrics) if divergence.metrics else None,
        "found_at": asdict(divergence.found_at),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value
