"""Assign weights: stream base's parameters and buffers through the layout rules into raw."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from padiff_rpc.align.assign.alike_lines import Problem, alike_lines
from padiff_rpc.align.assign.explain_mismatch import AssignFailure, explain_mismatch
from padiff_rpc.align.assign.in_raw_layout import in_raw_layout, rule_of
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.match.layer_map import Matching, ParameterLink
from padiff_rpc.match.special_init import SpecialInit
from padiff_rpc.model.model import Model, ModelDescription, Native, TakingGradients, What
from padiff_rpc.model.part_names import with_parts
from padiff_rpc.per_side import PerSide
from padiff_rpc.result import Unmatched
from padiff_rpc.tensors.convert_dtype import convert_stream
from padiff_rpc.tensors.tensor import TensorSpec, TensorStream

_SHOWN = 12
_LINES = 6
"""How many kinds of problems a refusal tells for each side, so that it fits a screen."""
_IN_ORDER = ("identity", "reshape")
"""Rules that keep the elements' order, so that a tensor passes in pieces of any size."""


@dataclass
class AssignReport:
    """The record of an assignment.

    Attributes:
        assigned: names raw's parameters and buffers that were written.
        size_bytes: counts the bytes written.
        converted: names those whose dtype differs from base's.
        skipped: holds raw's parameters and buffers that were passed over.
        notes: tells of values that became infinite.
    """

    assigned: list[str] = field(default_factory=list)
    size_bytes: int = 0
    converted: list[str] = field(default_factory=list)
    skipped: list[Unmatched] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def assign_weights(base: Model, raw: Model, matching: Matching) -> AssignReport:
    """Overwrite every parameter and buffer of raw with base's, as the matching links them.

    Everything is checked against both descriptions before the first byte is written. Tensors pass through chunk by chunk where
    their elements keep their order, or are transposed, which base does. Under other rules, one link at a time is held in memory.
    Special initialisers that take live layers come last. Where the dtypes differ, values are rounded to raw's. What raw alone has
    keeps its own values.

    Args:
        base: is the model that gives the values.
        raw: is the model that takes them.
        matching: links their parameters and buffers.

    Raises:
        PadiffError: MODELS_DO_NOT_MATCH when no parameter has a partner, or the shapes or dtypes of two that correspond do not
            fit (`explain_mismatch` tells each case by itself). BAD_CONFIG where a special initialiser fails or returns something
            unusable, and NOT_SUPPORTED where it cannot run.
    """
    base_model, raw_model = matching.in_parts(PerSide(base.describe(), raw.describe()))
    _check(base, base_model, raw_model, matching)
    calls = _live_calls(base, raw, matching)
    report = AssignReport(skipped=[entry for entry in matching.unmatched_raw if entry.what != "layer"])
    links = [link for link in matching.links if link.special is None or not link.special.live]
    raw.write_parameters(_transformed(base, base_model, raw_model, links, report))
    if calls:
        _run_live(calls, base, [info.name for info in base_model.parameters])
    return report


def write_links(base: Model, raw: Model, links: Sequence[ParameterLink]) -> None:
    """Overwrite raw's tensors of these links alone, as `assign_weights` does once everything is checked.

    Args:
        base: is the model that gives the values.
        raw: is the model that takes them.
        links: say which tensors, and by which layout rule; none of them is a special initialiser's.
    """
    base_model = with_parts(base.describe(), (name for link in links for name in link.base))
    raw_model = with_parts(raw.describe(), (name for link in links for name in link.raw))
    raw.write_parameters(_transformed(base, base_model, raw_model, links, AssignReport()))


def write_gradients(
    base: Model, raw: TakingGradients, described: PerSide[ModelDescription], links: Sequence[ParameterLink]
) -> frozenset[str]:
    """Give raw's parameters base's gradients, as `assign_weights` gives them values; return the names of those that took them.

    Where a tensor of a link has no gradient in base or in raw, raw keeps its own; so it does where a special initialiser links
    the tensors.

    Args:
        base: is the model that gives the gradients.
        raw: is the model that takes them.
        described: are the descriptions of both.
        links: say which parameters correspond.
    """
    ruled = [link for link in links if link.special is None and link.kind == "parameter"]
    streams = _transformed(base, described.base, described.raw, ruled, AssignReport(), "gradient")
    return frozenset(raw.write_gradients(streams))


def refuse_extras(base_model: ModelDescription, raw_model: ModelDescription, matching: Matching) -> None:
    """Raise MODELS_DO_NOT_MATCH if any parameter or buffer of raw gets no value of base's, be it one that raw alone has."""
    failures = explain_mismatch(base_model, raw_model, matching)
    if failures:
        raise _refusal(failures, matching)


def _transformed(
    base: Model,
    base_model: ModelDescription,
    raw_model: ModelDescription,
    links: Sequence[ParameterLink],
    report: AssignReport,
    what: What = "value",
) -> Iterator[TensorStream]:
    raw_specs = _specs(raw_model)
    turned = _turned_by_base(links)
    there = _There(base.read_parameters([name for link in links for name in link.base], what, turned))
    for link in links:
        if link.special is None and (link.rule in _IN_ORDER or turned.issuperset(link.base)):
            for name, base_name in zip(link.raw, link.base, strict=True):
                stream = there.take(base_name)
                if stream is not None:
                    yield from _as_target(stream, name, raw_specs[name], report)
            continue
        tensors = [stream.collect() for name in link.base if (stream := there.take(name)) is not None]
        if len(tensors) == len(link.base):
            for name, tensor in in_raw_layout(link, tensors, [raw_specs[name] for name in link.raw]):
                yield from _as_target(tensor.stream(name), name, raw_specs[name], report)


