"""Compare two dumps, step by step and rank by rank: check_report, check_params, check_weights, check_grads."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

from padiff_rpc.align.align import align
from padiff_rpc.align.compare_dumps import compare_held
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.align.stages.running_variance import values_per_channel
from padiff_rpc.compare.rules import CompareRules
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.interface.messages import DEFAULT_TOLERANCES, log
from padiff_rpc.interface.places import as_path
from padiff_rpc.interface.show_result import Shown, show_result
from padiff_rpc.interface.structure import CURE, differing_structure, one_sided
from padiff_rpc.interface.switches import skip_wrap_layers
from padiff_rpc.match.scope import wrap_layers
from padiff_rpc.model.model import What
from padiff_rpc.model.selection import Selection
from padiff_rpc.per_side import PerSide
from padiff_rpc.result import Divergence, LayerRef, Result
from padiff_rpc.tape.folders import DumpPair, walk
from padiff_rpc.tape.recorded_model import RecordedModel
from padiff_rpc.tape.write_report import REPORT

Path = str | os.PathLike[str]

_CFG: Mapping[str, Any] = {"atol": 0, "rtol": 1e-7, "compare_mode": "mean"}


def check_report(report_path_0: Path, report_path_1: Path, cfg: Mapping[str, Any] | None = None) -> bool:
    """Compare the outputs of layers in two dumps, and the gradients at their boundaries; return True if all agree.

    The differences are printed, for each step and rank, and the trees of layers go into log files in `padiff_log`.

    Args:
        report_path_0: base's dump: a folder that holds report.json, or folders of steps (step_N) or ranks (rank_N), all of which
            are compared.
        report_path_1: raw's dump, likewise.
        cfg: how to compare: "atol" (0 by default), "rtol" (1e-7) and "compare_mode" ("mean"; or "strict", "abs_mean",
            "scaled").

    Raises:
        PadiffError: a dump is damaged or incomplete (the message names the file), the two have different steps or ranks, or cfg
            makes no sense.
    """
    return _check("report", report_path_0, report_path_1, cfg, _compare_report)


def check_params(report_path_0: Path, report_path_1: Path, cfg: Mapping[str, Any] | None = None) -> bool:
    """Compare the parameters, buffers and parameter gradients of two dumps (params.json); return True if all agree.

    Prints its findings, and takes and raises the same as check_report.
    """
    return _check("params", report_path_0, report_path_1, cfg, _compare_parameters("params", ("value", "gradient")))


def check_weights(report_path_0: Path, report_path_1: Path, cfg: Mapping[str, Any] | None = None) -> bool:
    """Compare the parameters and buffers of two dumps (weights.json); return True if all agree.

    Prints its findings, and takes and raises the same as check_report.
    """
    return _check("weights", report_path_0, report_path_1, cfg, _compare_parameters("weights", ("value",)))


def check_grads(report_path_0: Path, report_path_1: Path, cfg: Mapping[str, Any] | None = None) -> bool:
    """Compare the parameter gradients of two dumps (grads.json); return True if all agree.

    Prints its findings, and takes and raises the same as check_report.
    """
    return _check("grads", report_path_0, report_path_1, cfg, _compare_parameters("grads", ("gradient",)))


Compare = Callable[[DumpPair, CompareRules], tuple[Result, PerSide[RecordedModel]]]
"""Compares two dumps of one step and rank; returns the result and the dumps that were read."""


def _check(what: str, path_0: Path, path_1: Path, cfg: Mapping[str, Any] | None, compare: Compare) -> bool:
    rules = _rules(cfg)
    log(f"Check {what} cfg: { {**_CFG, **(cfg or {})} if rules.mode != 'scaled' else dict(cfg or {}) }")
    agreed = []
    for place in walk(as_path(path_0), as_path(path_1)):
        log(f"Checking {what} in {place.folder_0} and {place.folder_1}")
        result, models = compare(place, rules)
        if not result.aligned or result.notes or any(pair.status == "skipped" for pair in result.pairs):
            left_out = models.map(lambda model: set(_selection(model).left_out))
            names = models.map(lambda model: model.name)
            show_result(result, Shown(names, rules, _suffix(place), _title(place), "forward"), left_out)
        log(f"{_title(place) or 'the dump'}: {'agrees' if result.aligned else 'DIFFERS'}")
        agreed.append(result.aligned)
    if not all(agreed) and {**_CFG, **(cfg or {})} | {"compare_mode": ""} == {**_CFG, "compare_mode": ""}:
        log(DEFAULT_TOLERANCES)
    log(f"{what} compared." if all(agreed) else f"{what}: {agreed.count(False)} of {len(agreed)} dumps differ")
    return all(agreed)


def _compare_report(place: DumpPair, rules: CompareRules) -> tuple[Result, PerSide[RecordedModel]]:
    base, raw = RecordedModel(place.folder_0), RecordedModel(place.folder_1)
    phases: PerSide[DumpedBackward] = PerSide(_phase(base, place.folder_0), _phase(raw, place.folder_1))
    settings = AlignSettings(
        compare=rules,
        assign=False,
        diff_phase="both" if phases == PerSide("both", "both") else "forward",
        steps=max(1, min(len(base.runs), len(raw.runs))),
        seed=None,
        held=False,
        explain=False,
        api_calls=all(run.api_calls for run in (*base.runs, *raw.runs)),
        **_of_dumps(base, raw),
    )
    result = align(base, raw, {}, {}, settings)
    notes = list(result.notes)
    if "unrecorded" in phases:
        notes.append(
            "a side's dump holds no gradients of layers (PaDiff records none in torch): no backward is compared"
        )
    if len({run.api_calls for run in (*base.runs, *raw.runs)}) > 1:
        notes.append("functional calls were recorded on one side only: they are not compared")
    structure = differing_structure(base, raw, result)
    if structure:
        notes.append(CURE)
    alone = [*_unlike_runs(base, raw, phases), *structure]
    result = replace(
        result,
        aligned=result.aligned and not alone,
        divergences=[*alone, *result.divergences],
        pairs=[*(divergence.found_at for divergence in alone), *result.pairs],
        notes=notes,
    )
    return result, PerSide(base, raw)


DumpedBackward = Literal["none", "unrecorded", "both"]
"""How much a dump holds of the backward: none was run, gradients at layers' boundaries were not recorded, or all of it."""


