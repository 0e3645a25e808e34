"""The contract suite's tiny models in paddle; conftest.py says what each must be."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F
from paddle.nn.functional import softmax

from padiff_rpc.tensors.tensor import DType

ABSENT_DEVICE = "gpu:99"
_FLOAT8 = (DType.F8_E4M3, DType.F8_E5M2) if hasattr(paddle, "float8_e4m3fn") else ()
DTYPES = (
    DType.BOOL,
    DType.U8,
    DType.I8,
    DType.I16,
    DType.I32,
    DType.I64,
    *_FLOAT8,
    DType.BF16,
    DType.F16,
    DType.F32,
    DType.F64,
    DType.C64,
    DType.C128,
)
CAST_DTYPES = ("float64", "float32", "bfloat16", "float16")
BATCH_NORM_TENSORS = (
    ("weight", "parameter", True),
    ("bias", "parameter", True),
    ("_mean", "buffer", False),
    ("_variance", "buffer", False),
)


@dataclass
class Packed:
    first: Any
    rest: Any


class _Mlp(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(4, 8)
        self.act = nn.Tanh()
        self.fc2 = nn.Linear(8, 3, bias_attr=False)

    def forward(self, x: Any) -> Any:
        return self.fc2(self.act(self.fc1(x)))


class _Shared(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Any) -> Any:
        return self.fc(self.fc(self.fc(x)))


class _Tied(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = nn.Linear(4, 4)
        self.b.weight = self.a.weight

    def forward(self, x: Any) -> Any:
        return self.b(self.a(x))


class _Pack(nn.Layer):
    def forward(self, h: Any) -> Packed:
        return Packed(first=h * 2, rest=(h + 1, [h - 1]))


class _Nested(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.pack = _Pack()

    def forward(self, x: Any) -> dict[str, Any]:
        p = self.pack(self.fc(x))
        return {
            "logits": p.first,
            "past": (p.rest[0], [p.rest[1][0]]),
            "count": paddle.to_tensor([3, 4]),
            "nothing": None,
        }


class _Scale(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.weight = self.create_parameter([4])
        self.slope = 0.5
        self.mode = "fast"
        self.sizes = (2, 3)
        self.ready = True
        self.nothing = None
        self._secret = 7
        self.thing = object()

    def forward(self, hidden: Any, gain: float) -> Any:
        return hidden * self.weight * gain


class _Keyword(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.scale = _Scale()

    def forward(self, x: Any) -> Any:
        return self.scale(hidden=x, gain=2.0)


class _Triple(nn.Layer):
    def forward(self, h: Any) -> Any:
        return h.scale_(3.0)


class _Relu(nn.Layer):
    """Paddle's own ReLU layer does not work in place."""

    def forward(self, h: Any) -> Any:
        return nn.functional.relu_(h)


