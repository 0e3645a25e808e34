"""Convert paddle tensors to spec and bytes, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.backends.paddle.import_paddle import paddle
from padiff_rpc.tensors.tensor import DType, Tensor, TensorSpec

_DenseTensor = getattr(paddle.base.core, "LoDTensor", None) or paddle.base.core.DenseTensor  # renamed on the way to 3.x
_HAS_FLOAT8 = hasattr(paddle, "float8_e4m3fn")  # since 3.0, as are views of one dtype as another that do not crash
_NAMES = {
    DType.BOOL: "bool",
    DType.U8: "uint8",
    DType.I8: "int8",
    DType.I16: "int16",
    DType.I32: "int32",
    DType.I64: "int64",
    DType.BF16: "bfloat16",
    DType.F16: "float16",
    DType.F32: "float32",
    DType.F64: "float64",
    DType.C64: "complex64",
    DType.C128: "complex128",
}
if _HAS_FLOAT8:
    _NAMES |= {DType.F8_E4M3: "float8_e4m3fn", DType.F8_E5M2: "float8_e5m2"}
_INTEGERS = {1: "uint8", 2: "int16", 4: "int32", 8: "int64"}  # complex128 has none
_KNOWN_TO_NUMPY = (DType.F32, DType.F64, DType.I32, DType.I64)
_DTYPES = {f"paddle.{name}": dtype for dtype, name in _NAMES.items()}  # str(): dtypes are enums of other types in 2.6


def spec(tensor: Any) -> TensorSpec:
    """Return a tensor's dtype and shape.

    Raises:
        PadiffError: NOT_SUPPORTED for a tensor that is sparse, holds nothing yet, or is of an exotic dtype.
    """
    if not tensor.is_dense():
        raise _not_supported(f"a tensor that is not dense, of shape {list(tensor.shape)}", "make it dense")
    dtype = _DTYPES.get(str(tensor.dtype))
    if dtype is None:
        raise _not_supported(f"a tensor of {tensor.dtype}", "cast it to one of the plain dtypes")
    return TensorSpec(dtype, tuple(tensor.shape))


def to_bytes(tensor: Any) -> np.ndarray:
    """Return a tensor's bytes as a flat uint8 array, row-major; it shares the memory of a contiguous CPU tensor in paddle 3.

    Raises:
        PadiffError: NOT_SUPPORTED, as in spec().
    """
    header = spec(tensor)
    if header.count == 0:
        return np.empty(0, np.uint8)  # a view of an empty tensor as another dtype raises
    plain = tensor.detach()
    if not plain.place.is_cpu_place():
        plain = plain.cpu()
    if not _HAS_FLOAT8:
        # In 2.6 a view as another dtype may kill the process, and DLPack ignores strides.
        return np.ascontiguousarray(plain.numpy()).reshape(-1).view(np.uint8)
    if header.dtype in _KNOWN_TO_NUMPY and plain.is_contiguous():
        return np.from_dlpack(plain).reshape(-1).view(np.uint8)  # nearly all that is captured, in fewer calls
    # To one dimension first: a 0-d tensor cannot be viewed as another dtype. To integers of the same size, which NumPy
    # knows whatever the dtype: a view of another item size would scale the tensor's offset into its memory (a slice,
    # an LSTM's weights) once more and show other bytes.
    flat = plain.contiguous().reshape([-1])
    same_size = _INTEGERS.get(header.dtype.item_bytes)
    return np.from_dlpack(flat if same_size is None else flat.view(same_size)).view(np.uint8)


def from_tensor(tensor: Tensor, place: Any) -> Any:
    """Make a tensor on a place (a device of paddle's) that has its own copy of the bytes.

    Raises:
        PadiffError: NOT_SUPPORTED for a dtype that this paddle does not have.
    """
    name = _NAMES.get(tensor.spec.dtype)
    if name is None:
        raise PadiffError(
            f"paddle {paddle.__version__} has no tensors of {tensor.spec.dtype.value}, got {tensor.spec}",
            reason=Reason.NOT_SUPPORTED,
            hint=f"it has {', '.join(dtype.value for dtype in _NAMES)}",
        )
    # The bytes of bfloat16 are a uint16 array, which to_tensor() takes for bfloat16. It knows no float8: hence the view.
    made = paddle.to_tensor(tensor.to_array(), place=place)
    return made.view(name) if tensor.spec.dtype in (DType.F8_E4M3, DType.F8_E5M2) else made


def overwrite(target: Any, tensor: Tensor) -> None:
    """Write values into the memory that the target has now; set_value() may move the target to the current device."""
    with paddle.no_grad():
        paddle.assign(from_tensor(tensor, target.place), output=target)


def writable(tensor: Any) -> np.ndarray | None:
    """Return the memory of a contiguous CPU tensor as a flat uint8 array, and count a write to it.

    None for any other tensor, for an empty one, and in paddle 2.6 (see to_bytes).
    """
    if not (_HAS_FLOAT8 and tensor.place.is_cpu_place() and tensor.is_contiguous() and spec(tensor).count):
        return None
    memory = to_bytes(tensor)
    if not memory.flags.writeable or memory.ctypes.data != tensor.data_ptr():
        return None  # a copy
    tensor._bump_inplace_version()
    return memory


def cast(tensor: Any, dtype: str | None) -> Any:
    """Copy a tensor into new memory, outside autograd; floating and complex values are cast where a dtype is given."""
    with paddle.no_grad():
        if not tensor._is_initialized():
            return tensor.detach()  # which clone() refuses: the scratch area of an LSTM
        wanted = None if dtype is None else _cast_to(str(tensor.dtype), dtype)
        if wanted is None or f"paddle.{wanted}" == str(tensor.dtype):
            return tensor.detach().clone()
        return tensor.detach().astype(wanted)


def lend(tensor: Any, source: Any) -> Callable[[], None]:
    """Let a tensor have another's memory and dtype until the returned function is called, as paddle's Layer.to() does."""
    if not tensor._is_initialized():
        return lambda: None
    held, own = _dense(tensor), _DenseTensor()
    own._share_data_with(held)  # not detach(), which shares the whole implementation, to be changed below
    put_gradient_back = _take_gradient(tensor)
    held._share_data_with(_dense(source))

    def put_back() -> None:
        _take_gradient(tensor)
        held._share_data_with(own)
        put_gradient_back()

    return put_back


def dense(gradient: Any) -> Any:
    """Return a gradient as a dense tensor.

    The rows of a sparse gradient (Embedding(sparse=True)) come with repetitions, and are added up.
    """
    if not gradient.is_selected_rows():
        return gradient
    rows = gradient.get_selected_rows()
    values = np.array(rows.get_tensor())
    total = np.zeros((rows.height(), *values.shape[1:]), values.dtype)
    np.add.at(total, np.asarray(rows.rows(), np.int64), values)
    return paddle.to_tensor(total, place=gradient.place)


def _cast_to(dtype: str, wanted: str) -> str | None:
    """Return the dtype that a tensor of `dtype` has once it is cast to the precision `wanted`; None where it is not cast."""
    name = dtype.removeprefix("paddle.")
    if name.startswith("complex"):
        return "complex128" if wanted == "float64" else "complex64"
    return wanted if "float" in name else None


def _dense(tensor: Any) -> Any:
    return tensor.value().get_tensor()


def _take_gradient(tensor: Any) -> Callable[[], None]:
    """Take a leaf's gradient off, and return the function that puts it back."""
    gradient = tensor.grad if tensor.is_leaf and not tensor.stop_gradient else None
    if gradient is None:
        return lambda: None
    rows = gradient.get_selected_rows().rows() if gradient.is_selected_rows() else None
    rows, values = None if rows is None else list(rows), _DenseTensor()
    values._share_data_with(_values(gradient))  # clear_gradient() takes the memory from `gradient`, too
    tensor.clear_gradient(False)  # False: not to zeros

    def put_back() -> None:
        if rows is not None:
            gradient.get_selected_rows().set_rows(rows)
        _values(gradient)._share_data_with(values)
        tensor.grad = gradient

    return put_back


def _values(gradient: Any) -> Any:
    return gradient.get_selected_rows().get_tensor() if gradient.is_selected_rows() else _dense(gradient)


def _not_supported(what: str, hint: str) -> PadiffError:
    return PadiffError(f"cannot read {what}", reason=Reason.NOT_SUPPORTED, hint=hint)
