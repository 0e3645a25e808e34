"""Convert torch tensors to spec and bytes, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.tensors.tensor import DType, Tensor, TensorSpec

_TO_TORCH: dict[DType, Any] = {
    DType.BOOL: torch.bool,
    DType.U8: torch.uint8,
    DType.I8: torch.int8,
    DType.U16: torch.uint16,
    DType.I16: torch.int16,
    DType.U32: torch.uint32,
    DType.I32: torch.int32,
    DType.U64: torch.uint64,
    DType.I64: torch.int64,
    DType.F8_E4M3: torch.float8_e4m3fn,
    DType.F8_E5M2: torch.float8_e5m2,
    DType.BF16: torch.bfloat16,
    DType.F16: torch.float16,
    DType.F32: torch.float32,
    DType.F64: torch.float64,
    DType.C64: torch.complex64,
    DType.C128: torch.complex128,
}
_FROM_TORCH = {native: dtype for dtype, native in _TO_TORCH.items()}


def spec(tensor: Any) -> TensorSpec:
    """Return a tensor's dtype and shape.

    Raises:
        PadiffError: NOT_SUPPORTED for a tensor that is sparse, quantised, nested, lazy or of an exotic dtype.
    """
    if torch.nn.parameter.is_lazy(tensor):
        raise _not_supported("a lazy parameter that has no shape yet", "run one forward before the model is hosted")
    if tensor.is_nested:
        raise _not_supported(f"a nested tensor ({tensor.layout})", "pad it to a dense tensor")
    if tensor.layout is not torch.strided:
        raise _not_supported(
            f"a sparse tensor ({tensor.layout}) of shape {tuple(tensor.shape)}",
            "make it dense with to_dense(); an Embedding needs sparse=False",
        )
    if tensor.dtype not in _FROM_TORCH:
        raise _not_supported(f"a tensor of {tensor.dtype}", "cast it to one of the plain dtypes")
    return TensorSpec(_FROM_TORCH[tensor.dtype], tuple(tensor.shape))


def to_bytes(tensor: Any) -> np.ndarray:
    """Return a tensor's bytes as a flat uint8 array, row-major; it shares the memory of a contiguous CPU tensor.

    Raises:
        PadiffError: NOT_SUPPORTED as in spec(), and for a tensor on the meta device.
    """
    spec(tensor)
    if tensor.is_meta:
        raise _not_supported(f"a tensor on the meta device, of shape {tuple(tensor.shape)}", "it holds no values")
    if _lies_plainly(tensor):
        return _memory(tensor)
    return _memory(tensor.detach().resolve_conj().resolve_neg().cpu().contiguous())


def from_tensor(tensor: Tensor) -> Any:
    """Make a CPU tensor that has its own copy of the bytes."""
    made = torch.empty(tensor.spec.shape, dtype=_TO_TORCH[tensor.spec.dtype])
    # Through NumPy, because frombuffer warns of read-only buffers, refuses empty ones, and would share the memory.
    made.reshape(-1).view(torch.uint8).numpy()[:] = np.frombuffer(tensor.data, dtype=np.uint8)
    return made


def writable(tensor: Any) -> np.ndarray | None:
    """Return the memory of a contiguous CPU tensor as a flat uint8 array, and count a write to it; None for any other tensor."""
    if not _lies_plainly(tensor) or tensor.is_inference():
        return None
    torch.autograd.graph.increment_version(tensor)
    return _memory(tensor)


def _memory(tensor: Any) -> np.ndarray:
    """View the memory of a contiguous CPU tensor as a flat uint8 array."""
    row = tensor.detach().reshape(-1)
    if row.numel() < 2:  # its stride may be 0 (backward of sum()), of which there is no view as bytes
        row = row.as_strided(row.shape, (1,))
    return row.view(torch.uint8).numpy()


def _lies_plainly(tensor: Any) -> bool:
    """Return True where the tensor's memory is its elements, row-major, in this host's memory."""
    return tensor.device.type == "cpu" and tensor.is_contiguous() and not (tensor.is_conj() or tensor.is_neg())


def _not_supported(what: str, hint: str) -> PadiffError:
    return PadiffError(f"cannot read {what}", reason=Reason.NOT_SUPPORTED, hint=hint)