def _phase(model: RecordedModel, folder: os.PathLike[str]) -> DumpedBackward:
    ran = {run.backward_ran for run in model.runs}
    if len(ran) > 1:
        raise PadiffError(
            f"of the forwards in {os.fspath(folder)!r} some have a backward and some have none",
            reason=Reason.BAD_CONFIG,
            hint="dump each kind by itself, with clear_report() between",
        )
    if ran != {True}:
        return "none"
    return "unrecorded" if any({"input", "output"} <= set(run.unrecorded) for run in model.runs) else "both"


def _unlike_runs(base: RecordedModel, raw: RecordedModel, phases: PerSide[DumpedBackward]) -> Iterator[Divergence]:
    """Yield a divergence if only one dump has further forwards, and one if only one dump has a backward."""
    roots = LayerRef("", base.describe().class_name), LayerRef("", raw.describe().class_name)
    if len(base.runs) != len(raw.runs):
        why = f"base's dump holds {_forwards(len(base.runs))}, raw's {_forwards(len(raw.runs))}"
        yield one_sided("forward", min(len(base.runs), len(raw.runs)), *roots, why)
    # PaDiff's dumps do not tell whether a backward ran. In paddle it left gradients at layers; in torch it never did.
    by_paddle = all(model.info().padiff_version == "" and model.info().framework == "paddle" for model in (base, raw))
    lacking = ("none", "unrecorded") if by_paddle else ("none",)
    if "both" in phases and set(phases) & set(lacking):
        with_it, without = ("base", "raw") if phases.base == "both" else ("raw", "base")
        yield one_sided("backward", 0, *roots, f"{with_it}'s dump holds a backward, {without}'s none")