class _There:
    """Streams in the order in which they were asked for, of which those without a gradient are left out."""

    def __init__(self, streams: Iterator[TensorStream]) -> None:
        self._streams = streams
        self._next: TensorStream | None = None

    def take(self, name: str) -> TensorStream | None:
        """Return the stream of the tensor that was asked for next; None where it was left out."""
        if self._next is None:
            self._next = next(self._streams, None)
        if self._next is None or self._next.name != name:
            return None
        taken, self._next = self._next, None
        return taken


def _turned_by_base(links: Sequence[ParameterLink]) -> set[str]:
    """Name the tensors that base is to send as their transposes: those that no other rule reads."""
    rules = [("" if link.special is not None else link.rule, name) for link in links for name in link.base]
    return {name for rule, name in rules if rule == "transpose"} - {name for rule, name in rules if rule != "transpose"}


def _as_target(source: TensorStream, name: str, target: TensorSpec, report: AssignReport) -> Iterator[TensorStream]:
    """Give a tensor under raw's name, shape and dtype, and report it once it has been taken."""
    overflows: list[int] = []
    renamed = TensorStream(name, TensorSpec(source.spec.dtype, target.shape), source.chunks)
    yield convert_stream(renamed, target.dtype, overflows.append)
    if source.spec.dtype is not target.dtype:
        report.converted.append(name)
    if overflows:
        beyond = f"{sum(overflows)} of {target.count} values exceed the range of {target.dtype.value}"
        report.notes.append(f"{name}: {beyond} and became infinite")
    report.assigned.append(name)
    report.size_bytes += target.size_bytes


def _check(base: Model, base_model: ModelDescription, raw_model: ModelDescription, matching: Matching) -> None:
    """Refuse before anything is written. A special initialiser runs here as well, since only then its result is known."""
    failures = explain_mismatch(base_model, raw_model, matching)
    if matching.links:
        failures = [failure for failure in failures if not failure.extra]
    if failures:
        raise _refusal(failures, matching)
    raw_specs = _specs(raw_model)
    for link in matching.links:
        if link.special is not None and not link.special.live:
            sources = [stream.collect() for stream in base.read_parameters(list(link.base))]
            in_raw_layout(link, sources, [raw_specs[name] for name in link.raw])


def _refusal(failures: Sequence[AssignFailure], matching: Matching) -> PadiffError:
    shown = alike_lines((failure.problem for failure in failures), _LINES)
    told = {failure.base_parameter for failure in failures}
    alone = [entry for entry in matching.unmatched_base if entry.fails and entry.name not in told]
    if alone:
        problems = [
            Problem(entry.name, f"{entry.what} {entry.name}: {entry.why}", proposal=entry.proposal) for entry in alone
        ]
        shown += ["without partner in base:", *alike_lines(problems, _LINES)]
    cures = list(dict.fromkeys(failure.cure for failure in failures if failure.cure))
    return PadiffError(
        "base's weights cannot be assigned to raw, and nothing was written:\n  " + "\n  ".join(shown),
        reason=Reason.MODELS_DO_NOT_MATCH,
        hint="; ".join(cures[:_SHOWN])
        or ("" if alone or any(failure.extra for failure in failures) else "build both models with the same sizes; or ")
        + "say in a map (--map FILE, or --pair BASE=RAW for layers) what corresponds; `padiff-rpc match --json FILE` lists all "
        "that has no partner",
        metadata={"problems": str(len(failures))},
    )


def _live_calls(base: Model, raw: Model, matching: Matching) -> list[Callable[[], None]]:
    """Prepare the special initialisers that take live layers; NOT_SUPPORTED where a side's are in another process."""
    calls: dict[tuple[str, str], Callable[[], None]] = {}
    for link in matching.links:
        init = rule_of(link)
        if not isinstance(init, SpecialInit) or not init.live:
            continue
        layers = []
        for side, (model, route) in PerSide((base, link.base_route), (raw, link.raw_route)).items():
            if not isinstance(model, Native):
                raise PadiffError(
                    f"{init} takes live layers, and {side} does not run in this process",
                    reason=Reason.NOT_SUPPORTED,
                    hint="give it the form that works everywhere: func(base) -> raw, dictionaries of NumPy arrays by name",
                )
            layers.append(model.native_layer(route))
        calls[link.base_route, link.raw_route] = partial(_call_live, init, layers, link.raw_route)
    return list(calls.values())


def _run_live(calls: Sequence[Callable[[], None]], base: Model, names: Sequence[str]) -> None:
    """Run them, and refuse those that write into base: raw would agree with what base never was."""
    before = base.digest_parameters(names)
    for call in calls:
        call()
    after = base.digest_parameters(names)
    changed = [name for name in names if before[name].hash != after[name].hash]
    if changed:
        raise PadiffError(
            f"a special initialiser has changed base's {', '.join(changed[:_SHOWN])}",
            reason=Reason.BAD_CONFIG,
            hint="let it copy base's values into raw's layer, and build base anew",
        )


def _call_live(init: SpecialInit, layers: Sequence[Any], route: str) -> None:
    try:
        init.function(*layers)
    except Exception as err:
        raise PadiffError(f"{init} raised {type(err).__name__} at {route!r}: {err}", reason=Reason.BAD_CONFIG) from err


def _specs(model: ModelDescription) -> dict[str, TensorSpec]:
    return {info.name: info.spec for info in model.parameters}
