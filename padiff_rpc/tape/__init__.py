"""Dumps on disk, in PaDiff's format extended: writing them, and RecordedModel, which reads them back as a Model."""

from __future__ import annotations

from padiff_rpc.tape.folders import Dump, DumpPair, walk, walk_one
from padiff_rpc.tape.header import Header
from padiff_rpc.tape.record import record
from padiff_rpc.tape.recorded_model import RecordedModel
from padiff_rpc.tape.write_params import write_grads, write_params, write_weights
from padiff_rpc.tape.write_report import Run, write_report

__all__ = [
    "Dump",
    "DumpPair",
    "Header",
    "RecordedModel",
    "Run",
    "record",
    "walk",
    "walk_one",
    "write_grads",
    "write_params",
    "write_report",
    "write_weights",
]
