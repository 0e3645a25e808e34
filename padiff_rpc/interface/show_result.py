"""Show a result as PaDiff does: the first difference on the terminal; the trees and all parameters that differ in log files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from padiff_rpc.compare.rules import PADIFF_ATOL, PADIFF_RTOL, CompareRules
from padiff_rpc.interface.messages import log, show
from padiff_rpc.interface.places import write_log
from padiff_rpc.interface.tree_log import log_names, write_tree
from padiff_rpc.per_side import PerSide, SideName
from padiff_rpc.result import Divergence, Metrics, Pair, Result, Stage
from padiff_rpc.tensors.tensor import DType

_RUN_STAGES: tuple[Stage, ...] = ("forward", "loss", "backward")
_OF_PARAMETERS: dict[Stage, str] = {
    "weights_before": "weights",
    "weights": "weights",
    "buffers": "weights",
    "grads": "grads",
}
"""PaDiff's word for each stage that compares parameters."""
_SHOWN = 6
_NUMPY = {
    dtype.value: dtype.storage.name for dtype in DType if dtype not in (DType.BF16, DType.F8_E4M3, DType.F8_E5M2)
} | {"BF16": "bfloat16", "F8_E4M3": "float8_e4m3", "F8_E5M2": "float8_e5m2"}


@dataclass(frozen=True)
class Shown:
    """The words for a result's messages.

    Attributes:
        names: the names of both models.
        rules: the rules by which tensors were compared.
        suffix: the end of the log files' names, such as `_step_2`.
        place: the dump that is compared, such as "step 2, rank 0"; "" for a run, or if a folder holds one dump only.
        counted: the word for that which the result counts as its steps, "step" or "forward".
    """

    names: PerSide[str]
    rules: CompareRules
    suffix: str = ""
    place: str = ""
    counted: str = "step"

    def path(self, side: SideName, route: str, tensor: str = "") -> str:
        """Return the name of a layer, or of a tensor in it, with the model's name before it: `net.encoder.weight`."""
        return ".".join(part for part in (self.names.of(side), route, tensor) if part)

    def where(self, step: int) -> str:
        """Return the dump that is compared, or, in a run, its step ("step 2")."""
        return self.place or f"step {step}"


def show_result(result: Result, shown: Shown, skipped_routes: PerSide[set[str]]) -> None:
    """Print the findings of a comparison, and write the trees and the parameters that differ into log files in `padiff_log`.

    Args:
        result: the result to show.
        shown: the words for its messages.
        skipped_routes: the routes that the trees mark with "(skip)".

    Raises:
        PadiffError: a log file cannot be written.
    """
    failed = [_OF_PARAMETERS.get(pair.stage) for pair in result.pairs if pair.status == "fail"]
    first = result.first_divergence
    if not result.aligned and first is not None and first.stage in _RUN_STAGES:
        _show_divergence(result, first, shown, skipped_routes)
    for what in ("weights", "grads"):
        if what in failed:
            _show_parameters(result, what, shown)
    for further in result.divergences[1:_SHOWN] if first is not None and first.stage in _RUN_STAGES else ():
        log(f"Also differs: {shown.path('base', further.base.route)} in {further.stage}: {further.why}")
    _show_unmatched(result, shown)
    show_asides(result)


def show_asides(result: Result) -> None:
    """Print how many comparisons passed, failed and were skipped, and the notes.

    The six commonest reasons for skipping are named. Where layers are paired by a guess, the calls that settle it are shown.
    """
    counts = Counter(pair.status for pair in result.pairs)
    log(f"{counts['pass']} comparisons passed, {counts['fail']} failed, {counts['skipped']} were skipped")
    reasons = Counter(pair.why for pair in result.pairs if pair.status == "skipped")
    for why, count in reasons.most_common(_SHOWN):
        log(f"    skipped {count}: {why}")
    if len(reasons) > _SHOWN:
        log(f"    and for {len(reasons) - _SHOWN} further reasons")
    for note in result.notes:
        log(f"NOTE: {note}")
    if result.guessed_routes:
        base, raw = (json.dumps(routes) for routes in zip(*result.guessed_routes, strict=True))
        log(f"to settle the layers guessed here:\n    base.set_layer_map({base})\n    raw.set_layer_map({raw})")


def assertion(pair: Pair, rules: CompareRules) -> str:
    """Return a text on how a pair differs, in the words of numpy.testing.assert_allclose, which PaDiff's users know.

    Args:
        pair: a comparison that failed.
        rules: the rules by which it was made; the text names their tolerances.
    """
    metrics = pair.metrics
    if pair.failure != "values" or metrics is None:
        return f"AssertionError:\n{pair.why}\n"
    atol = PADIFF_ATOL if rules.atol is None else rules.atol
    rtol = PADIFF_RTOL if rules.rtol is None else rules.rtol
    place = f"  at {list(metrics.index)}, where they differ most" if metrics.index else ""
    return (
        f"AssertionError:\nNot equal to tolerance {_tolerance(rules, rtol, atol)}\n\n"
        f"Mismatched elements: {metrics.mismatched} / {metrics.total} ({_percent(metrics)}%)\n"
        f"Max absolute difference: {metrics.max_abs:.9g}\n"
        f"Max relative difference: {metrics.max_rel:.9g}\n"
        f" x: {_array(metrics.base_value, metrics.base_dtype)}{place}\n"
        f" y: {_array(metrics.raw_value, metrics.raw_dtype)}{place}\n"
    )


