"""One model, wherever it lives: the Model seam, and HostedModel for a model in this very process."""

from __future__ import annotations

from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.model import ForwardRequest, LossSpec, Model, Observer, OptimizerSpec, RecordOptions
from padiff_rpc.model.spec import ModelSpec, parse_spec

__all__ = [
    "ForwardRequest",
    "HostedModel",
    "LossSpec",
    "Model",
    "ModelSpec",
    "Observer",
    "OptimizerSpec",
    "RecordOptions",
    "parse_spec",
]
