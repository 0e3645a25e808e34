"""Print a result: the verdict first, then what a person needs to act on it. Without colours when piped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from padiff_rpc.compare.differing_hyperparameters import differing_hyperparameters
from padiff_rpc.compare.floor import HEALTHY
from padiff_rpc.per_side import PerSide
from padiff_rpc.report.advice import advise, framework
from padiff_rpc.report.extras_in_words import extras_held, in_words
from padiff_rpc.report.figures import measured_text, number, ratio, stage_rows
from padiff_rpc.report.layout import columns, fold
from padiff_rpc.report.likely_causes import shown_causes
from padiff_rpc.report.tree_view import tree_lines
from padiff_rpc.report.unmatched_lines import failing_lines, harmless_lines
from padiff_rpc.result import Cause, Divergence, Failure, LayerRef, Metrics, Pair, Result

MOST_LISTED = 8
"""Lines of one kind before the rest is only counted; `--json` has them all."""


def print_result(result: Result, console: Console) -> None:
    """Print the whole report of a result."""
    print_verdict(result, console)
    divergence = result.first_divergence
    if divergence:
        _print_divergence(result, divergence, console)
        _print_causes(shown_causes(result.causes), console)
    elif not result.aligned:
        _print_failing_pairs(result, console)
    _print_further(result.divergences[1:], console)
    _print_introduced(result, console)
    _print_stages(result, console)
    unmatched = PerSide(result.unmatched_base, result.unmatched_raw)
    for side, entries in unmatched.items():
        print_list(f"Only {side} has, and needs a partner", failing_lines(entries), console)
    _print_extra_outputs(result, console)
    print_list("Notes", [Text(note) for note in result.notes], console)
    harmless = [line for side, entries in unmatched.items() for line in harmless_lines(side, entries, result.notes)]
    print_list("Without a partner, and needing none", harmless, console)
    _print_environment(result, console)
    advice = advise(result)
    if advice:
        console.print()
        console.print(fold(Text.assemble(("Try next: ", "bold"), advice), console.width, indent=2))


def print_verdict(result: Result, console: Console) -> None:
    """Print ALIGNED or DIFFERS and at which layer, how many pairs were compared, and why some were skipped."""
    counts = Counter(pair.status for pair in result.pairs)
    compared = counts["pass"] + counts["fail"]
    verdict = ("ALIGNED", "bold green") if result.aligned else ("DIFFERS", "bold red")
    console.print(
        fold(Text.assemble(verdict, "  ", _headline(result, compared), _guessed(result)), console.width, indent=2)
    )
    skipped = Counter(pair.why or "no reason given" for pair in result.pairs if pair.status == "skipped")
    console.print(
        Text(
            f"{compared:,} {'pair' if compared == 1 else 'pairs'} compared: {counts['pass']:,} passed, "
            f"{counts['fail']:,} failed; {counts['skipped']:,} skipped"
        )
    )
    for why, count in skipped.most_common(MOST_LISTED):
        console.print(fold(f"  {count:,} skipped: {why}", console.width, indent=4))


def print_list(title: str, lines: Sequence[Text], console: Console) -> None:
    """Print a title and the first lines below it, and count the rest; nothing where there are no lines."""
    if not lines:
        return
    _title(title, console)
    _print_lines([fold(Text.assemble("  ", line), console.width, indent=4) for line in lines[:MOST_LISTED]], console)
    if len(lines) > MOST_LISTED:
        console.print(f"  ... {len(lines) - MOST_LISTED} more (--json FILE has them all)")


def _guessed(result: Result) -> str:
    """Say how many pairs of layers are a guess that the run does not bear out."""
    count = len(result.guessed_routes)
    pairs = "pair of layers is" if count == 1 else "pairs of layers are"
    return f"; {count} {pairs} a guess: see the notes" if count else ""


def _headline(result: Result, compared: int) -> str:
    if result.aligned:
        allowed = in_words(result.extras, "allowed")
        return f"all that both have agrees; allowed: {allowed}" if allowed else "the two models agree"
    if not compared:
        return "nothing was compared, so nothing is known to agree"
    divergence = result.first_divergence
    if divergence:
        more = len(result.divergences) - 1
        others = f", and at {more} more {'layer' if more == 1 else 'layers'}" if more else ""
        return f"first at {_name(divergence.base)} (step {divergence.step}, {_stage(divergence.stage)}){others}"
    misfits = sum(one.fails and not one.tensors for one in (*result.unmatched_base, *result.unmatched_raw))
    if misfits:
        return f"what was compared agrees, but {misfits} {'has' if misfits == 1 else 'have'} no partner"
    if any(pair.status == "fail" for pair in result.pairs):
        return "see the failing pairs"
    extras = in_words(result.extras, "fails")
    if result.lacking or not extras:
        return "no pair failed, but not all that was asked was compared: see the notes"
    return f"only in what one side has: all that both have agrees; {extras}"


def _print_divergence(result: Result, divergence: Divergence, console: Console) -> None:
    _title("First difference", console)
    rows: list[tuple[str, Text | str]] = [
        (side, Text.assemble((layer.route or "(the whole model)", "bold"), "  ", (layer.class_name, "cyan")))
        for side, layer in (("base", divergence.base), ("raw", divergence.raw))
    ]
    rows.append(("where", f"step {divergence.step}, {_stage(divergence.stage)}, call {divergence.call}"))
    if divergence.why:
        rows.append(("why", divergence.why))
    if extras := extras_held(result.extras, {"base": divergence.base.route, "raw": divergence.raw.route}):
        rows.append(("extra", f"{extras} here, with values of its own"))
    rows += _pair_facts(divergence.found_at, divergence)
    if result.judgement is not None:
        rows.append(("judged", result.judgement.words))
    _print_facts(rows, console)
    lines = tree_lines(result, divergence, console.width, ascii_only=not _speaks_unicode(console))
    if lines:
        console.print()
        _print_lines(lines, console)
    differing = differing_hyperparameters(
        divergence.base, divergence.raw, framework(result, "base"), framework(result, "raw")
    )
    if differing:
        _title("Hyper-parameters of the two layers that differ", console)
        table = [("base", "raw", ""), *((one.base, one.raw, Text(one.note, style="dim")) for one in differing)]
        _print_lines(columns(table, console.width, indent=2), console)


def _print_introduced(result: Result, console: Console) -> None:
    """Print the layers that add more than rounding to the difference themselves."""
    own = [one for one in result.introduced if one.ratio > HEALTHY]
    if not own:
        return
    _title("Layers that add to the difference themselves, given base's own tensors", console)
    rows: list[tuple[str, ...]] = [("raw", "class", "stage", "total", "adds", "floors")]
    for one in own[:MOST_LISTED]:
        name = one.raw_route or "(the whole model)"
        figures = (number(one.total), number(one.introduced), f"{one.ratio:.0f}")
        rows.append((name, one.class_name, _stage(one.stage), *figures))
    _print_lines(columns(rows, console.width, indent=2), console)
    if len(own) > MOST_LISTED:
        console.print(f"  ... and {len(own) - MOST_LISTED} more: see `introduced` in --json")


def _print_causes(causes: Sequence[Cause], console: Console) -> None:
    """Print the causes, the best first, each with what shows it."""
    if not causes:
        return
    _title("Likely cause", console)
    rows: list[tuple[str, Text | str]] = []
    for at, cause in enumerate(causes):
        rows.append(("or else" if at else "cause", Text(cause.words, style="" if at else "bold")))
        rows.append(("shown by", cause.evidence))
    _print_facts(rows, console)


def _pair_facts(pair: Pair, divergence: Divergence | None) -> list[tuple[str, Text | str]]:
    at = ""
    if divergence and (pair.base_route, pair.raw_route) != (divergence.base.route, divergence.raw.route):
        at = f" of {pair.base_route or 'the model'}"
        at += f" / {pair.raw_route or 'the model'}" if pair.raw_route != pair.base_route else ""
    facts: list[tuple[str, Text | str]] = [
        ("tensor", Text.assemble((pair.tensor, "bold"), at)),
        ("failed", Text(_failure(pair), style="red")),
    ]
    return facts if pair.metrics is None else [*facts, *_metric_facts(pair.metrics, pair.failure)]


def _metric_facts(metrics: Metrics, failure: Failure) -> list[tuple[str, Text | str]]:
    values = f"base {_value(metrics.base_value)}, raw {_value(metrics.raw_value)}"
    known = metrics.base_value is not None or metrics.raw_value is not None
    if metrics.measure in ("mean", "abs_mean"):
        return [("means", values)]
    if failure == "nan":
        first = [("first", f"at {list(metrics.index)}: {values}")] if known else []
        return [
            *first,
            ("elements", f"{metrics.nan:,} NaN and {metrics.inf:,} Inf on both sides, of {metrics.total:,}"),
        ]
    place = f"at {list(metrics.index)}" + (f": {values}" if known else "")
    return [
        ("greatest", f"difference {number(metrics.max_abs)} {place}"),
        # Elements were counted against the table.
        *([] if failure == "floor" else [("elements", _elements(metrics))]),
        (
            "metrics",
            f"rel_l2 {number(metrics.rel_l2)}, max_rel {number(metrics.max_rel)}, mean_abs {number(metrics.mean_abs)}, "
            f"cosine {metrics.cosine:.6g}",
        ),
    ]


def _failure(pair: Pair) -> str:
    kind = {
        "values": "values out of tolerance",
        "nan": "NaN or Inf",
        "shape": "another shape",
        "dtype": "another dtype",
        "missing": "missing on one side",
        "axes": "another order of axes",
        "floor": "more than rounding",
        "": "",
    }[pair.failure]
    # NaN, shape and the like were not measured against a tolerance: the number would say nothing.
    measured = measured_text(pair.metrics) if pair.metrics and pair.failure in ("values", "") else ""
    return ": ".join(part for part in (kind, measured or pair.why) if part)


def _elements(metrics: Metrics) -> str:
    share = f" ({100 * metrics.mismatched / metrics.total:.3g} %)" if metrics.total else ""
    text = f"{metrics.mismatched:,} of {metrics.total:,} out of tolerance{share}"
    return text + (f"; NaN {metrics.nan:,}, Inf {metrics.inf:,}" if metrics.nan or metrics.inf else "")


def _print_failing_pairs(result: Result, console: Console) -> None:
    failing = [pair for pair in result.pairs if pair.status == "fail"]
    for pair in failing[:1]:
        _title("First failing pair", console)
        rows: list[tuple[str, Text | str]] = [
            ("base", pair.base_route or "(the whole model)"),
            ("raw", pair.raw_route or "(the whole model)"),
            ("where", f"step {pair.step}, {_stage(pair.stage)}, call {pair.call}"),
        ]
        _print_facts([*rows, *_pair_facts(pair, None)], console)


def _print_further(divergences: Sequence[Divergence], console: Console) -> None:
    print_list(
        "Further layers that add a difference of their own",
        [
            Text.assemble(
                (_name(one.base), "bold"),
                (f" / {_name(one.raw)}" if one.raw.route != one.base.route else ""),
                f"  {_stage(one.stage)}, step {one.step}, {one.tensor}: ",
                (_failure(one.found_at), "red"),
            )
            for one in divergences
        ],
        console,
    )


def _print_stages(result: Result, console: Console) -> None:
    rows = stage_rows(result)
    if not rows:
        return
    _title("By stage", console)
    lines: list[tuple[Text | str, ...]] = [("stage", "pairs", "failed", "worst error", "allowed", "where")]
    for row in rows:
        worst = row.worst.metrics if row.worst else None
        lines.append(
            (
                row.stage,
                f"{row.compared:,}",
                Text(f"{row.failed:,}", style="red" if row.failed else ""),
                f"{worst.measure} {number(worst.measured)}" if worst else "-",
                number(worst.allowed) if worst else "-",
                _where(row.worst) if row.worst and ratio(worst) else "-",
            )
        )
    _print_lines(columns(lines, console.width, indent=2, right=(1, 2, 3, 4)), console)


def _where(pair: Pair) -> str:
    return f"{pair.base_route or '(the whole model)'} {pair.tensor}"


def _print_extra_outputs(result: Result, console: Console) -> None:
    """Print the model's outputs that one side alone returns."""
    lines = [
        Text.assemble((extra.name, "bold"), f": {extra.why}", (" [fails]" if extra.status == "fails" else "", "red"))
        for extra in result.extras
        if extra.what == "output"
    ]
    print_list("Outputs that one side alone returns", lines, console)


