"""Find what only one of two dumps holds: layers, calls of layers, outputs of layers.

Two live models may be the same model, written in two ways. But a dump that lacks a part of the other was made of another model,
or with other lists, and that is always reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from padiff_rpc.match.attention import attention_routes
from padiff_rpc.match.layer_map import LayerPair
from padiff_rpc.match.routes import is_inside
from padiff_rpc.model.model import ModelDescription
from padiff_rpc.per_side import SideName
from padiff_rpc.result import Divergence, LayerRef, Pair, Result, Stage, Unmatched
from padiff_rpc.tape.read_report import TapedRun
from padiff_rpc.tape.recorded_model import RecordedModel

CURE = (
    "where the two models are meant to differ so, leave the layer out of both dumps (update_black_list), map the layer "
    "around it (set_layer_map), or set PADIFF_SIKP_WRAP_LAYER=ON if it only wraps others or holds no parameters"
)
"""The note that tells a user what to do about such a difference."""


def differing_structure(base: RecordedModel, raw: RecordedModel, result: Result) -> list[Divergence]:
    """Return a divergence for each layer, number of calls or number of outputs in which two dumps differ, run by run.

    These are no differences: layers that a list of either side leaves out; wrappers whose sublayers were matched; layers whose
    parameters the other side holds elsewhere; another number of outputs of a layer in the layer map, or of the frameworks' own
    layers, where the frameworks differ; and calls that the frameworks' own layers make inside.

    Args:
        base: base's dump.
        raw: raw's dump.
        result: the result of comparing the two, with the pairs of layers and the layers without partner.
    """
    return list(_Structures(base, raw, result).differences())


def one_sided(stage: Stage, run: int, base: LayerRef, raw: LayerRef, why: str, call: int = 0) -> Divergence:
    """Return the divergence that says that one dump lacks a part of the other.

    Args:
        stage: "forward" or "backward".
        run: the number of the forward in the dumps.
        base: base's layer that it concerns.
        raw: raw's layer that it concerns.
        why: a sentence on the difference.
        call: the number of the layer's call.
    """
    pair = Pair(run, stage, base.route, raw.route, call, "output", "fail", why, "missing")
    return Divergence(run, stage, base, raw, call, "output", why, pair)


@dataclass(frozen=True)
class _DumpSide:
    """One of the two dumps, and how its layers were matched.

    Attributes:
        name: its side.
        runs: its forwards and backwards.
        described: its layers and parameters.
        partners: the other dump's route by its own route, for layers that are paired.
        left_out: the routes that its lists leave out, with the reasons.
        mapped: the routes in its layer map.
        failing: routes of layers without partner that hold parameters which the other dump lacks.
    """

    name: SideName
    runs: tuple[TapedRun, ...]
    described: ModelDescription
    partners: Mapping[str, str]
    left_out: Mapping[str, str]
    mapped: tuple[str, ...]
    failing: frozenset[str]

    def calls(self, run: int) -> Counter[str]:
        """Count the calls of each layer in a run; functional calls (relu, add, ...) are compared elsewhere."""
        known = {layer.route for layer in self.described.layers}
        routes = [boundary.route for boundary in self.runs[run].forward if boundary.side == "output"]
        return Counter(route for route in routes if route in known or "/" not in route)

    def outputs(self, run: int) -> dict[tuple[str, int], int]:
        """Count the tensors that each call of a layer returned in a run, by route and number of the call."""
        return {
            (boundary.route, boundary.call): len(boundary.tensors)
            for boundary in self.runs[run].forward
            if boundary.side == "output"
        }

    def class_of(self, route: str) -> str:
        """Return the class name of a layer; "layer" if it is not known."""
        return next((layer.class_name for layer in self.described.layers if layer.route == route), "layer")

    def is_frameworks_own(self, route: str) -> bool:
        """Return True for a layer of the framework itself, not of the user."""
        paths = {layer.route: layer.class_path for layer in self.described.layers}
        return paths.get(route, "").startswith(f"{self.described.framework}.nn.")

    def is_elsewhere(self, route: str) -> bool:
        """Return True for a wrapper of paired layers, or a layer whose parameters the other side holds in another place."""
        if any(is_inside(route, outer) for outer in self.failing):
            return False
        inside = [layer for layer in self.described.layers if is_inside(layer.route, route)]
        return any(layer.parameters or layer.route in self.partners for layer in inside)

    def around(self, route: str) -> str:
        """Return the innermost layer that has a partner and is or encloses the given one."""
        while route and route not in self.partners:
            route = route.rpartition(".")[0]
        return route


class _Structures:
    """Two dumps whose layers, calls and outputs are compared."""

    def __init__(self, base: RecordedModel, raw: RecordedModel, result: Result) -> None:
        to_raw = dict(result.paired_routes)
        to_base = {other: mine for mine, other in result.paired_routes}
        self._base = _side("base", base, to_raw, result.unmatched_base, result.settings["base_selection"])
        self._raw = _side("raw", raw, to_base, result.unmatched_raw, result.settings["raw_selection"])
        inferred = set(result.inferred_routes)
        pairs = [LayerPair(*routes, "name", routes not in inferred) for routes in result.paired_routes]
        self._attention = attention_routes(self._base.described, self._raw.described, pairs)

    def differences(self) -> Iterator[Divergence]:
        for run in range(min(len(self._base.runs), len(self._raw.runs))):
            base_calls, raw_calls = self._base.calls(run), self._raw.calls(run)
            yield from self._alone(run, self._base, base_calls)
            yield from self._alone(run, self._raw, raw_calls)
            yield from self._counts(run, base_calls, raw_calls)
            yield from self._outputs(run)

    def _alone(self, run: int, mine: _DumpSide, calls: Mapping[str, int]) -> Iterator[Divergence]:
        """Yield the layers that run on one side and have no partner; the outermost only, where one encloses another."""
        told: list[str] = []
        for route in sorted(calls):
            if route in mine.partners or route in mine.left_out or mine.is_elsewhere(route):
                continue
            if any(is_inside(route, outer) for outer in told):
                continue
            told.append(route)
            outer = mine.around(route)
            why = f"only {mine.name} has the layer {route!r} ({mine.class_of(route)})"
            here, there = LayerRef(route, mine.class_of(route)), LayerRef(mine.partners[outer], "nothing")
            yield one_sided("forward", run, *((here, there) if mine.name == "base" else (there, here)), why)

    def _counts(self, run: int, base: Mapping[str, int], raw: Mapping[str, int]) -> Iterator[Divergence]:
        """Yield the paired layers that are called more often on one side. base, raw: the number of calls by route."""
        for route, partner in self._base.partners.items():
            counts = base.get(route, 0), raw.get(partner, 0)
            if counts[0] == counts[1] or route in self._base.left_out or partner in self._raw.left_out:
                continue
            if self._is_inside_the_frameworks_own(route, partner):
                continue
            why = f"base calls it {_times(counts[0])}, raw {_times(counts[1])}"
            yield one_sided("forward", run, *self._refs(route, partner), why, min(counts))

    def _outputs(self, run: int) -> Iterator[Divergence]:
        """Yield the layers that return more tensors on one side; not the root, whose outputs are compared one by one."""
        mapped = set(self._base.mapped) | self._attention
        raw = self._raw.outputs(run)
        for (route, call), count in self._base.outputs(run).items():
            partner = self._base.partners.get(route)
            if not route or route in mapped or partner is None or raw.get((partner, call), count) == count:
                continue
            both = count and raw[partner, call]
            if both and self._are_the_frameworks_own(route, partner):  # paddle's GRUCell returns its state twice
                continue
            why = f"base's layer returns {_tensors(count)}, raw's {_tensors(raw[partner, call])}"
            yield one_sided("forward", run, *self._refs(route, partner), why, call)

    def _is_inside_the_frameworks_own(self, route: str, partner: str) -> bool:
        """Return True for a layer that the frameworks' own code calls, or computes itself, as torch's attention its out_proj.

        The outputs of the layer around it are compared, and no user has written the code between.
        """
        around, theirs = route.rpartition(".")[0], partner.rpartition(".")[0]
        if around in self._attention:
            return True
        return self._are_the_frameworks_own(around, theirs)

    def _are_the_frameworks_own(self, route: str, partner: str) -> bool:
        if self._base.described.framework == self._raw.described.framework:
            return False
        return self._base.is_frameworks_own(route) and self._raw.is_frameworks_own(partner)

    def _refs(self, route: str, partner: str) -> tuple[LayerRef, LayerRef]:
        return LayerRef(route, self._base.class_of(route)), LayerRef(partner, self._raw.class_of(partner))


def _side(
    name: SideName,
    model: RecordedModel,
    partners: Mapping[str, str],
    alone: Sequence[Unmatched],
    left_out: Mapping[str, str],
) -> _DumpSide:
    failing = frozenset(item.name for item in alone if item.what == "layer" and item.fails)
    return _DumpSide(name, model.runs, model.describe(), partners, left_out, model.layer_map, failing)


def _times(count: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count} times")


def _tensors(count: int) -> str:
    return "1 tensor" if count == 1 else f"{count} tensors"
