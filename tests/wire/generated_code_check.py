"""Run by test_generated_code.py under old and new runtimes: all messages round trip, and a launched worker does a step."""

from __future__ import annotations

import json
import sys
from typing import Any

import google.protobuf
import grpc
import numpy as np

from padiff_rpc.errors import PadiffError
from padiff_rpc.model.model import ForwardRequest, LossSpec, RecordOptions
from padiff_rpc.remote.launch import launch
from padiff_rpc.tensors.tensor import Tensor, collect_all
from padiff_rpc.v1 import model_pb2, tensor_pb2, worker_service_pb2


def main() -> None:
    """Print, as JSON, what was found; argv: the SPEC of the numpy mlp."""
    messages = [
        getattr(module, name)
        for module in (tensor_pb2, model_pb2, worker_service_pb2)
        for name in module.DESCRIPTOR.message_types_by_name
    ]
    for message in messages:
        filled = fill(message())
        assert filled == message.FromString(filled.SerializeToString()), message
    found = {"messages": len(messages), "protobuf": google.protobuf.__version__, "grpc": grpc.__version__}
    sys.stdout.write(json.dumps({**found, **run_step(sys.argv[1])}))


def run_step(spec: str, **options: Any) -> dict[str, Any]:
    """Launch a worker and run a synced step: its loss, boundaries and gradients, and how it refuses bad inputs."""

    class Observer:
        boundaries = 0

        def observe(self, boundary: Any) -> None:
            self.boundaries += 1

        def substitute(self, boundary: Any) -> dict[str, Tensor]:
            return {}

    observer = Observer()
    x = Tensor.from_array(np.ones((4, 8), np.float32))
    with launch(spec, **options) as model:
        names = [info.name for info in model.describe().parameters]
        held = collect_all(model.read_parameters(names))
        model.write_parameters(tensor.stream(name) for name, tensor in held.items())
        model.forward(ForwardRequest({"x": x}, record=RecordOptions(sync=True)), observer)
        loss = model.backward(LossSpec("mean"), observer).loss
        gradients = len(collect_all(model.read_parameters(names, "gradient")))
        try:
            model.forward(ForwardRequest({"y": x}))
            refusal = ""
        except PadiffError as err:
            refusal = err.reason.value
    return {"loss": loss, "boundaries": observer.boundaries, "gradients": gradients, "refusal": refusal}


def fill(message: Any) -> Any:
    """Set every field to something that is not its default."""
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.type == field.TYPE_MESSAGE and field.message_type.GetOptions().map_entry:
            is_number = field.message_type.fields_by_name["value"].type == field.TYPE_DOUBLE
            value["key"] = 0.5 if is_number else "value"
        elif field.type == field.TYPE_MESSAGE:
            fill(value.add() if hasattr(value, "add") else value)
        else:
            scalar = {field.TYPE_STRING: "ü", field.TYPE_BYTES: b"\x00\xff", field.TYPE_DOUBLE: 0.5}.get(field.type, 1)
            if hasattr(value, "append"):
                value.append(scalar)
            else:
                setattr(message, field.name, scalar)
    return message


if __name__ == "__main__":
    main()
