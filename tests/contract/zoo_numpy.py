"""The contract suite's tiny models on the NumPy backend; conftest.py says what each must be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from padiff_rpc.numpy_framework import functions as F
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor
from padiff_rpc.numpy_framework.functions import softmax
from padiff_rpc.tensors.tensor import DType

ABSENT_DEVICE = "gpu:0"
DTYPES = tuple(DType)
CAST_DTYPES = ("float64", "float32", "float16")
BATCH_NORM_TENSORS = (
    ("weight", "parameter", True),
    ("bias", "parameter", True),
    ("running_mean", "buffer", False),
    ("running_var", "buffer", False),
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
        self.fc2 = nn.Linear(8, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class _Shared(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.fc(self.fc(x)))


class _Tied(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = nn.Linear(4, 4)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x))


class _Pack(nn.Layer):
    def forward(self, h: Tensor) -> Packed:
        return Packed(first=h * 2, rest=(h + 1, [h - 1]))


class _Nested(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.pack = _Pack()

    def forward(self, x: Tensor) -> dict[str, Any]:
        p = self.pack(self.fc(x))
        count = Tensor(np.array([3, 4]))
        return {"logits": p.first, "past": (p.rest[0], [p.rest[1][0]]), "count": count, "nothing": None}


class _Scale(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(np.ones(4, np.float32))
        self.slope = 0.5
        self.mode = "fast"
        self.sizes = (2, 3)
        self.ready = True
        self.nothing = None
        self._secret = 7
        self.thing = object()

    def forward(self, hidden: Tensor, gain: float) -> Tensor:
        return hidden * self.weight * gain


class _Keyword(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.scale = _Scale()

    def forward(self, x: Tensor) -> Tensor:
        return self.scale(hidden=x, gain=2.0)


class _Triple(nn.Layer):
    def forward(self, h: Tensor) -> Tensor:
        return h.mul_(3)


class _Inplace(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.triple = _Triple()
        self.relu = nn.ReLU(inplace=True)
        self.out = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.fc(x)
        self.triple(h)
        h = self.relu(h)
        return self.out(h)


class _Norm(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.bn = nn.BatchNorm(4, eps=1e-3, momentum=0.2)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.fc(x))


class _Embedding(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 4)
        self.fc = nn.Linear(4, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.fc(self.table(ids))


class _Residual(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.gap = None
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.inner(x)
        return h + self.fc(h)


class _Dropout(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(p=0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(x)


class _Extras(nn.Layer):
    """Holds a buffer of each kind: `kept` is part of a checkpoint, `passing` is not."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(np.ones(4, np.float32))
        self.frozen = nn.Parameter(np.ones(4, np.float32), requires_grad=False)
        self.register_buffer("kept", Tensor(np.ones(4, np.float32)))
        self.register_buffer("passing", Tensor(np.ones(4, np.float32)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale * self.frozen + self.kept + self.passing


class _Inner(nn.Layer):
    def __init__(self, fails: bool) -> None:
        super().__init__()
        self.fails = fails

    def forward(self, h: Tensor) -> Tensor:
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
        self.mix = nn.Parameter(np.ones((4, 4), np.float32))
        self.activation = F.gelu

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.fc(x)
        h = h.relu()
        h = 2 * (h + x) - 1
        h += x
        h = self.act(h @ self.mix)
        h = softmax(h)
        h = self.activation(self.inner(h))
        h = F.concat([h, h], axis=-1) / 2
        h = h.transpose(1, 0).transpose(1, 0)
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
        (nn.Linear(4, 8, bias=False), {"in_features": 4, "out_features": 8, "bias": False}),
        (nn.LinearIO(4, 8, bias=False), {"in_features": 4, "out_features": 8, "bias": False}),
        (
            nn.Conv2D(3, 8, 5, stride=2, padding=1),
            {"in_channels": 3, "out_channels": 8, "kernel_size": 5, "stride": 2, "padding": 1, "bias": True},
        ),
        (nn.LayerNorm(6, eps=1e-7), {"normalized_shape": 6, "eps": 1e-7, "bias": True}),
        (nn.BatchNorm(3, eps=1e-3, momentum=0.2), {"num_features": 3, "eps": 1e-3, "momentum": 0.2}),
        (nn.Embedding(7, 3), {"num_embeddings": 7, "embedding_dim": 3}),
        (nn.Dropout(0.25), {"p": 0.25}),
        (nn.GELU(approximate="tanh"), {"approximate": "tanh"}),
        (nn.ReLU(inplace=True), {"inplace": True}),
        (nn.Softmax(axis=1), {"axis": 1}),
        (nn.MultiHeadAttention(4, 2), {"embed_dim": 4, "num_heads": 2}),
    ]


def awkward_tensors() -> list[tuple[str, Tensor, DType, bytes]]:
    grid = np.arange(24, dtype=np.float32).reshape(4, 6)
    return [
        ("transposed", Tensor(grid.T), DType.F32, grid.T.tobytes()),
        ("strided slice", Tensor(grid[1::2, ::3]), DType.F32, grid[1::2, ::3].tobytes()),
        ("flipped", Tensor(grid[::-1]), DType.F32, grid[::-1].tobytes()),
        ("expanded", Tensor(np.broadcast_to(grid[:1], (3, 6))), DType.F32, np.tile(grid[:1], (3, 1)).tobytes()),
        ("0-d slice", Tensor(grid)[2, 3], DType.F32, grid[2, 3].tobytes()),
        ("0-d bool", Tensor(np.array(True)), DType.BOOL, b"\x01"),
        ("empty slice", Tensor(grid)[2:2], DType.F32, b""),
        ("empty with transposed shape", Tensor(np.empty((3, 0), np.int64).T), DType.I64, b""),
        ("big-endian", Tensor(grid.astype(">f4")), DType.F32, grid.tobytes()),
        ("requires a gradient", Tensor(grid.copy(), requires_grad=True), DType.F32, grid.tobytes()),
        ("has a graph", (Tensor(grid, requires_grad=True) * 2).transpose(1, 0), DType.F32, (grid * 2).T.tobytes()),
        (
            "bfloat16",
            Tensor(np.array([[0x3F80], [0x4000]], np.uint16), dtype=DType.BF16),
            DType.BF16,
            b"\x80\x3f\x00\x40",
        ),
    ]
