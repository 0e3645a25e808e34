"""A tensor of 3 GiB, beyond every 31-bit size, as a parameter and as an activation, to a worker and back."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import xxhash

from benchmarks.cases import FRAMEWORKS, Framework, tensor_case
from benchmarks.figures import Figure, Tell
from benchmarks.processes import worker
from padiff_rpc.model.model import ForwardRequest, RecordOptions
from padiff_rpc.remote.connect import connect
from padiff_rpc.remote.remote_model import RemoteModel
from padiff_rpc.tensors.tensor import Tensor, TensorStream

MIB = 3 << 10


def measure_huge(rounds: int, tell: Tell, mib: int = MIB) -> list[Figure]:
    """Once per framework, whatever the rounds; a hash of what came back tells whether it is what was sent."""
    sent = Tensor.from_array(np.random.default_rng(0).random((mib * 256, 1024), np.float32))
    wanted = xxhash.xxh3_128_digest(sent.data)
    figures = []
    for framework in FRAMEWORKS:
        with worker(tensor_case(mib, zeros=True), framework) as process, connect(process.address) as model:
            figures += [
                _parameter(model, framework, sent, wanted),
                _activation(model, framework, sent, wanted),
            ]
        tell(f"huge: {framework} done")
    return figures


def _parameter(model: RemoteModel, framework: Framework, sent: Tensor, wanted: bytes) -> Figure:
    name = model.describe().parameters[0].name
    begun = time.monotonic()
    model.write_parameters([sent.stream(name)])
    there = time.monotonic()
    got = _hash_of(model.read_parameters([name]))
    return _figure(framework, "parameter", sent, got == wanted, there - begun, time.monotonic() - there)


def _activation(model: RemoteModel, framework: Framework, sent: Tensor, wanted: bytes) -> Figure:
    """Send it as an input; what the model makes of it, itself, is recorded as its output."""
    options = RecordOptions(inputs=False, gradients=False)
    begun = time.monotonic()
    result = model.forward(ForwardRequest({"x": sent}, gradients=False, record=options))
    there = time.monotonic()
    got = _hash_of(model.read_activations([result.outputs[0].id]))
    model.release_activations([result.outputs[0].id])
    return _figure(framework, "activation", sent, got == wanted, there - begun, time.monotonic() - there)


def _hash_of(streams: Iterator[TensorStream]) -> bytes:
    digest = xxhash.xxh3_128()
    for chunk in next(streams).chunks:
        digest.update(chunk)
    return digest.digest()


def _figure(framework: Framework, what: str, sent: Tensor, same: bool, there_s: float, back_s: float) -> Figure:
    giga = sent.spec.size_bytes / 1e9
    note = f"{giga:.3g} GB: there at {giga / there_s:.2f} GB/s, back at {giga / back_s:.2f} GB/s"
    name = f"{framework} {what}, there and back"
    return Figure("huge tensor", sent.spec.dtype.value, name, float(same), "bit-exact", at_least=1.0, note=note)