class _Inplace(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.triple = _Triple()
        self.relu = _Relu()
        self.out = nn.Linear(4, 3)

    def forward(self, x: Any) -> Any:
        h = self.fc(x)
        self.triple(h)
        h = self.relu(h)
        return self.out(h)


class _Norm(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.bn = nn.BatchNorm1D(4, epsilon=1e-3, momentum=0.8)

    def forward(self, x: Any) -> Any:
        h = self.fc(x)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "When training, we now always track global mean")  # at every call
            return self.bn(h)


class _Embedding(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 4)
        self.fc = nn.Linear(4, 3)

    def forward(self, ids: Any) -> Any:
        return self.fc(self.table(ids))


class _Residual(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.gap = nn.Identity()
        self.gap = None  # None of itself would be a plain attribute; in the place of a layer it stays a slot
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Any) -> Any:
        h = self.inner(x)
        return h + self.fc(h)


class _Dropout(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(p=0.5)

    def forward(self, x: Any) -> Any:
        return self.drop(x)


class _Extras(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.scale = self.create_parameter([4])
        self.frozen = self.create_parameter([4])
        self.frozen.stop_gradient = True
        self.register_buffer("kept", paddle.ones([4]))
        self.register_buffer("passing", paddle.ones([4]), persistable=False)

    def forward(self, x: Any) -> Any:
        return x * self.scale * self.frozen + self.kept + self.passing


class _Inner(nn.Layer):
    def __init__(self, fails: bool) -> None:
        super().__init__()
        self.fails = fails

    def forward(self, h: Any) -> Any:
        h = h.exp()
        if self.fails:
            raise KeyError("planted")
        return h * 0.5


class _Functional(nn.Layer):
    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.act = nn.Tanh()
        self.inner = _Inner(fails)
        self.mix = self.create_parameter([4, 4])
        self.activation = F.gelu

    def forward(self, x: Any) -> dict[str, Any]:
        h = self.fc(x)
        h = F.relu(h)
        h = 2 * (h + x) - 1
        h += x
        h = self.act(h @ self.mix)
        h = softmax(h)
        h = self.activation(self.inner(h))
        h = paddle.concat([h, h], axis=-1) / 2
        h = h.t().t()
        return {"h": h, "mean": h.mean()}


def failing() -> _Functional:
    return _Functional(fails=True)


mlp = _Mlp
shared = _Shared
tied = _Tied
nested = _Nested
keyword = _Keyword
inplace = _Inplace
norm = _Norm
embedding = _Embedding
residual = _Residual
dropout = _Dropout
extras = _Extras
functional = _Functional


def hyperparameter_cases() -> list[tuple[nn.Layer, dict[str, Any]]]:
    return [
        (nn.Linear(4, 8), {"in_features": 4, "out_features": 8, "bias": True}),
        (nn.Linear(4, 8, bias_attr=False), {"in_features": 4, "out_features": 8, "bias": False}),
        (
            nn.Conv2D(4, 8, 3, stride=2, padding=1, dilation=2, groups=2, padding_mode="reflect"),
            {
                "in_channels": 4,
                "out_channels": 8,
                "kernel_size": [3, 3],
                "stride": [2, 2],
                "padding": 1,
                "dilation": [2, 2],
                "groups": 2,
                "padding_mode": "reflect",
                "data_format": "NCHW",
                "bias": True,
            },
        ),
        (nn.Conv1D(1, 1, 3, padding="same", bias_attr=False), {"padding": "same", "bias": False}),
        (nn.Conv2DTranspose(2, 3, 3, output_padding=0), {"output_padding": 0, "out_channels": 3, "bias": True}),
        (nn.LayerNorm(6, epsilon=1e-7), {"normalized_shape": [6], "epsilon": 1e-7, "bias": True}),
        (nn.LayerNorm(6, weight_attr=False, bias_attr=False), {"bias": False}),
        (nn.BatchNorm2D(3, momentum=0.8), {"num_features": 3, "momentum": 0.8, "epsilon": 1e-5, "bias": True}),
        (nn.GroupNorm(2, 4), {"num_groups": 2, "num_channels": 4, "epsilon": 1e-5}),
        (nn.Dropout(0.25), {"p": 0.25, "mode": "upscale_in_train"}),
        (nn.GELU(approximate=True), {"approximate": True}),
        (nn.LeakyReLU(0.2), {"negative_slope": 0.2}),
        (nn.Hardtanh(-float("inf"), 2.0), {"min": "-inf", "max": 2.0}),
        (nn.Softmax(axis=-1), {"axis": -1}),
        (nn.Embedding(7, 3, padding_idx=1), {"num_embeddings": 7, "embedding_dim": 3, "padding_idx": 1}),
        (nn.AvgPool2D(2, ceil_mode=True), {"kernel_size": 2, "ceil_mode": True, "exclusive": True}),
        (nn.Pad2D(1), {"padding": [1, 1, 1, 1], "mode": "constant", "value": 0.0}),
        (nn.Upsample(scale_factor=2, mode="bilinear"), {"scale_factor": 2, "mode": "bilinear"}),
        (
            nn.LSTM(4, 5, 2, dropout=0.1),  # without bias paddle's constructor raises IndexError
            {"hidden_size": 5, "num_layers": 2, "dropout": 0.1, "bias": True},
        ),
        (
            nn.GRUCell(3, 4, bias_ih_attr=False, bias_hh_attr=False),
            {"input_size": 3, "hidden_size": 4, "bias": True},  # paddle then makes frozen zeros
        ),
        (nn.MultiHeadAttention(4, 2, bias_attr=False), {"embed_dim": 4, "num_heads": 2, "bias": False}),
        (
            nn.TransformerEncoderLayer(4, 2, 8, activation="gelu"),
            {"activation": "gelu", "normalize_before": False, "d_model": 4, "nhead": 2},
        ),
        (nn.PReLU(num_parameters=2), {"num_parameters": 2, "init": 0.25}),
    ]


def awkward_tensors() -> list[tuple[str, Any, DType, bytes]]:
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    grid = paddle.to_tensor(base)
    waves = np.array([1 + 2j, 3 - 4j], dtype=np.complex64)
    trained = paddle.to_tensor(base, stop_gradient=False)
    upper = np.ascontiguousarray(base.view("u4") >> 16).astype("<u2")
    return [
        ("transposed", grid.t(), DType.F32, base.T.tobytes()),
        ("strided slice", grid[1::2, ::3], DType.F32, base[1::2, ::3].tobytes()),
        ("contiguous slice", grid[1:3], DType.F32, base[1:3].tobytes()),
        ("contiguous slice of bfloat16", paddle.to_tensor(upper)[1:3], DType.BF16, upper[1:3].tobytes()),
        ("contiguous slice of complex64", paddle.to_tensor(waves)[1:], DType.C64, waves[1:].tobytes()),
        (
            "contiguous slice of complex128",
            paddle.to_tensor(waves.astype("c16"))[1:],
            DType.C128,
            waves[1:].astype("c16").tobytes(),
        ),
        ("contiguous slice of booleans", paddle.to_tensor(base > 7)[1:3], DType.BOOL, (base > 7)[1:3].tobytes()),
        (
            "contiguous slice of float64",
            paddle.to_tensor(base.astype("f8"))[1:3],
            DType.F64,
            base[1:3].astype("f8").tobytes(),
        ),
        ("flipped", grid.flip(0), DType.F32, base[::-1].tobytes()),
        ("expanded", grid[:1].expand([3, 6]), DType.F32, np.tile(base[:1], (3, 1)).tobytes()),
        ("0-d slice", grid[2, 3], DType.F32, base[2, 3].tobytes()),
        ("0-d bool", paddle.to_tensor(True), DType.BOOL, b"\x01"),
        ("empty slice", grid[2:2], DType.F32, b""),
        ("empty of more dimensions", paddle.empty([3, 0, 2], "int64"), DType.I64, b""),
        ("requires a gradient", trained, DType.F32, base.tobytes()),
        ("has a graph", (trained * 2).t(), DType.F32, (base * 2).T.tobytes()),
        ("conjugate", paddle.to_tensor(waves).conj(), DType.C64, waves.conj().tobytes()),
        ("imaginary part", paddle.to_tensor(waves).imag(), DType.F32, waves.imag.tobytes()),
        ("transposed bfloat16", paddle.to_tensor(upper).t(), DType.BF16, upper.T.tobytes()),
        ("transposed integers", paddle.to_tensor(base.astype("i8")).t(), DType.I64, base.astype("i8").T.tobytes()),
    ]
