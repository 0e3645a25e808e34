"""Assign weights: stream base's parameters and buffers through the layout rules into raw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from padiff_rpc.align.convert import convert, convertible, count_overflow
from padiff_rpc.align.layouts import RULES
from padiff_rpc.align.matching import Matching, ParameterLink
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import Model, ModelDescription
from padiff_rpc.result import Unmatched
from padiff_rpc.tensor import Tensor, TensorSpec

_SHOWN = 12


@dataclass
class AssignReport:
    """What was assigned: raw's names, bytes written, which changed their dtype, what was passed over, and notes."""

    assigned: list[str] = field(default_factory=list)
    size_bytes: int = 0
    converted: list[str] = field(default_factory=list)
    skipped: list[Unmatched] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def assign_weights(base: Model, raw: Model, matching: Matching) -> AssignReport:
    """Overwrite every parameter and buffer of raw with base's, as the matching links them.

    Everything is checked against both descriptions before the first byte is written, and one link at a time is held in
    memory. Where the dtypes differ values are rounded to raw's. Raises PadiffError(MODELS_DO_NOT_MATCH) when a
    parameter of raw has no partner, or a link's shapes or dtypes do not fit.
    """
    base_model, raw_model = base.describe(), raw.describe()
    _check(base_model, raw_model, matching)
    report = AssignReport(skipped=[entry for entry in matching.unmatched_raw if entry.what != "layer"])
    raw.write_parameters(_transformed(base, base_model, raw_model, matching.links, report))
    return report


def _transformed(
    base: Model,
    base_model: ModelDescription,
    raw_model: ModelDescription,
    links: Sequence[ParameterLink],
    report: AssignReport,
) -> Iterator[tuple[str, Tensor]]:
    raw_specs = _specs(raw_model)
    streams = base.read_parameters([name for link in links for name in link.base])
    for link in links:
        sources = [next(streams).collect() for _ in link.base]
        targets = [raw_specs[name] for name in link.raw]
        arrays = RULES[link.rule].transform([source.to_array() for source in sources], [spec.shape for spec in targets])
        source_type = sources[0].spec.dtype
        for name, array, target in zip(link.raw, arrays, targets, strict=True):
            converted = convert(array, source_type, target.dtype)
            if source_type is not target.dtype:
                report.converted.append(name)
                if overflow := count_overflow(array, source_type, converted, target.dtype):
                    beyond = f"{overflow} of {target.count} values exceed the range of {target.dtype.value}"
                    report.notes.append(f"{name}: {beyond} and became infinite")
            report.assigned.append(name)
            report.size_bytes += target.size_bytes
            yield name, Tensor.from_array(converted, target.dtype)


def _check(base_model: ModelDescription, raw_model: ModelDescription, matching: Matching) -> None:
    """Refuse before anything is written."""
    base_specs, raw_specs = _specs(base_model), _specs(raw_model)
    problems = _without_partner(raw_model, matching)
    for link in matching.links:
        unknown = [*(set(link.base) - base_specs.keys()), *(set(link.raw) - raw_specs.keys())]
        problems += [f"{name}: the model has no such tensor" for name in unknown]
        if not unknown:
            problems += _misfits(link, [base_specs[name] for name in link.base], [raw_specs[name] for name in link.raw])
    if not problems:
        return
    shown = problems[:_SHOWN] + ([f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else [])
    alone = [f"{entry.what} {entry.name}: {entry.why}" for entry in matching.unmatched_base if entry.fails]
    if alone:
        more = [f"and {len(alone) - _SHOWN} more"] if len(alone) > _SHOWN else []
        shown += ["without partner in base:", *alone[:_SHOWN], *more]
    raise PadiffError(
        "base's weights cannot be assigned to raw, and nothing was written:\n  " + "\n  ".join(shown),
        reason=Reason.MODELS_DO_NOT_MATCH,
        hint="give the layers that correspond in the layer map and the parameters in the parameter map, or make the models "
        "hold the same parameters",
        metadata={"problems": str(len(problems))},
    )


def _without_partner(raw_model: ModelDescription, matching: Matching) -> list[str]:
    """Describe every tensor of raw that no link writes, unless the matching says that it may be passed over."""
    linked = {name for link in matching.links for name in link.raw}
    entries = {entry.name: entry for entry in matching.unmatched_raw}
    problems = []
    for info in raw_model.parameters:
        if info.name in linked:
            continue
        route = info.name
        while route and route not in entries:
            route = route.rpartition(".")[0]
        entry = entries.get(route)
        if entry is not None and not entry.fails and (entry.what != "layer" or info.kind == "buffer"):
            continue
        why = entry.why if entry is not None else "no layer of base corresponds"
        where = f"raw's layer {route}, " if entry is not None and entry.what == "layer" else "raw's "
        problems.append(f"{where}{info.kind} {info.name} {list(info.spec.shape)}: {why}")
    return problems


def _misfits(link: ParameterLink, base: Sequence[TensorSpec], raw: Sequence[TensorSpec]) -> list[str]:
    names = f"base's {', '.join(link.base)} and raw's {', '.join(link.raw)}"
    if not RULES[link.rule].fits([spec.shape for spec in base], [spec.shape for spec in raw]):
        shapes = [", ".join(str(list(spec.shape)) for spec in specs) for specs in (base, raw)]
        return [f"{names}: shape {shapes[0]} against {shapes[1]} under the rule {link.rule!r}"]
    if len({spec.dtype for spec in base}) > 1:
        return [f"{names}: base's parts differ in dtype, {', '.join(spec.dtype.value for spec in base)}"]
    return [
        f"{names}: a {base[0].dtype.value} tensor cannot become {spec.dtype.value}"
        for spec in raw
        if not convertible(base[0].dtype, spec.dtype)
    ][:1]


def _specs(model: ModelDescription) -> dict[str, TensorSpec]:
    return {info.name: info.spec for info in model.parameters}
