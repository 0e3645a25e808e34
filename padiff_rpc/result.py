"""What an alignment found: plain data, written by align, read by report, and its JSON form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

SCHEMA = "padiff-rpc/result/1"

Stage = Literal["weights_before", "forward", "loss", "backward", "grads", "weights", "buffers"]
STAGES: tuple[Stage, ...] = ("weights_before", "forward", "loss", "backward", "grads", "weights", "buffers")
Status = Literal["pass", "fail", "skipped"]
Failure = Literal["", "values", "nan", "shape", "dtype", "missing"]
"""What kind of failure: values out of tolerance, NaN or Inf, another shape or dtype, a tensor that one side lacks."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """How far two tensors are apart, in float64; base is the reference.

    max_abs: max |raw - base|. max_rel: max |raw - base| / |base| over elements with base != 0. mean_abs: mean |raw - base|.
    rel_l2: ||raw - base|| / ||base|| (the absolute norm where base is all zero). cosine: of the flattened tensors.
    mismatched: elements out of tolerance, of `total`. nan, inf: non-finite elements, both sides added up. index: where
    max_abs is (or the first non-finite difference). allowed: what the check allowed, in the unit of `measured`
    (its name in `measure`). base_value, raw_value: the elements at `index`, or the two means. base_dtype, raw_dtype: the
    tensors' element types, under safetensors' names.
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


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome for one pair of tensors. `why` is a sentence for people; empty where a pass needs none."""

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
    """One comparison. `tensor`: `output.0`, `input.hidden_states`, or a raw parameter's own name (`weight`).

    base_tensor: the parameter's own name in base (of several, with commas), where it is another one than in raw.
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
    """A layer by route and class; hyperparameters as its framework has them."""

    route: str
    class_name: str
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Divergence:
    """A layer that introduces a difference, and the failing comparison that shows it.

    base, raw: the layer to look into. found_at: the failing pair, which lies at that layer or, where the layer's own code
    between its children is at fault, at the child that came next. why: one sentence for people.
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
        return self.found_at.metrics


@dataclass(frozen=True)
class Unmatched:
    """A layer, parameter or buffer without a partner, and why. `fails`: whether that alone makes the result "differs"."""

    what: Literal["layer", "parameter", "buffer"]
    name: str
    why: str
    fails: bool


@dataclass
class Result:
    """The outcome. `aligned` is true only when something was compared and nothing failed.

    divergences: every layer that introduces a difference that the run can tell apart, in execution order (more than one
    only in single step); the first is `first_divergence`. notes: what a reader must know (random layers, skipped
    stages, definition order that differs).
    """

    aligned: bool
    divergences: list[Divergence]
    pairs: list[Pair]
    unmatched_base: list[Unmatched]
    unmatched_raw: list[Unmatched]
    notes: list[str]
    settings: dict[str, Any]
    environment: dict[str, Any]  # {"base": {...}, "raw": {...}}
    figures: dict[str, Any]
    trees: dict[str, list[tuple[str, str]]] = field(default_factory=dict)  # side -> (route, class) in definition order
    paired_routes: list[tuple[str, str]] = field(default_factory=list)

    @property
    def first_divergence(self) -> Divergence | None:
        return self.divergences[0] if self.divergences else None

    def to_json(self) -> dict[str, Any]:
        """Return the schema that docs/result.md describes. Non-finite numbers are written as the strings that JSON lacks."""
        return _plain(
            {
                "schema": SCHEMA,
                "aligned": self.aligned,
                "first_divergence": _divergence(self.divergences[0]) if self.divergences else None,
                "divergences": [_divergence(d) for d in self.divergences],
                "pairs": [asdict(pair) for pair in self.pairs],
                "unmatched": {
                    "base": [asdict(u) for u in self.unmatched_base],
                    "raw": [asdict(u) for u in self.unmatched_raw],
                },
                "notes": self.notes,
                "settings": self.settings,
                "environment": self.environment,
                "figures": self.figures,
                "trees": self.trees,
                "paired_routes": self.paired_routes,
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
