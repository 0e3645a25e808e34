"""Replay one layer on both sides, raw on base's inputs and weights, and read what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.explain.layer_in_step import LayerInStep, weights_for_raw
from padiff_rpc.match.pair_records import are_of_one_kind, pair_records
from padiff_rpc.model.model import Boundary, Record
from padiff_rpc.model.replaying import ReplayDtype, ReplayRequest, ReplayResult
from padiff_rpc.per_side import PerSide, SideName
from padiff_rpc.tensors.tensor import Tensor, collect_all

_MISFITS = (Reason.UNKNOWN_NAME, Reason.BAD_TENSOR)
_NO_REPLAY = (
    *_MISFITS,
    Reason.BAD_INPUTS,
    Reason.MODEL_FAILED,
    Reason.NOT_SUPPORTED,
    Reason.STORE_FULL,
    Reason.VERSION_MISMATCH,
)


class CannotJudge(Exception):
    """The replays cannot be made, or cannot be compared; the text says why.

    Attributes:
        reason: The reason of the error that a side raised; None where there was none.
    """

    def __init__(self, why: str, reason: Reason | None = None) -> None:
        super().__init__(why)
        self.reason = reason


@dataclass(frozen=True)
class Replayed:
    """One side's replay, with the tensors of its records, which are released already."""

    result: ReplayResult
    tensors: Mapping[int, Tensor]

    @property
    def inputs(self) -> Boundary:
        """What the layer took."""
        return self.result.at("forward", "input")

    @property
    def outputs(self) -> Boundary:
        """What it returned."""
        return self.result.at("forward", "output")

    @property
    def input_gradients(self) -> dict[str, Tensor]:
        """The gradients of its inputs, by the inputs' names."""
        return self.named(self.result.at("backward", "input").records)

    @property
    def parameter_gradients(self) -> dict[str, Tensor]:
        """The gradients of its parameters, by the first of their names."""
        return self.named(self.result.parameters)

    def named(self, records: Sequence[Record]) -> dict[str, Tensor]:
        """Return the tensors of these records by name."""
        return {record.name: self.tensors[record.id] for record in records}

    def outputs_inside(self, route: str) -> list[Boundary]:
        """Return what a layer inside returned, call by call."""
        return [
            each
            for each in self.result.boundaries
            if (each.phase, each.route, each.side) == ("forward", route, "output") and route != self.result.route
        ]


class Replays:
    """Replay one layer call in this dtype and that. Raw takes what base took, and has base's weights, every time.

    Attributes:
        without_backward: Why no backward is run, though it was asked for; "" where there is no such reason.
    """

    def __init__(self, layer: LayerInStep, seed: int = 0) -> None:
        self.without_backward: str = ""
        self._layer = layer
        self._seed = seed
        self._backward = layer.backward
        self._given: dict[str, Tensor] = {}
        self._outputs: PerSide[tuple[str, ...]] = PerSide((), ())

    def exact(self) -> PerSide[Replayed]:
        """Replay both sides in float64, from one projection of the outputs that both have.

        A side may run forward alone (paddle's RNNs in evaluation); then both do, and `without_backward` says why.

        Raises:
            CannotJudge: A side cannot be replayed, or an input of base's does not fit raw's.
        """
        try:
            return self._exact()
        except CannotJudge as err:
            if err.reason is not Reason.MODEL_FAILED or not self._backward:
                raise
            self._backward, self.without_backward = False, str(err)
            return self._exact()

    def _exact(self) -> PerSide[Replayed]:
        self._given, self._outputs = {}, PerSide((), ())
        base = self._run("base", "float64")
        self._given = base.named(base.inputs.records)
        try:
            raw = self._run("raw", "float64")
        except CannotJudge as err:
            if err.reason not in _MISFITS:
                raise
            self._given = self._given_by_likeness(base)
            raw = self._run("raw", "float64")
        pairs = [(one, other) for one, other in pair_records(base.outputs, raw.outputs) if one and other]
        floats = [(one.name, other.name) for one, other in pairs if one.spec.dtype.is_floating]
        common = PerSide(tuple(one for one, _ in floats), tuple(other for _, other in floats))
        if floats and (common.base != _floating(base.outputs) or common.raw != _floating(raw.outputs)):
            self._outputs = common  # one side has more, or another order, and so another projection
            return PerSide(self._run("base", "float64"), self._run("raw", "float64"))
        return PerSide(base, raw)

    def own(self) -> PerSide[Replayed]:
        """Replay both sides in their own dtypes, on the same inputs as in float64."""
        return PerSide(self._run("base", None), self._run("raw", None))

    @cached_property
    def _weights(self) -> dict[str, Tensor]:
        return weights_for_raw(self._layer)

    def _given_by_likeness(self, base: Replayed) -> dict[str, Tensor]:
        """Return base's inputs by the names of raw's that they correspond to; raw keeps those that base's do not fit.

        Raises:
            CannotJudge: A floating input has another shape in raw.
        """
        self._given = {}
        raw = self._run("raw", "float64")  # on what reaches it, to see what it takes
        given: dict[str, Tensor] = {}
        for one, other in pair_records(base.inputs, raw.inputs):
            if one is None or other is None:
                continue
            if are_of_one_kind(one, other) and one.spec.shape == other.spec.shape:
                given[other.name] = base.tensors[one.id]
            elif one.spec.dtype.is_floating and other.spec.dtype.is_floating:
                raise CannotJudge(
                    f"its input {one.name} is {_shape(one)} in base, and {other.name} {_shape(other)} in raw"
                )
        return given

    def _run(self, side: SideName, dtype: ReplayDtype | None) -> Replayed:
        layer, model = self._layer, self._layer.models.of(side)
        request = ReplayRequest(
            forward=replace(layer.forwards.of(side), record=None),
            route=layer.routes.of(side),
            call=layer.call,
            dtype=dtype,
            inputs=self._given if side == "raw" else {},
            parameters=self._weights if side == "raw" else {},
            seed=self._seed,
            outputs=self._outputs.of(side),
            backward=self._backward,
            inner=tuple(each.of(side) for each in layer.inner),
        )
        try:
            result = model.replay(request)
        except PadiffError as err:
            if err.reason not in _NO_REPLAY:
                raise
            raise CannotJudge(f"{side} cannot replay it: {err.message}", err.reason) from err
        ids = result.record_ids()
        try:
            found = collect_all(model.read_activations(ids))
            return Replayed(result, {identifier: found[str(identifier)] for identifier in ids})
        finally:
            model.release_activations(ids)


def _floating(boundary: Boundary) -> tuple[str, ...]:
    return tuple(record.name for record in boundary.records if record.spec.dtype.is_floating and record.spec.count)


def _shape(record: Record) -> str:
    return str(list(record.spec.shape))
