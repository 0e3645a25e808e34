"""Try the alternatives of what names and shapes leave in doubt, before the first step, and settle the matching by them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain

from padiff_rpc.align.assign.assign_weights import assign_weights, write_links
from padiff_rpc.align.prepare import Prepared, rematched
from padiff_rpc.align.run.threads import SideThreads
from padiff_rpc.align.stages.compare_parameters import ParameterComparer
from padiff_rpc.align.trying.decide import Combination, Decision, Fit, Trial, untried, words_of
from padiff_rpc.align.trying.measure import fit_of, fits_at_outputs, measuring
from padiff_rpc.errors import PadiffError
from padiff_rpc.match.layer_map import Choice, LayerPair, ParameterLink
from padiff_rpc.match.routes import is_inside
from padiff_rpc.model.model import Inputs, Model
from padiff_rpc.per_side import PerSide
from padiff_rpc.tensors.tensor import Tensor, collect_all


def try_choices(
    prepared: Prepared, threads: SideThreads, inputs: PerSide[Inputs]
) -> tuple[Prepared, Sequence[Decision]]:
    """Settle what names and shapes leave in doubt: by base's own input where weights are assigned, else by the weights.

    Parameters are raw's to be assigned afterwards. Buffers and records are left as they were.

    Args:
        prepared: are the matched models.
        threads: run them.
        inputs: are the arguments of each forward, by name.

    Returns:
        The models under a matching without doubts, and what became of each.
    """
    choices, settings = prepared.matching.choices, prepared.settings
    if not choices or not settings.assign:
        return settle_by_values(prepared, threads)
    if settings.seed is None:
        why = "it was not tried, for without a seed a trial would move the generators on"
        return _settled(prepared, [untried(choice, why) for choice in choices])
    held = _buffers(prepared, threads)
    try:
        return _settled(prepared, _by_outputs(measuring(prepared), threads, inputs))
    except PadiffError as err:
        return _failed(prepared, err)
    finally:
        _write_back(prepared, threads, held)


def settle_by_values(prepared: Prepared, threads: SideThreads) -> tuple[Prepared, Sequence[Decision]]:
    """Settle what names and shapes leave in doubt by the weights that both models hold already."""
    try:
        return _settled(prepared, _by_values(measuring(prepared), threads))
    except PadiffError as err:
        return _failed(prepared, err)


def _failed(prepared: Prepared, err: PadiffError) -> tuple[Prepared, Sequence[Decision]]:
    """Keep what is expected. What fails for another reason than the trial's will do so again in the run."""
    return _settled(prepared, [untried(choice, f"trying failed: {err}") for choice in prepared.matching.choices])


def _by_values(prepared: Prepared, threads: SideThreads) -> list[Decision]:
    comparer = ParameterComparer(prepared.sides, threads, prepared.described)
    decisions: list[Decision] = []
    for trial in _trials({choice.what: [choice] for choice in prepared.matching.choices}, "the weights of"):
        while (numbers := trial.next) is not None:
            fits: list[Fit] = []
            for (choice,) in trial.places.values():
                links = choice.alternatives[numbers[0]].links
                fit = fit_of(comparer.compare(0, "weights_before", links, "value").pairs)
                fits.append(fit or Fit(math.inf, False))
            trial.take(numbers, fits)
        decisions += trial.decisions()
    return decisions


def _settled(prepared: Prepared, decisions: Sequence[Decision]) -> tuple[Prepared, Sequence[Decision]]:
    if not decisions:
        return prepared, ()
    matching = prepared.matching.choosing((one.choice, one.taken) for one in decisions if one.outcome != "untried")
    open_ones = [pair for one in decisions if one.outcome in ("alike", "none") for pair in one.taken.layers]
    guessed = (*matching.guessed_pairs, *((pair.base, pair.raw) for pair in open_ones))
    return rematched(prepared, replace(matching, guessed_pairs=guessed)), decisions


