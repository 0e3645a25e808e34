"""The contract suite's tiny models in torch; conftest.py says what each must be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.functional import softmax

from padiff_rpc.tensors.tensor import DType

ABSENT_DEVICE = "cuda:99"
DTYPES = tuple(DType)
CAST_DTYPES = ("float64", "float32", "bfloat16", "float16")
BATCH_NORM_TENSORS = (
    ("weight", "parameter", True),
    ("bias", "parameter", True),
    ("running_mean", "buffer", False),
    ("running_var", "buffer", False),
    ("num_batches_tracked", "buffer", False),
)


@dataclass
class Packed:
    first: Any
    rest: Any


class _Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(4, 8)
        self.act = nn.Tanh()
        self.fc2 = nn.Linear(8, 3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.act(self.fc1(x)))


class _Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.fc(self.fc(x)))


class _Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = nn.Linear(4, 4)
        self.b.weight = self.a.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(x))


class _Pack(nn.Module):
    def forward(self, h: torch.Tensor) -> Packed:
        return Packed(first=h * 2, rest=(h + 1, [h - 1]))


class _Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.pack = _Pack()

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        p = self.pack(self.fc(x))
        return {"logits": p.first, "past": (p.rest[0], [p.rest[1][0]]), "count": torch.tensor([3, 4]), "nothing": None}


class _Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.slope = 0.5
        self.mode = "fast"
        self.sizes = (2, 3)
        self.ready = True
        self.nothing = None
        self._secret = 7
        self.thing = object()

    def forward(self, hidden: torch.Tensor, gain: float) -> torch.Tensor:
        return hidden * self.weight * gain


class _Keyword(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = _Scale()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale(hidden=x, gain=2.0)


class _Triple(nn.Module):
    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return h.mul_(3)


class _Inplace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.triple = _Triple()
        self.relu = nn.ReLU(inplace=True)
        self.out = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.fc(x)
        self.triple(h)
        h = self.relu(h)
        return self.out(h)


class _Norm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.bn = nn.BatchNorm1d(4, eps=1e-3, momentum=0.2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.fc(x))


class _Embedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 4)
        self.fc = nn.Linear(4, 3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.fc(self.table(ids))


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.register_module("gap", None)
        self.fc = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.inner(x)
        return h + self.fc(h)


class _Dropout(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(p=0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(x)


class _Extras(nn.Module):
    kept: torch.Tensor
    passing: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))
        self.frozen = nn.Parameter(torch.ones(4), requires_grad=False)
        self.register_buffer("kept", torch.ones(4))
        self.register_buffer("passing", torch.ones(4), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale * self.frozen + self.kept + self.passing


class _Inner(nn.Module):
    def __init__(self, fails: bool) -> None:
        super().__init__()
        self.fails = fails

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        h = h.exp()
        if self.fails:
            raise KeyError("planted")
        return h * 0.5


class _Functional(nn.Module):
    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.act = nn.Tanh()
        self.inner = _Inner(fails)
        self.mix = nn.Parameter(torch.ones(4, 4))
        self.activation = F.gelu

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        h = self.fc(x)
        h = F.relu(h)
        h = 2 * (h + x) - 1
        h += x
        h = self.act(h @ self.mix)
        h = softmax(h, dim=-1)
        h = self.activation(self.inner(h))
        h = torch.cat([h, h], dim=-1) / 2
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


def hyperparameter_cases() -> list[tuple[nn.Module, dict[str, Any]]]:
    return [
        (nn.Linear(4, 8), {"in_features": 4, "out_features": 8, "bias": True}),
        (nn.Linear(4, 8, bias=False), {"in_features": 4, "out_features": 8, "bias": False}),
        (
            nn.Conv2d(4, 8, 3, stride=2, padding=1, dilation=2, groups=2, padding_mode="reflect"),
            {
                "in_channels": 4,
                "out_channels": 8,
                "kernel_size": [3, 3],
                "stride": [2, 2],
                "padding": [1, 1],
                "dilation": [2, 2],
                "groups": 2,
                "padding_mode": "reflect",
                "bias": True,
            },
        ),
        (nn.Conv1d(1, 1, 3, padding="same", bias=False), {"padding": "same", "bias": False}),
        (nn.LayerNorm(6, eps=1e-7), {"normalized_shape": [6], "eps": 1e-7, "elementwise_affine": True, "bias": True}),
        (nn.LayerNorm(6, elementwise_affine=False), {"elementwise_affine": False, "bias": False}),
        (nn.BatchNorm2d(3, momentum=None), {"num_features": 3, "momentum": None, "track_running_stats": True}),
        (nn.GroupNorm(2, 4), {"num_groups": 2, "num_channels": 4, "eps": 1e-5, "affine": True}),
        (nn.Dropout(0.25), {"p": 0.25, "inplace": False}),
        (nn.GELU(approximate="tanh"), {"approximate": "tanh"}),
        (nn.LeakyReLU(0.2), {"negative_slope": 0.2}),
        (nn.Hardtanh(-float("inf"), 2.0), {"min_val": "-inf", "max_val": 2.0}),
        (nn.Softmax(dim=-1), {"dim": -1}),
        (nn.Embedding(7, 3, padding_idx=1), {"num_embeddings": 7, "embedding_dim": 3, "padding_idx": 1}),
        (nn.AvgPool2d(2, ceil_mode=True), {"kernel_size": 2, "ceil_mode": True, "count_include_pad": True}),
        (nn.Upsample(scale_factor=2, mode="bilinear"), {"scale_factor": 2.0, "mode": "bilinear"}),
        (nn.LSTM(4, 5, 2, dropout=0.1, bias=False), {"hidden_size": 5, "num_layers": 2, "dropout": 0.1, "bias": False}),
        (nn.MultiheadAttention(4, 2, bias=False), {"embed_dim": 4, "num_heads": 2, "bias": False}),
        (nn.TransformerEncoderLayer(4, 2, 8, activation="gelu"), {"activation": "gelu", "norm_first": False}),
    ]


def awkward_tensors() -> list[tuple[str, torch.Tensor, DType, bytes]]:
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    grid = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    image = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    waves = np.array([1 + 2j, 3 - 4j], dtype=np.complex64)
    return [
        ("transposed", grid.t(), DType.F32, base.T.tobytes()),
        ("strided slice", grid[1::2, ::3], DType.F32, base[1::2, ::3].tobytes()),
        ("column", grid[:, 2], DType.F32, base[:, 2].tobytes()),
        ("expanded 0-d", grid[2, 3].expand(4), DType.F32, np.tile(base[2, 3], 4).tobytes()),
        ("flipped", grid.flip(0), DType.F32, base[::-1].tobytes()),
        ("a lone element of stride 0", grid[2, 3].as_strided((1, 1), (0, 0)), DType.F32, base[2, 3].tobytes()),
        ("a lone bfloat16 of stride 0", torch.ones(1).bfloat16().as_strided((1,), (0,)), DType.BF16, b"\x80\x3f"),
        ("no bfloat16 of stride 0", torch.ones(1).bfloat16().expand(0), DType.BF16, b""),
        ("of more dimensions than NumPy has", grid.reshape([1] * 64 + [4, 6]), DType.F32, base.tobytes()),
        ("expanded", grid[:1].expand(3, 6), DType.F32, np.tile(base[:1], (3, 1)).tobytes()),
        ("0-d slice", grid[2, 3], DType.F32, base[2, 3].tobytes()),
        ("0-d bool", torch.tensor(True), DType.BOOL, b"\x01"),
        ("empty slice", grid[2:2], DType.F32, b""),
        ("empty with transposed shape", torch.empty(3, 0, dtype=torch.int64).t(), DType.I64, b""),
        ("requires a gradient", grid.clone().requires_grad_(), DType.F32, base.tobytes()),
        ("has a graph", (grid.clone().requires_grad_() * 2).t(), DType.F32, (base * 2).T.tobytes()),
        ("channels last", torch.from_numpy(image).to(memory_format=torch.channels_last), DType.F32, image.tobytes()),
        ("conjugate view", torch.from_numpy(waves).conj(), DType.C64, waves.conj().tobytes()),
        ("negative view", torch.from_numpy(waves).conj().imag, DType.F32, waves.conj().imag.tobytes()),
        (
            "transposed bfloat16",
            grid.bfloat16().t(),
            DType.BF16,
            (base.T.copy().view("u4") >> 16).astype("<u2").tobytes(),
        ),
    ]
