"""Align PyTorch and PaddlePaddle models that live in separate processes, environments or hosts.

The names below are loaded on first use (PEP 562), so that a worker, or a script that needs one of them, loads no more than that.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from padiff_rpc.version import __version__ as __version__

if TYPE_CHECKING:
    from padiff_rpc.align.align import align
    from padiff_rpc.align.settings import AlignSettings
    from padiff_rpc.compare.rules import CompareRules
    from padiff_rpc.errors import PadiffError, Reason
    from padiff_rpc.interface.auto_diff import assign_weight, auto_diff
    from padiff_rpc.interface.check_dumps import check_grads, check_params, check_report, check_weights
    from padiff_rpc.interface.dataloader import check_dataloader
    from padiff_rpc.interface.places import get_dump_root_path, set_dump_root_path
    from padiff_rpc.interface.proxy import ProxyModel, create_model
    from padiff_rpc.match.special_init import add_special_init
    from padiff_rpc.model.inputs_from_arrays import as_inputs
    from padiff_rpc.model.losses_and_optimizers import parse_loss, parse_optimizer
    from padiff_rpc.model.selection import Selection
    from padiff_rpc.remote.connect import connect
    from padiff_rpc.remote.launch import launch
    from padiff_rpc.result import Result
    from padiff_rpc.sequential import align_sequentially
    from padiff_rpc.tape.recorded_model import RecordedModel
    from padiff_rpc.tape.write_tape import record

__all__ = [
    "AlignSettings",
    "CompareRules",
    "PadiffError",
    "ProxyModel",
    "Reason",
    "RecordedModel",
    "Result",
    "Selection",
    "add_special_init",
    "align",
    "align_sequentially",
    "as_inputs",
    "assign_weight",
    "auto_diff",
    "check_dataloader",
    "check_grads",
    "check_params",
    "check_report",
    "check_weights",
    "connect",
    "create_model",
    "get_dump_root_path",
    "launch",
    "parse_loss",
    "parse_optimizer",
    "record",
    "set_dump_root_path",
]

_MODULES = {
    "AlignSettings": "align.settings",
    "CompareRules": "compare.rules",
    "PadiffError": "errors",
    "ProxyModel": "interface.proxy",
    "Reason": "errors",
    "RecordedModel": "tape.recorded_model",
    "Result": "result",
    "Selection": "model.selection",
    "add_special_init": "match.special_init",
    "align": "align.align",
    "align_sequentially": "sequential",
    "as_inputs": "model.inputs_from_arrays",
    "assign_weight": "interface.auto_diff",
    "auto_diff": "interface.auto_diff",
    "check_dataloader": "interface.dataloader",
    "check_grads": "interface.check_dumps",
    "check_params": "interface.check_dumps",
    "check_report": "interface.check_dumps",
    "check_weights": "interface.check_dumps",
    "connect": "remote.connect",
    "create_model": "interface.proxy",
    "get_dump_root_path": "interface.places",
    "launch": "remote.launch",
    "parse_loss": "model.losses_and_optimizers",
    "parse_optimizer": "model.losses_and_optimizers",
    "record": "tape.write_tape",
    "set_dump_root_path": "interface.places",
}
"""Public name -> the module below this package that defines it."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """This package, whose `align` is the function.

    Importing anything below the package `padiff_rpc.align` makes the import system set that package as an attribute here;
    whoever asked for the function after that would get the package.
    """

    @property
    def align(self) -> Any:
        return self.__dict__.get("align") or __getattr__("align")

    @align.setter
    def align(self, value: Any) -> None:
        if not isinstance(value, ModuleType):
            self.__dict__["align"] = value


sys.modules[__name__].__class__ = _Package
