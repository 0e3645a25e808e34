"""Print what the trials gave: a row for each, a summary by kind, and every one that was judged wrongly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.mutations.mutation import Mutation
from benchmarks.mutations.pairs import MutatedPair
from benchmarks.mutations.trial import Trial, command

PLACES = ("exact", "near", "elsewhere")


def report(trials: Sequence[Trial], pairs: Mapping[str, MutatedPair], console: Console) -> None:
    """Print everything."""
    console.print(_rows(trials))
    console.print(_summary(trials))
    missed = [trial for trial in trials if trial.missed]
    alarms = [trial for trial in trials if trial.false_alarm]
    _listed("CALLED ALIGNED THOUGH SOMETHING CHANGED", missed, pairs, console)
    _listed("called different though nothing changed", alarms, pairs, console)
    console.print(conclusion(trials))


def conclusion(trials: Sequence[Trial]) -> str:
    """Return the figures in a sentence."""
    effective = [trial for trial in trials if trial.effect]
    places = Counter(trial.place for trial in effective if trial.verdict == "differs")
    named = ", ".join(f"{places[place]} {place}" for place in PLACES)
    missed, alarms = sum(trial.missed for trial in trials), sum(trial.false_alarm for trial in trials)
    refused = sum(trial.verdict == "refused" for trial in effective)
    return (
        f"{len(trials)} mutations, {len(effective)} with an effect: {missed} called aligned, {refused} refused; "
        f"the named layer is {named}. {len(trials) - len(effective)} without: {alarms} called different."
    )


def _rows(trials: Iterable[Trial]) -> Table:
    table = Table("pair", "mutation", "of layer", "outputs", "gradients", "buffers", "verdict", "names", "place")
    for trial in trials:
        mutation = f"{trial.label} ({trial.words})" if trial.words else trial.label
        verdict = trial.verdict.upper() if trial.missed or trial.false_alarm else trial.verdict
        named = trial.named or ("the model" if trial.place else "")
        sizes = (_size(size) for size in (trial.outputs, trial.gradients, trial.buffers))
        cells = (trial.pair, mutation, trial.route or "the model", *sizes, verdict, named, trial.place)
        table.add_row(*(escape(cell) for cell in cells))
    return table


def _size(distance: float) -> str:
    return f"{distance:.1e}" if distance else "0"


def _summary(trials: Iterable[Trial]) -> Table:
    table = Table("mutation", "tried", "with effect", "aligned", "refused", *PLACES, "false alarms")
    by_label: dict[str, list[Trial]] = {}
    for trial in trials:
        by_label.setdefault(trial.label, []).append(trial)
    for label, of_kind in sorted(by_label.items()):
        effective = [trial for trial in of_kind if trial.effect]
        places = Counter(trial.place for trial in effective)
        counts = (
            len(of_kind),
            len(effective),
            sum(trial.missed for trial in of_kind),
            sum(trial.verdict == "refused" for trial in effective),
            *(places[place] for place in PLACES),
            sum(trial.false_alarm for trial in of_kind),
        )
        table.add_row(escape(label), *(str(count or "") for count in counts))
    return table


def _listed(title: str, trials: Sequence[Trial], pairs: Mapping[str, MutatedPair], console: Console) -> None:
    if not trials:
        return
    console.print(f"{title}: {len(trials)}")
    for trial in trials:
        place = f"{trial.pair}, {trial.label} ({trial.words}) of {trial.route or 'the model'}"
        console.print(
            f"- {place}: most in {trial.most!r}; said: {trial.why or 'aligned'}", markup=False, soft_wrap=True
        )
        shown = command(pairs[trial.pair], Mutation(**trial.mutation), f"{trial.pair}.npz")
        console.print(shown, markup=False, soft_wrap=True)
