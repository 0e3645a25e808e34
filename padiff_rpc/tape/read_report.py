"""Read report.json: the boundaries of each run, in the order in which they came."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from padiff_rpc.model.api_names import api_route, spellings
from padiff_rpc.model.model import BoundarySide, ModelDescription, SilentTensor, Unrecorded
from padiff_rpc.model.selection import Selection
from padiff_rpc.tape.entries import Paths, TensorRef, entries
from padiff_rpc.tape.header import selection_of
from padiff_rpc.tape.json_files import OURS, damaged, need, need_nodes, read_json
from padiff_rpc.tape.layer_tree import description_of, plain_route
from padiff_rpc.tape.padiff_layers import describe_calls
from padiff_rpc.tape.write_report import CallKey

_LISTS: Mapping[BoundarySide, tuple[str, str]] = {
    "input": ("fwd_inputs", "bwd_grads"),
    "output": ("fwd_outputs", "bwd_output_grads"),
}


@dataclass(frozen=True)
class TapedBoundary:
    """One side of one layer call, as a report has it.

    Attributes:
        route: The layer's route, or that of a functional call.
        call: Which of the calls at this route in this run, from 0.
        side: Whether the tensors entered or left the layer.
        tensors: Of the forward: all tensors of this side. Of the backward: one gradient.
    """

    route: str
    call: int
    side: BoundarySide
    tensors: tuple[TensorRef, ...]


@dataclass(frozen=True)
class TapedRun:
    """One forward and its backward, as a report has them.

    Attributes:
        forward: The forward's boundaries, in order.
        backward: The backward's boundaries, in order.
        callers: The enclosing call of each layer call, or None.
        loss: The loss; None if it is not known.
        without_gradient: Tensors at boundaries whose gradient never arrived.
        backward_ran: Whether there was a backward.
        unrecorded: What the report lacks as a whole, as in BackwardResult.
        api_calls: Whether functional calls were recorded.
    """

    forward: tuple[TapedBoundary, ...]
    backward: tuple[TapedBoundary, ...]
    callers: Mapping[CallKey, CallKey | None]
    loss: float | None
    without_gradient: tuple[SilentTensor, ...]
    backward_ran: bool
    unrecorded: tuple[Unrecorded, ...]
    api_calls: bool


@dataclass(frozen=True)
class Report:
    """A report.json.

    Attributes:
        source: The file.
        content: Its content, as parsed.
        description: The model; in a report of PaDiff's only the layers that ran.
        runs: The runs that it holds, in order.
        selection: Which layers were left out of it, and why.
    """

    source: Path
    content: Mapping[str, Any]
    description: ModelDescription
    runs: tuple[TapedRun, ...]
    selection: Selection


def read_report(source: Path) -> Report:
    """Read a report, and the headers of its tensors' files.

    Raises:
        PadiffError: DATA_LOSS, naming the file, if the JSON or a tensor's file is missing, damaged, or not what it
            should be.
        PadiffError: BAD_CONFIG if the report's format is of a newer release.
    """
    content = read_json(source)
    framework = need(content, "framework", str, source)
    model_name = need(content, "model_name", str, source)
    need(content, "layer_map", dict, source)
    tree = need_nodes(content, "tree", source)
    reader = _Reader(model_name, framework, Paths(source, need(content, "file_path", str, source)))
    if OURS in content:
        root = need(content[OURS], "layers", dict, source)
        description = description_of(root, framework, need(root, "name", str, source), model_name, source)
        runs = reader.our_runs(tree, need_nodes(content[OURS], "runs", source))
    else:
        description = describe_calls(tree, framework, model_name, source)
        runs = tuple(reader.padiff_run(root) for root in tree)
    return Report(source, content, description, runs, selection_of(content, source))


class _Reader:
    """Turns the nodes of one report into runs."""

    def __init__(self, model_name: str, framework: str, paths: Paths) -> None:
        self._model_name = model_name
        # PaDiff names functional calls as its framework spells them.
        self._names = spellings("torch" if framework == "torch" else "paddle")
        self._paths = paths
        self._source = paths.source

    # -- ours -----------------------------------------------------------------------------------------------------
    def our_runs(self, tree: Sequence[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]]) -> tuple[TapedRun, ...]:
        """Read the runs of a report of ours; each node tells its run, and the numbers of its boundaries."""
        forward: list[dict[int, TapedBoundary]] = [{} for _ in runs]
        backward: list[dict[int, TapedBoundary]] = [{} for _ in runs]
        callers: list[dict[CallKey, CallKey | None]] = [{} for _ in runs]
        for node in self._nodes(tree):
            ours = need(node, OURS, dict, self._source)
            run = need(ours, "run", int, self._source)
            if not 0 <= run < len(runs):
                raise damaged(self._source, f"holds a node of run {run}; it has {len(runs)}")
            key = (self._route(node), need(ours, "call", int, self._source))
            callers[run][key] = self._caller(ours)
            self._add(node, key, forward[run], backward[run])
        return tuple(
            self._run(run, _in_order(forward[number]), _in_order(backward[number]), callers[number])
            for number, run in enumerate(runs)
        )

    def _add(
        self,
        node: Mapping[str, Any],
        key: CallKey,
        forward: dict[int, TapedBoundary],
        backward: dict[int, TapedBoundary],
    ) -> None:
        seqs = need(node[OURS], "seq", dict, self._source)
        for side, (tensors, gradients) in _LISTS.items():
            held = tuple(ref for _, ref in entries(node, tensors, self._paths))
            if side in seqs:
                self._place(forward, need(seqs, side, int, self._source), TapedBoundary(*key, side, held))
            elif held:
                raise damaged(self._source, f"has {tensors} without a number at {node['route']!r}")
            for seq, ref in entries(node, gradients, self._paths):
                if seq is None:
                    raise damaged(self._source, f"has {gradients} without a number at {node['route']!r}")
                self._place(backward, seq, TapedBoundary(*key, side, (ref,)))

    def _place(self, boundaries: dict[int, TapedBoundary], seq: int, boundary: TapedBoundary) -> None:
        if seq in boundaries:
            raise damaged(self._source, f"has two boundaries of number {seq}, at {boundary.route!r}")
        boundaries[seq] = boundary

    def _run(
        self,
        run: Mapping[str, Any],
        forward: tuple[TapedBoundary, ...],
        backward: tuple[TapedBoundary, ...],
        callers: Mapping[CallKey, CallKey | None],
    ) -> TapedRun:
        loss = None if run.get("loss") is None else need(run, "loss", str, self._source)
        gradients, inputs = need(run, "gradients", bool, self._source), need(run, "inputs", bool, self._source)
        lacks: dict[Unrecorded, bool] = {
            "loss": loss is None,
            "input": not (gradients and inputs),
            "output": not gradients,
        }
        places = need(run, "without_gradient", list, self._source)
        try:
            value = None if loss is None else float(loss)
            silent = tuple(map(_silent, places))
        except (TypeError, ValueError) as err:
            raise damaged(self._source, f"holds a broken run: {err}") from err
        ran = need(run, "backward_ran", bool, self._source)
        unrecorded: tuple[Unrecorded, ...] = tuple(what for what, so in lacks.items() if so)
        api_calls = need(run, "api_calls", bool, self._source)
        return TapedRun(forward, backward, callers, value, silent, ran, unrecorded, api_calls)

    def _caller(self, ours: Mapping[str, Any]) -> CallKey | None:
        caller = ours.get("caller")
        if caller is None:
            return None
        if not (isinstance(caller, list) and list(map(type, caller)) == [str, int]):
            raise damaged(self._source, f"holds the caller {caller!r}")
        return caller[0], caller[1]

    # -- PaDiff's ---------------------------------------------------------------------------------------------------
    def padiff_run(self, root: Mapping[str, Any]) -> TapedRun:
        """Read one root of a report of PaDiff's as a run.

        The forward has outputs alone, the backward gradients of inputs, both in a guessed order: PaDiff numbers calls
        as they end ("fwd_step"), and a backward leaves them in the reverse of the order in which they began.
        """
        nodes = list(self._nodes([root]))
        ended = sorted(range(len(nodes)), key=lambda index: self._fwd_step(nodes[index]))
        counts: Counter[str] = Counter()
        calls: dict[int, CallKey] = {}
        routes = self._padiff_routes(root, "")
        for index in ended:
            route = routes[id(nodes[index])][0]
            calls[id(nodes[index])] = (route, counts[route])
            counts[route] += 1
        callers = {
            calls[id(node)]: None if (caller := routes[id(node)][1]) is None else calls[id(caller)] for node in nodes
        }
        forward = tuple(self._padiff_output(nodes[index], calls[id(nodes[index])]) for index in ended)
        backward = tuple(
            TapedBoundary(*calls[id(node)], "input", (ref,))
            for node in reversed(nodes)
            for _, ref in entries(node, "bwd_grads", self._paths)
        )
        unrecorded: tuple[Unrecorded, ...] = ("loss", "output", "parts") if backward else ("loss", "input", "output")
        api_calls = any("/" in route for route, _ in calls.values())
        return TapedRun(forward, backward, callers, None, (), True, unrecorded, api_calls)

    def _padiff_output(self, node: Mapping[str, Any], key: CallKey) -> TapedBoundary:
        return TapedBoundary(*key, "output", tuple(ref for _, ref in entries(node, "fwd_outputs", self._paths)))

    def _padiff_routes(
        self, node: Mapping[str, Any], route_above: str, above: Mapping[str, Any] | None = None
    ) -> dict[int, tuple[str, Mapping[str, Any] | None]]:
        """Return each node's route and the node around it, by the node's identity.

        Functional calls have no route of their own, so they get one below their caller's.
        """
        if need(node, "type", str, self._source) == "api":
            name = need(node, "name", str, self._source)
            route = api_route(route_above, self._names.get(name, name))
        else:
            route = self._route(node)
        found: dict[int, tuple[str, Mapping[str, Any] | None]] = {id(node): (route, above)}
        for child in need_nodes(node, "children", self._source):
            found |= self._padiff_routes(child, route, node)
        return found

    def _fwd_step(self, node: Mapping[str, Any]) -> int:
        return need(need(node, "metas", dict, self._source), "fwd_step", int, self._source)

    # -- both -------------------------------------------------------------------------------------------------------
    def _nodes(self, nodes: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        for node in nodes:
            yield node
            yield from self._nodes(need_nodes(node, "children", self._source))

    def _route(self, node: Mapping[str, Any]) -> str:
        return plain_route(need(node, "route", str, self._source), self._model_name, self._source)


def _in_order(boundaries: Mapping[int, TapedBoundary]) -> tuple[TapedBoundary, ...]:
    return tuple(boundary for _, boundary in sorted(boundaries.items()))


def _silent(place: Sequence[Any]) -> SilentTensor:
    route, call, side, name = place
    if side not in get_args(BoundarySide):
        raise ValueError(f"{side!r} is no side")
    return str(route), int(call), "input" if side == "input" else "output", str(name)