def _print_environment(result: Result, console: Console) -> None:
    lines = []
    for side in ("base", "raw"):
        about = result.environment.get(side) or {}
        parts = [about.get("framework"), about.get("framework_version"), about.get("device")]
        host, python = about.get("host"), about.get("python_version")
        parts += [f"Python {python}" if python else None, f"on {host}" if host else None]
        if any(parts):
            lines.append(Text.assemble(f"{side:<4}  ", " ".join(str(part) for part in parts if part)))
    print_list("Ran on", lines, console)


def _print_facts(rows: Sequence[tuple[str, Text | str]], console: Console) -> None:
    _print_lines(columns([(Text(name, style="dim"), text) for name, text in rows], console.width, indent=2), console)


def _print_lines(lines: Sequence[Text], console: Console) -> None:
    for line in lines:
        console.print(line, no_wrap=True, overflow="ignore", crop=False)


def _title(text: str, console: Console) -> None:
    console.print()
    console.print(Text(text, style="bold"))


def _name(layer: LayerRef) -> str:
    return layer.route or layer.class_name


def _stage(stage: str) -> str:
    return {"grads": "gradients of parameters", "backward": "backward", "weights_before": "weights before"}.get(
        stage, stage
    )


def _value(value: float | None) -> str:
    return "none" if value is None else f"{value:.9g}"


def _speaks_unicode(console: Console) -> bool:
    return console.encoding.lower().startswith("utf")
