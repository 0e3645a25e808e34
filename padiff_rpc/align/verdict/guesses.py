"""Say which pairs of layers are a guess after a run, and which of the guesses the run bears out."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from padiff_rpc.align.prepare import Prepared
from padiff_rpc.match.map_lines import layer_lines, to_settle
from padiff_rpc.match.routes import is_inside, listed
from padiff_rpc.result import Pair

Routes = tuple[str, str]
"""The routes of two layers that are paired, in base and raw."""


def open_guesses(guessed: Collection[Routes], pairs: Sequence[Pair]) -> list[Routes]:
    """Return the guessed pairs of layers that the comparisons do not bear out.

    They do where an output of the layer was compared, and a gradient of a parameter in it, and nothing of the layer differs. With
    another partner the layer's input, its weights or its gradients would be those of another layer; where none of them is, either
    partner is right.
    """
    wanted = set(guessed)
    bases = {base for base, _ in guessed}
    differing: set[str] = set()
    compared: set[str] = set()
    learnt: set[str] = set()
    for pair in pairs if wanted else ():
        around = {base for base in bases if is_inside(pair.base_route, base)} if pair.stage == "grads" else set[str]()
        if (pair.base_route, pair.raw_route) in wanted:
            around.add(pair.base_route)
        if pair.status == "fail" or (pair.status == "skipped" and pair.metrics is not None):  # the latter was set aside
            differing |= around
        elif pair.status == "pass" and pair.stage == "grads":
            learnt |= around
        elif pair.status == "pass" and pair.stage == "forward" and pair.tensor.startswith("output"):
            compared |= around
    return [one for one in guessed if one[0] in differing or one[0] not in compared or one[0] not in learnt]


def notes_on_guesses(prepared: Prepared, guessed: Collection[Routes], still: Sequence[Routes]) -> list[str]:
    """Return a note on the guesses that the run bears out, and one with the lines of a map that settle the others.

    Args:
        prepared: are the matched models.
        guessed: are the pairs of layers that were guessed.
        still: are those of them that the run does not bear out.
    """
    routes = [layer.route for layer in prepared.described.base.layers]
    borne_out = [one for one in guessed if one not in still]
    notes = to_settle("layers", layer_lines(still, routes))
    if borne_out:
        lines = layer_lines(borne_out, routes)
        paired = "pair of layers is" if len(borne_out) == 1 else "pairs of layers are"
        notes.append(
            f"{len(borne_out)} {paired} a guess that the run bears out, for what each takes, returns and learns agrees: "
            f"{listed(lines)}"
        )
    return notes