def _show_divergence(result: Result, divergence: Divergence, shown: Shown, skipped_routes: PerSide[set[str]]) -> None:
    """Print one divergence, and write both trees with its layers marked into log files."""
    stage = divergence.stage.capitalize()
    log("FAILED !!!")
    log(f"    Diff found in {stage} Stage" + (f" of {shown.counted} {divergence.step}" if divergence.step else ""))
    log(f"    Type of layer is: {divergence.base.class_name} vs {divergence.raw.class_name}")
    log(f"    Route: {shown.path('base', divergence.base.route)}")
    log(f"           {shown.path('raw', divergence.raw.route)}")
    log(f"    Tensor: {divergence.tensor}" + (f", call {divergence.call}" if divergence.call else ""))
    log(f"    Why: {divergence.why}")
    show("")
    show(assertion(divergence.found_at, shown.rules))
    log("Check model struct:")
    log_name = log_names(*shown.names)
    layers = PerSide(divergence.base, divergence.raw)
    paths = [
        write_tree(
            f"report_{log_name.of(side)}{shown.suffix}.log",
            shown.names.of(side),
            result.trees[side],
            {layers.of(side).route},
            skipped,
        )
        for side, skipped in skipped_routes.items()
    ]
    show(f"Logs: {paths[0]}\n      {paths[1]}\n")
    log(f"The {divergence.stage} stage comparing failed !!!")


def _show_parameters(result: Result, what: str, shown: Shown) -> None:
    """Write every parameter that differs into a log file, and print the first six. what: "weights" or "grads"."""
    failed = [pair for pair in result.pairs if pair.status == "fail" and _OF_PARAMETERS.get(pair.stage) == what]
    classes = {side: dict(layers) for side, layers in result.trees.items()}
    text = "".join(_parameter_entry(pair, what, classes["base"].get, classes["raw"].get, shown) for pair in failed)
    path = write_log(f"{what}_diff{shown.suffix}.log", text)
    log(f"Diff found when compare {what}, please check report\n        {path}")
    for pair in failed[:_SHOWN]:
        paths = (
            shown.path("base", pair.base_route, pair.base_tensor or pair.tensor),
            shown.path("raw", pair.raw_route, pair.tensor),
        )
        log(f"    {' and '.join(dict.fromkeys(paths))}: {pair.why}")
    if len(failed) > _SHOWN:
        log(f"    and {len(failed) - _SHOWN} more")


def _show_unmatched(result: Result, shown: Shown) -> None:
    """Print the first layers and tensors that need a counterpart and have none, and write all of them into a log file."""
    lines = [
        f"{item.what} {item.name!r} of {side}_model has no counterpart: {item.why}"
        for side, items in (("base", result.unmatched_base), ("raw", result.unmatched_raw))
        for item in items
        if item.fails
    ]
    outputs = [extra for extra in result.extras if extra.what == "output" and extra.status == "fails"]
    lines += [f"{extra.name} of {extra.side}_model has no counterpart: {extra.why}" for extra in outputs]
    if not lines:
        return
    path = write_log(f"unmatched{shown.suffix}.log", "\n".join([shown.where(0), *lines, ""]))
    log(f"{len(lines)} have no counterpart, please check report\n        {path}")
    for line in lines[: 2 * _SHOWN]:
        log(f"    {line}")


def _parameter_entry(
    pair: Pair, what: str, base_class: Callable[[str], str | None], raw_class: Callable[[str], str | None], shown: Shown
) -> str:
    return (
        f"{'=' * 25}\n{what} value is different.\n"
        f"between base_model: {base_class(pair.base_route)}()\n"
        f"        raw_model:  {raw_class(pair.raw_route)}()\n\n"
        f"base_model param path:\n    {shown.path('base', pair.base_route, pair.base_tensor or pair.tensor)}\n"
        f"raw_model param path:\n    {shown.path('raw', pair.raw_route, pair.tensor)}\n"
        f"stage: {pair.stage}, {shown.where(pair.step)}\n\n"
        f"{assertion(pair, shown.rules)}\n"
    )


def _tolerance(rules: CompareRules, rtol: float, atol: float) -> str:
    if rules.mode == "scaled" and rules.rtol is None:
        return f"rtol=by dtype and stage, atol={atol:g} (mode scaled)"
    return f"rtol={rtol:g}, atol={atol:g}"


def _percent(metrics: Metrics) -> str:
    return f"{100.0 * metrics.mismatched / metrics.total:.3g}" if metrics.total else "0"


def _array(value: float | None, dtype: str) -> str:
    """Return a value as NumPy writes it, if NumPy has its type."""
    number = "?" if value is None else f"{value:.9g}"
    return f"array({number}, dtype={_NUMPY.get(dtype, dtype)})"
