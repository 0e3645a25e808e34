"""The folder of one step and rank: its JSON files, each read when it is first needed."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import ModelDescription, ModelInfo
from padiff_rpc.model.selection import Selection
from padiff_rpc.tape.entries import TensorRef
from padiff_rpc.tape.header import info_from_json, layer_map_of
from padiff_rpc.tape.json_files import OURS, need, read_json
from padiff_rpc.tape.parameter_file import ParameterFile, read_parameter_file
from padiff_rpc.tape.read_report import Report, read_report
from padiff_rpc.tape.texts import device_from_text
from padiff_rpc.tape.write_params import GRADS, PARAMS, WEIGHTS
from padiff_rpc.tape.write_report import REPORT

_PARTS = ("report", "params", "weights", "grads")


class StepFolder:
    """The dump of one step and rank.

    Its properties raise DATA_LOSS, naming it, for a file that is missing or damaged.

    Args:
        path: The folder.
        only: Name of the one file of parameters to look at, which takes the place of params.json; None looks at all.
    """

    def __init__(self, path: Path, only: str | None) -> None:
        self.path = path
        self._only = only

    @cached_property
    def report(self) -> Report:
        """report.json: what passed the layers' boundaries. DATA_LOSS if there is none."""
        return read_report(self.path / REPORT)

    @cached_property
    def params(self) -> ParameterFile | None:
        """params.json: what the model held when it was dumped; None if there is none."""
        return read_parameter_file(self.path / self._only) if self._only else self._optional(PARAMS)

    @cached_property
    def weights(self) -> ParameterFile | None:
        """weights.json: what the model held after the step; None if there is none."""
        return None if self._only else self._optional(WEIGHTS)

    @cached_property
    def grads(self) -> ParameterFile | None:
        """grads.json: the gradients of the parameters; None if there is none."""
        return None if self._only else self._optional(GRADS)

    @property
    def description(self) -> ModelDescription:
        """The model as params.json describes it; without that, as far as report.json does."""
        if self.params is None:
            return replace(self.report.description, unrecorded="tensors")
        return self.params.description

    @property
    def selection(self) -> Selection:
        """Which layers were left out of the dump, and why."""
        return self.report.selection if self.params is None else self.params.selection

    @property
    def layer_map(self) -> tuple[str, ...]:
        """Routes of the layers that were mapped by hand, in order.

        PaDiff tells them in report.json alone; without it there are none.
        """
        source = self.path / REPORT
        if self.params is None or (OURS not in self.params.content and source.exists()):
            return layer_map_of(read_json(source), source)
        return layer_map_of(self.params.content, self.params.source)

    @property
    def model_name(self) -> str:
        """The model's name, as it was dumped."""
        held = self.report if self.params is None else self.params
        return need(held.content, "model_name", str, held.source)

    @property
    def info(self) -> ModelInfo:
        """Where the model ran. PaDiff's dumps tell the framework, and the device of their tensors."""
        source = self.path / REPORT
        content = self.report.content if self.params is None or source.exists() else self.params.content
        ours = content.get(OURS)
        if ours is not None and ours.get("info") is not None:
            return info_from_json(need(ours, "info", dict, source), source)
        tree = need(content, "tree", object, source)
        outputs = tree[0].get("fwd_outputs") if isinstance(tree, list) and tree else None
        device = device_from_text(str(outputs[0].get("place", ""))) if outputs else ""
        framework = need(content, "framework", str, source)
        return ModelInfo(framework, "", device, "", {}, "", "", 0, recorded=True)

    def value(self, name: str, after: bool) -> TensorRef:
        """Return a parameter or buffer.

        Args:
            name: Its first name.
            after: Whether its value after the step is wanted, if that was dumped; otherwise it is params.json's.

        Raises:
            PadiffError: NOT_SUPPORTED if the dump does not hold the value, DATA_LOSS if it should and does not.
        """
        held = self.weights if after and self.weights is not None else self.params
        ref = None if held is None else held.find(name, "value")
        if ref is None:
            raise PadiffError(
                f"the dump {str(self.path)!r} holds no values of parameters",
                reason=Reason.NOT_SUPPORTED,
                hint="dump the parameters too (params.json)",
            )
        return ref

    def gradient(self, name: str) -> TensorRef | None:
        """Return the gradient of a parameter, by its first name; None if there is none."""
        held = self.params if self.grads is None else self.grads
        return None if held is None else held.find(name, "gradient")

    def forget(self) -> None:
        """Let go of what was read; it is read again when it is needed."""
        for part in _PARTS:
            self.__dict__.pop(part, None)

    def _optional(self, name: str) -> ParameterFile | None:
        return read_parameter_file(self.path / name) if (self.path / name).exists() else None
