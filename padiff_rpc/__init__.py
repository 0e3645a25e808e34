"""Align PyTorch and PaddlePaddle models that live in separate processes, environments or hosts."""

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
from padiff_rpc.model.selection import Selection
from padiff_rpc.remote.connect import connect
from padiff_rpc.remote.launch import launch
from padiff_rpc.result import Result
from padiff_rpc.sequential import align_sequentially
from padiff_rpc.tape.recorded_model import RecordedModel

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
    "set_dump_root_path",
]
