"""Checkpoints hold each tensor's bytes, dtype and shape as the frameworks read them, and appear whole or not at all."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from padiff_rpc.checkpoint import pickle_code as code
from padiff_rpc.checkpoint.write_checkpoint import check_format, written
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.tensors.tensor import DType, Tensor, TensorSpec, TensorStream

TENSORS = {
    "a.weight": Tensor.from_array(np.arange(12, dtype=np.float32).reshape(3, 4)),
    "é.bias": Tensor.from_array(np.arange(5, dtype=np.float16)),
    "steps": Tensor.from_array(np.array(2**40, np.int64)),
    "mask": Tensor.from_array(np.array([True, False])),
    "half": Tensor.from_array(np.arange(6, dtype=np.uint16).reshape(1, 2, 3), DType.BF16),
    "empty": Tensor.from_array(np.zeros((0, 3), np.float64)),
    "big": Tensor.from_array(np.arange(600_000, dtype=np.int32).reshape(300, 2000)),
}
METADATA = {"format": "pt", "verified": "true"}
SUFFIXES = (".safetensors", ".pdparams", ".pt")


def write(path: Path, tensors: dict[str, Tensor] = TENSORS) -> None:
    specs = {name: tensor.spec for name, tensor in tensors.items()}
    with written(path, specs, (tensor.stream(name) for name, tensor in tensors.items()), METADATA):
        assert not path.exists()


def test_safetensors_hold_a_header_metadata_and_the_bytes_in_order(tmp_path: Path) -> None:
    write(tmp_path / "m.safetensors")

    data = (tmp_path / "m.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    assert size % 8 == 0
    assert header.pop("__metadata__") == METADATA
    assert list(header) == list(TENSORS)
    end = 0
    for name, tensor in TENSORS.items():
        told = header[name]
        assert (told["dtype"], tuple(told["shape"])) == (tensor.spec.dtype.value, tensor.spec.shape)
        assert told["data_offsets"][0] == end
        end = told["data_offsets"][1]
        assert body[slice(*told["data_offsets"])] == bytes(tensor.data)
    assert end == len(body)


def test_pdparams_are_a_pickle_of_arrays(tmp_path: Path) -> None:
    write(tmp_path / "m.pdparams")

    arrays = pickle.loads((tmp_path / "m.pdparams").read_bytes(), encoding="latin1")  # as paddle.load does it
    assert list(arrays) == list(TENSORS)
    for name, tensor in TENSORS.items():
        expected = tensor.to_array()
        assert (arrays[name].dtype, arrays[name].shape) == (expected.dtype, expected.shape)
        assert arrays[name].flags.c_contiguous
        np.testing.assert_array_equal(arrays[name], expected)


def test_pt_is_an_archive_of_a_pickle_and_of_one_entry_for_each_tensor(tmp_path: Path) -> None:
    write(tmp_path / "m.pt")

    with zipfile.ZipFile(tmp_path / "m.pt") as archive:
        assert archive.read("archive/version") == b"3\n"
        assert archive.read("archive/byteorder") == b"little"
        views = _Views(io.BytesIO(archive.read("archive/data.pkl"))).load()
        for number, (name, tensor) in enumerate(TENSORS.items()):
            (kind, storage, key, device, count), offset, shape, strides, grad, hooks = views[name]
            assert (kind, key, device, count) == ("storage", str(number), "cpu", tensor.spec.count)
            assert storage.endswith("Storage")
            assert (offset, shape, grad, hooks) == (0, tensor.spec.shape, False, {})
            items = tensor.to_array()
            if items.size:
                assert strides == tuple(step // items.itemsize for step in items.strides)
            assert archive.read(f"archive/data/{key}") == bytes(tensor.data)
    assert views["half"][0][1] == "torch.BFloat16Storage"


class _Views(pickle.Unpickler):
    """Reads torch's pickle without torch: each tensor as the arguments that rebuild it."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda *arguments: arguments
        return dict if module == "collections" else f"{module}.{name}"

    def persistent_load(self, pid: Any) -> Any:
        return pid


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_block_that_raises_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    path.write_text("old")
    specs = {name: tensor.spec for name, tensor in TENSORS.items()}

    with (
        pytest.raises(KeyboardInterrupt),
        written(path, specs, (tensor.stream(name) for name, tensor in TENSORS.items()), {}),
    ):
        raise KeyboardInterrupt

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_stream_that_breaks_off_leaves_no_file(tmp_path: Path, suffix: str) -> None:
    spec = TensorSpec(DType.F32, (4,))
    short = TensorStream("w", spec, iter([memoryview(bytes(8))]))

    with pytest.raises(PadiffError) as caught, written(tmp_path / f"m{suffix}", {"w": spec}, iter([short]), {}):
        pytest.fail("the block must not be entered")

    assert caught.value.reason is Reason.DATA_LOSS
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(PadiffError, match="No such file or directory"):
        write(tmp_path / "gone" / "m.pt")


@pytest.mark.parametrize(
    ("file", "dtype", "reason"),
    [
        ("m.bin", DType.F32, Reason.BAD_CONFIG),
        ("m.safetensors", DType.C128, Reason.NOT_SUPPORTED),
        ("m.pdparams", DType.F8_E4M3, Reason.NOT_SUPPORTED),
        ("m.pdparams", DType.U16, Reason.NOT_SUPPORTED),
        ("m.pt", DType.U32, Reason.NOT_SUPPORTED),
    ],
)
def test_what_a_format_cannot_hold_is_refused(file: str, dtype: DType, reason: Reason) -> None:
    with pytest.raises(PadiffError) as caught:
        check_format(Path(file), {"w": TensorSpec(dtype, (1,))})

    assert caught.value.reason is reason


@pytest.mark.parametrize("value", [0, -1, 2**31 - 1, 2**31, 2**40, -(2**63)])
def test_a_shape_of_any_size_is_written(value: int) -> None:
    assert pickle.loads(code.begin(2) + code.whole_number(value) + code.END) == value
