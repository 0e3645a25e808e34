"""Feed arrays to the comparison as a model would: streams and digests, cut as a test wants them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from padiff_rpc.compare.judge import compare_digests, compare_streams
from padiff_rpc.compare.rules import CompareRules
from padiff_rpc.compare.standard import Standard
from padiff_rpc.result import Metrics, Stage, Verdict
from padiff_rpc.tensors.digest import digest
from padiff_rpc.tensors.tensor import Digest, DType, Tensor, TensorStream


def tensor(values: object, dtype: DType | None = None) -> Tensor:
    return Tensor.from_array(np.asarray(values), dtype)


def bfloat16(values: np.ndarray) -> Tensor:
    """Round float32 values to bfloat16, half to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return Tensor.from_array(rounded.astype(np.uint16), DType.BF16)


def cut(whole: Tensor, chunk_bytes: int, name: str = "x") -> TensorStream:
    """Stream a tensor in chunks of any size."""

    def chunks() -> Iterator[memoryview]:
        view = whole.data.cast("B")
        for at in range(0, view.nbytes, chunk_bytes):
            yield view[at : at + chunk_bytes]

    return TensorStream(name, whole.spec, chunks())


def digest_of(whole: Tensor) -> Digest:
    return digest(np.frombuffer(whole.data, np.uint8), whole.spec)


def by_digests(
    base: Tensor,
    raw: Tensor,
    rules: CompareRules | None = None,
    stage: Stage = "forward",
    single_step: bool = False,
    noise_scale: float = 0.0,
) -> Verdict | None:
    standard = Standard(rules or CompareRules(), stage, single_step, noise_scale)
    return compare_digests(base.spec, digest_of(base), raw.spec, digest_of(raw), standard)


def by_streams(
    base: Tensor,
    raw: Tensor,
    rules: CompareRules | None = None,
    stage: Stage = "forward",
    single_step: bool = False,
    noise_scale: float = 0.0,
    chunk_bytes: tuple[int, int] = (1 << 20, 1 << 20),
) -> Verdict:
    return compare_streams(
        cut(base, chunk_bytes[0]),
        cut(raw, chunk_bytes[1]),
        digest_of(base),
        digest_of(raw),
        Standard(rules or CompareRules(), stage, single_step, noise_scale),
    )


def compared(base: Tensor, raw: Tensor, rules: CompareRules | None = None, stage: Stage = "forward") -> Verdict:
    """Judge as an alignment does: by the digests, then by the streams where those leave it open."""
    return by_digests(base, raw, rules, stage) or by_streams(base, raw, rules, stage)


def metrics_of(verdict: Verdict) -> Metrics:
    assert verdict.metrics is not None
    return verdict.metrics
