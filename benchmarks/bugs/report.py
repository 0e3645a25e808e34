"""Print what the runs gave: a row for each bug, the scores of both halves and of other tolerances, and the healthy ratios."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.bugs.bug import Bug, Found, Outcome

_SHARES = (0.5, 0.9, 0.99, 1.0)


def report_bugs(outcomes: Sequence[Outcome], bugs: Iterable[Bug], console: Console) -> bool:
    """Print everything, and return whether every bug was found."""
    by_title = {bug.title: bug for bug in bugs}
    table = Table("bug", "half", "verdict", "stage", "named layer", "exact", "first cause", "right", "table", "testing")
    for outcome in outcomes:
        table.add_row(*(escape(cell) for cell in _cells(outcome, by_title[outcome.title])))
    console.print(table)
    console.print(_totals(outcomes, by_title))
    missed = [outcome for outcome in outcomes if _first(outcome).verdict in ("aligned", "crashed")]
    for outcome in missed:
        said = _first(outcome)
        console.print(f"{said.verdict.upper()}: {outcome.title}, seed {outcome.seed} {said.why}".rstrip(), markup=False)
    return not missed


def report_healthy(outcomes: Sequence[Outcome], console: Console) -> bool:
    """Print the worst ratio of each pair and their distribution, and return whether all were aligned."""
    table = Table("pair", "seeds", "aligned", "measured/allowed", "at", "error/floor", "at")
    by_title: dict[str, list[Found]] = {}
    for outcome in outcomes:
        by_title.setdefault(outcome.title, []).append(_first(outcome))
    for title, runs in by_title.items():
        aligned = sum(run.verdict == "aligned" for run in runs)
        worst, ratio = max(runs, key=lambda run: run.worst), max(runs, key=lambda run: run.ratio)
        cells = (f"{worst.worst:.2g}", worst.worst_at, f"{ratio.ratio:.2g}" if ratio.ratio else "", ratio.ratio_at)
        table.add_row(escape(title), str(len(runs)), str(aligned), *(escape(cell) for cell in cells))
    console.print(table)
    runs = [_first(outcome) for outcome in outcomes]
    for words, values in (
        ("measured / allowed", [run.worst for run in runs]),
        ("error / floor", [run.ratio for run in runs]),
    ):
        if any(values):
            shares = ", ".join(f"{share:.0%} <= {_quantile(values, share):.2g}" for share in _SHARES)
            console.print(f"largest {words}: {shares}")
    alarms = [outcome for outcome in outcomes if _first(outcome).verdict != "aligned"]
    for outcome in alarms:
        said = _first(outcome)
        place = f"{said.stage} {said.route or 'the model'}"
        console.print(f"ALARM: {outcome.title}, seed {outcome.seed}: {said.verdict}, {place} {said.why}", markup=False)
    console.print(f"{len(by_title)} healthy pairs, {len(outcomes)} runs, {len(alarms)} alarms")
    return not alarms


def _cells(outcome: Outcome, bug: Bug) -> tuple[str, ...]:
    said = _first(outcome)
    table = outcome.tools.get("table", said)
    refused_or_where = said.route or ("the model" if said.verdict == "differs" else "")
    return (
        outcome.title,
        bug.half,
        said.verdict.upper() if said.verdict in ("aligned", "crashed") else said.verdict,
        said.stage,
        refused_or_where,
        _mark(_exact(said, bug)),
        (said.cause or said.why)[:90],
        _mark(bug.is_cause(said.cause)),
        "aligned" if table.verdict == "aligned" else _mark(_exact(table, bug)) or "found",
        _mark(outcome.testing) or "aligned",
    )


def _totals(outcomes: Sequence[Outcome], bugs: Mapping[str, Bug]) -> Table:
    """A row for each half and for both: how many are found, exactly, with the right cause, by each tolerance."""
    table = Table("bugs", "with", "runs", "found", "exact", "right cause first", title="scores")
    for half in ("first", "second", ""):
        of_half = [outcome for outcome in outcomes if not half or bugs[outcome.title].half == half]
        words = f"{half} half" if half else "all"
        for tolerance in outcomes[0].tools:
            said = [(outcome.tools[tolerance], bugs[outcome.title]) for outcome in of_half]
            found = sum(each.verdict in ("differs", "refused") for each, _ in said)
            exact = sum(_exact(each, bug) for each, bug in said)
            right = sum(bug.is_cause(each.cause) for each, bug in said)
            table.add_row(words, tolerance or "the tool's default", *_counts(len(said), found, exact, right))
        tested = sum(outcome.testing for outcome in of_half)
        table.add_row(words, "torch.testing on outputs", *_counts(len(of_half), tested))
    return table


def _counts(total: int, *parts: int) -> tuple[str, ...]:
    return (str(total), *(f"{part} ({part / max(total, 1):.0%})" for part in parts))


def _exact(said: Found, bug: Bug) -> bool:
    return said.verdict == "differs" and bug.is_place(said.stage, said.route)


def _first(outcome: Outcome) -> Found:
    return next(iter(outcome.tools.values()))


def _mark(is_so: bool) -> str:
    return "yes" if is_so else ""


def _quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]