def _by_outputs(prepared: Prepared, threads: SideThreads, inputs: PerSide[Inputs]) -> list[Decision]:
    """Run as many forwards as the choice with the most alternatives needs: all layers try one of theirs in each.

    Each layer is fed with base's tensors, so that it shows its own alternative alone.
    """
    sides, choices = prepared.sides, prepared.matching.choices
    around = {choice: _around(prepared.matching.layers, choice) for choice in choices}
    enclosing = set(chain.from_iterable(around.values()))
    layers = [pair for pair in prepared.matching.layers if pair in enclosing]
    assign_weights(sides.base, sides.raw, prepared.matching)
    fits = fits_at_outputs(prepared, threads, inputs, layers)
    decisions: list[Decision] = []
    groups: dict[str, list[Choice]] = {}
    for choice in choices:
        where = next((pair.base for pair in around[choice] if pair.base in fits), None)
        if where is None:
            decisions.append(untried(choice, "no output of a layer around it is compared"))
        else:
            groups.setdefault(where, []).append(choice)
    trials = _trials(groups, "the outputs of")
    for trial in trials:
        trial.take((0,) * trial.count, [fits[place] for place in trial.places])
    held = {place: (0,) * trial.count for trial in trials for place in trial.places}
    while any(trial.next is not None for trial in trials):
        wanted = {place: trial.next or trial.best for trial in trials for place in trial.places}
        write_links(sides.base, sides.raw, _changed(groups, held, wanted))
        held = wanted
        fits = fits_at_outputs(prepared, threads, inputs, layers)
        for trial in trials:
            if (numbers := trial.next) is not None:
                trial.take(numbers, [fits.get(place, Fit(math.inf, False)) for place in trial.places])
    return [*decisions, *(decision for trial in trials for decision in trial.decisions())]


def _around(layers: Sequence[LayerPair], choice: Choice) -> list[LayerPair]:
    """Return the pairs of layers that enclose what is in doubt, the innermost first."""
    return [
        pair
        for pair in reversed(layers)
        if is_inside(choice.base_route, pair.base) and is_inside(choice.raw_route, pair.raw)
    ]


def _trials(groups: Mapping[str, Sequence[Choice]], measured: str) -> list[Trial]:
    """Put the choices that show at layers of one kind into one trial: routes that differ in their numbers run the same code."""
    alike: dict[object, dict[str, Sequence[Choice]]] = {}
    for place, choices in groups.items():
        kind = (_unnumbered(place), *((_unnumbered(choice.what), words_of(choice)) for choice in choices))
        alike.setdefault(kind, {})[place] = choices
    return [Trial(places, measured) for places in alike.values()]


def _unnumbered(route: str) -> str:
    return re.sub(r"\d+", "N", route)


def _changed(
    groups: Mapping[str, Sequence[Choice]], held: Mapping[str, Combination], wanted: Mapping[str, Combination]
) -> list[ParameterLink]:
    """Return the links of the alternatives that raw does not hold yet."""
    return [
        link
        for place, choices in groups.items()
        for choice, old, new in zip(choices, held[place], wanted[place], strict=True)
        if old != new
        for link in choice.alternatives[new].links
    ]


def _buffers(prepared: Prepared, threads: SideThreads) -> PerSide[dict[str, Tensor]]:
    """Read the buffers of both models, which a forward may change."""

    def read(model: Model, names: list[str]) -> dict[str, Tensor]:
        return {} if model.info().recorded else collect_all(model.read_parameters(names))

    base, raw = prepared.described.map(lambda one: [info.name for info in one.parameters if info.kind == "buffer"])
    sides = prepared.sides
    return threads.both(lambda: read(sides.base, base), lambda: read(sides.raw, raw))


def _write_back(prepared: Prepared, threads: SideThreads, held: PerSide[dict[str, Tensor]]) -> None:
    def write(model: Model, tensors: dict[str, Tensor]) -> None:
        model.reset()
        if tensors:
            model.write_parameters([tensor.stream(name) for name, tensor in tensors.items()])

    sides = prepared.sides
    threads.both(lambda: write(sides.base, held.base), lambda: write(sides.raw, held.raw))