def _forwards(count: int) -> str:
    return "1 forward" if count == 1 else f"{count} forwards"


def _compare_parameters(name: str, whats: tuple[What, ...]) -> Compare:
    """Return the comparison of what the file NAME.json of two dumps holds."""

    def compare(place: DumpPair, rules: CompareRules) -> tuple[Result, PerSide[RecordedModel]]:
        base, raw = (RecordedModel(folder, only=f"{name}.json") for folder in (place.folder_0, place.folder_1))
        settings = AlignSettings(compare=rules, assign=False, **_of_dumps(base, raw))
        return compare_held(base, raw, settings, whats, lambda: _seen(base)), PerSide(base, raw)

    return compare


def _seen(model: RecordedModel) -> dict[str, int]:
    """Return the fewest values per channel that each layer took in a call, by route, from the report beside the parameters.

    Without such a report the dict is empty.
    """
    seen: dict[str, int] = {}
    for run in model.runs if (model.path / REPORT).exists() else ():
        for boundary in run.forward:
            if boundary.side == "input" and boundary.tensors:
                count = values_per_channel(boundary.tensors[0].spec.shape)
                seen[boundary.route] = min(count, seen.get(boundary.route, count))
    return seen


def _of_dumps(base: RecordedModel, raw: RecordedModel) -> dict[str, Any]:
    """Return the settings of an alignment that dumps themselves hold: the layer map and the lists."""
    if len(base.layer_map) != len(raw.layer_map):
        raise PadiffError(
            f"the layer map of {base.name!r} has {len(base.layer_map)} layers, that of {raw.name!r} {len(raw.layer_map)}: "
            "they correspond in order",
            reason=Reason.BAD_CONFIG,
            hint="set both maps before dumping, with as many layers each",
        )
    return {
        "layer_map": dict(zip(base.layer_map, raw.layer_map, strict=True)),
        "base_selection": _selection(base),
        "raw_selection": _selection(raw),
    }


def _selection(model: RecordedModel) -> Selection:
    """Return the layers that the lists of a dump keep, with PADIFF_SIKP_WRAP_LAYER less those without parameters."""
    if not skip_wrap_layers():
        return model.selection
    return Selection({**wrap_layers(model.describe()).left_out, **model.selection.left_out})


def _rules(cfg: Mapping[str, Any] | None) -> CompareRules:
    """Return the rules that cfg asks for; BAD_CONFIG if it makes no sense. No check keeps cfg for the next one."""
    if cfg is not None and not isinstance(cfg, Mapping):
        raise PadiffError(
            f"cfg is a dict, got {type(cfg).__name__}",
            reason=Reason.BAD_CONFIG,
            hint='such as {"atol": 1e-5, "rtol": 1e-4, "compare_mode": "strict"}',
        )
    given = dict(cfg or {})
    for name in given:
        if name not in _CFG:
            nearest = difflib.get_close_matches(str(name), _CFG, n=1)
            raise PadiffError(
                f"cfg has no key {name!r}",
                reason=Reason.BAD_CONFIG,
                hint=(f"did you mean {nearest[0]!r}? " if nearest else "") + f"there are {', '.join(_CFG)}",
            )
    # What is not given has PaDiff's default in PaDiff's modes, and in "scaled" that of the table by dtype and stage.
    return CompareRules(mode=given.get("compare_mode", "mean"), atol=given.get("atol"), rtol=given.get("rtol"))


def _suffix(place: DumpPair) -> str:
    step = "" if place.step is None else f"_step_{place.step}"
    return step + (f"_rank_{place.rank}" if place.rank else "")


def _title(place: DumpPair) -> str:
    parts = [f"{name} {value}" for name, value in (("step", place.step), ("rank", place.rank)) if value is not None]
    return ", ".join(parts)
