"""Write report.json: what passed the boundaries of layers, as a tree of calls."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from padiff_rpc.model.model import Boundary, BoundarySide, ModelDescription, Record
from padiff_rpc.model.selection import EVERYTHING, Selection
from padiff_rpc.tape.entries import record_entry
from padiff_rpc.tape.header import Header
from padiff_rpc.tape.json_files import OURS, write_json
from padiff_rpc.tape.layer_tree import layer_tree, shown_route
from padiff_rpc.tape.tensor_files import DumpFolder, Read, RecordFiles

REPORT = "report.json"

CallKey = tuple[str, int]
"""A layer's route, and which of its calls in this run, from 0."""

_NEVER = sys.maxsize
"""When a call begins and ends of which only the backward was kept: after all others."""


@dataclass(frozen=True)
class Run:
    """One forward, and the backward after it, as an observer heard of them.

    Attributes:
        forward: The forward's boundaries, in order.
        backward: The backward's boundaries, in order.
        loss: The loss; None if it is not known.
        without_gradient: Tensors whose gradient never arrived, as BackwardResult has them.
        backward_ran: Whether there was a backward.
        inputs: Whether the inputs of layers were recorded.
        gradients: Whether gradients at boundaries were recorded.
        api_calls: Whether functional calls were recorded.
        stacks: Where in the user's code each call was made, in words.
    """

    forward: Sequence[Boundary]
    backward: Sequence[Boundary] = ()
    loss: float | None = None
    without_gradient: tuple[tuple[str, int, BoundarySide, str], ...] = ()
    backward_ran: bool = True
    inputs: bool = True
    gradients: bool = True
    api_calls: bool = False
    stacks: Mapping[CallKey, str] = field(default_factory=dict)

    @property
    def records(self) -> list[Record]:
        """All records of the forward and the backward."""
        return [record for boundary in (*self.forward, *self.backward) for record in boundary.records]


def write_report(
    folder: str | Path | DumpFolder,
    header: Header,
    description: ModelDescription,
    runs: Sequence[Run],
    read: Read,
    *,
    selection: Selection = EVERYTHING,
    files: RecordFiles | None = None,
) -> None:
    """Write report.json and its tensors into a folder. A report that is there is replaced.

    Args:
        folder: The dump's folder, which is made if it is missing.
        header: Which model it is.
        description: Its layers.
        runs: The runs; each becomes a root in "tree".
        read: Reads the records' tensors.
        selection: Which layers were recorded.
        files: The files of records that were written already; None if none were.
    """
    into = DumpFolder.of(folder)
    into.actual.mkdir(parents=True, exist_ok=True)
    (into.actual / REPORT).unlink(missing_ok=True)
    files = files or RecordFiles(into)
    for run in runs:
        files.take(run.records, read)
    layers = _Layers(description, selection)
    trees = [_CallTree(run, number, header, files, layers).roots() for number, run in enumerate(runs)]
    content = {
        **header.top(into.shown_file(REPORT)),
        "layer_map": header.layer_map_json(description),
        "tree": [root for roots in trees for root in roots],
        OURS: {
            **header.ours(selection),
            "layers": layer_tree(description, header.model_name, selection, lambda layer, node: None),
            "runs": [_run_json(run) for run in runs],
        },
    }
    write_json(into.actual / REPORT, content)


class _Layers:
    """Names and numbers of layers.

    PaDiff pairs the children of two sides by the number, so layers that are left out have none (-1).
    """

    def __init__(self, description: ModelDescription, selection: Selection) -> None:
        kept = [layer.route for layer in description.layers if selection.keeps(layer.route)]
        self._numbers = {route: number for number, route in enumerate(kept)}
        self._class_names = {layer.route: layer.class_name for layer in description.layers}

    def number(self, route: str) -> int:
        return self._numbers.get(route, -1)

    def is_call(self, route: str) -> bool:
        """Tell a functional call, `layer/relu`, from a layer, whose own name may hold a slash."""
        return route not in self._class_names

    def name(self, route: str) -> str:
        return self._class_names.get(route) or route.rpartition("/")[2]


