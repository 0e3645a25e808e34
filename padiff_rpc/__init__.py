"""Align PyTorch and PaddlePaddle models that live in separate processes, environments or hosts."""

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.api import assign_weight, auto_diff
from padiff_rpc.compare.rules import CompareRules
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.remote.connect import connect
from padiff_rpc.remote.launch import launch
from padiff_rpc.result import Result

__all__ = [
    "AlignSettings",
    "CompareRules",
    "PadiffError",
    "Reason",
    "Result",
    "align",
    "assign_weight",
    "auto_diff",
    "connect",
    "launch",
]