def _run_json(run: Run) -> dict[str, Any]:
    loss = None if run.loss is None else repr(float(run.loss))  # a word, for JSON has no NaN
    return {
        "loss": loss,
        "without_gradient": [list(place) for place in run.without_gradient],
        "backward_ran": run.backward_ran,
        "inputs": run.inputs,
        "gradients": run.gradients,
        "api_calls": run.api_calls,
    }


@dataclass
class _RecordedCall:
    """All boundaries of one layer call."""

    key: CallKey
    caller: CallKey | None
    sides: dict[BoundarySide, Boundary] = field(default_factory=dict)
    gradients: list[Boundary] = field(default_factory=list)
    children: list[_RecordedCall] = field(default_factory=list)

    @property
    def begun(self) -> int:
        return min((boundary.seq for boundary in self.sides.values()), default=_NEVER)

    @property
    def ended(self) -> int:
        return max((boundary.seq for boundary in self.sides.values()), default=_NEVER)


class _CallTree:
    """The calls of one run, as nodes of the report."""

    def __init__(self, run: Run, number: int, header: Header, files: RecordFiles, layers: _Layers) -> None:
        self._run = run
        self._number = number
        self._header = header
        self._files = files
        self._layers = layers
        self._calls: dict[CallKey, _RecordedCall] = {}
        for boundary in run.forward:
            self._call(boundary).sides[boundary.side] = boundary
        for boundary in run.backward:
            self._call(boundary).gradients.append(boundary)
        self._steps = {
            call.key: step for step, call in enumerate(sorted(self._calls.values(), key=lambda call: call.ended))
        }

    def roots(self) -> list[dict[str, Any]]:
        tops: list[_RecordedCall] = []
        for call in sorted(self._calls.values(), key=lambda call: call.begun):
            caller = None if call.caller is None else self._calls.get(call.caller)
            (tops if caller is None else caller.children).append(call)
        return [self._node(call) for call in tops]

    def _call(self, boundary: Boundary) -> _RecordedCall:
        key = (boundary.route, boundary.call)
        return self._calls.setdefault(key, _RecordedCall(key, boundary.caller))

    def _node(self, call: _RecordedCall) -> dict[str, Any]:
        route, number = call.key
        mapped = route in self._header.layer_map
        step = self._steps[call.key]
        return {
            "name": self._layers.name(route),
            "route": shown_route(self._header.model_name, route),
            "type": "api" if self._layers.is_call(route) else "in map" if mapped else "net",
            "fwd_outputs": self._entries(call, "output"),
            "bwd_grads": self._gradients(call, "input"),
            "metas": {"fwd_step": 2 * step, "bwd_step": 2 * step + 1, "net_id": self._layers.number(route)},
            "fwd_inputs": self._entries(call, "input"),
            "bwd_output_grads": self._gradients(call, "output"),
            OURS: {
                "run": self._number,
                "call": number,
                "caller": None if call.caller is None else list(call.caller),
                "seq": {side: boundary.seq for side, boundary in call.sides.items()},
            },
            "children": [self._node(child) for child in call.children],
            "stack": self._run.stacks.get(call.key, ""),
        }

    def _entries(self, call: _RecordedCall, side: BoundarySide) -> list[dict[str, Any]]:
        boundary = call.sides.get(side)
        return [self._entry(record) for record in boundary.records] if boundary else []

    def _gradients(self, call: _RecordedCall, side: BoundarySide) -> list[dict[str, Any]]:
        """Return gradients in the order of the tensors that they belong to; their numbers tell how they came."""
        forward = call.sides.get(side)
        order = {record.name: index for index, record in enumerate(forward.records)} if forward else {}
        arrived = [
            (record, boundary.seq)
            for boundary in call.gradients
            if boundary.side == side
            for record in boundary.records
        ]
        arrived.sort(key=lambda pair: (order.get(pair[0].name, len(order)), pair[1]))
        return [self._entry(record, seq) for record, seq in arrived]

    def _entry(self, record: Record, seq: int | None = None) -> dict[str, Any]:
        path = self._files.path(record)
        return record_entry(record, path, self._header.framework, self._header.device, seq)
