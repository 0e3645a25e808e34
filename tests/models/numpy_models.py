"""Models of the fast tests, on the NumPy backend: `numpy@tests/models/numpy_models.py:FACTORY`.

A weight depends on `seed` and on its name only, so that two builds with one seed agree whatever else differs: a planted bug, or
the layout ("oi": Linear, weight [out, in]; "io": LinearIO, weight [in, out]). Inputs for each are at the end.
"""

from __future__ import annotations

import math
import zlib
from typing import Any, Literal

import numpy as np

from padiff_rpc.numpy_framework import functions as F
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor

Layout = Literal["oi", "io"]


# -- factories --------------------------------------------------------------------------------------------------------
def mlp(seed: int = 0, layout: Layout = "oi", scale: float = 1.0) -> nn.Layer:
    """Two linear layers in a block of their own, then a head."""
    return _seeded(Mlp(layout, scale), seed)


def mlp_wrong_scale(seed: int = 0, layout: Layout = "oi") -> nn.Layer:
    """mlp with a bug in the code of `body`, between its children fc1 and act."""
    return mlp(seed, layout, scale=1.25)


def deep(seed: int = 0, layout: Layout = "oi", depth: int = 12, bug_at: int | None = None) -> nn.Layer:
    """`depth` residual blocks; block `bug_at` adds its branch with another factor."""
    return _seeded(nn.Sequential(*(Residual(layout, 1.5 if i == bug_at else 1.0) for i in range(depth))), seed)


def bert_like(
    seed: int = 0,
    layout: Layout = "oi",
    layers: int = 2,
    eps_at: int | None = None,
    no_scale_at: int | None = None,
    no_bias_at: int | None = None,
    relu_at: int | None = None,
    swapped_qk: bool = False,
    permuted_batch: bool = False,
    nan_output: bool = False,
) -> nn.Layer:
    """A small BERT. Planted bugs, each at the encoder layer whose index is given:

    eps_at: epsilon of `encoder.N.norm1` is 0.1; no_scale_at: `encoder.N.attention` does not divide scores by sqrt(d);
    no_bias_at: `encoder.N.intermediate` has no bias; relu_at: `encoder.N.activation` is a ReLU. Everywhere: swapped_qk
    defines k before q (not a bug: the numbers stay); permuted_batch turns the batch round and nan_output spoils one
    number in the model's own code after its last child.
    """
    blocks = [
        EncoderLayer(
            layout,
            eps=0.1 if index == eps_at else 1e-12,
            scaled=index != no_scale_at,
            bias=index != no_bias_at,
            activation=nn.ReLU() if index == relu_at else nn.GELU(),
            swapped_qk=swapped_qk,
        )
        for index in range(layers)
    ]
    return _seeded(Bert(layout, blocks, permuted_batch, nan_output), seed)


def conv_net(seed: int = 0, inplace: bool = False, momentum: float = 0.1) -> nn.Layer:
    """Convolutions, batch norms and ReLUs, then a linear head; in training mode, as every model here."""
    return _seeded(ConvNet(inplace, momentum), seed)


def shared(seed: int = 0, layout: Layout = "oi", scale: float = 1.0) -> nn.Layer:
    """One layer called three times; `scale` multiplies what enters the second call."""
    return _seeded(Shared(layout, scale), seed)


def tuple_outputs(seed: int = 0, layout: Layout = "oi", scale: float = 1.0) -> nn.Layer:
    """Layers that return tuples, dicts and an integer tensor; `scale` multiplies the second of the tuple in `split`."""
    return _seeded(TupleOutputs(layout, scale), seed)


def calls(seed: int = 0, layout: Layout = "oi", gate: str = "") -> nn.Layer:
    """A layer `gate`, called twice, that calls functions in its own forward. Right, in other words: "spelled" adds where
    others multiply, "order" has two factors change places, "late" multiplies a sum, not what it sums. Wrong: "gelu" is
    that for ReLU, "axis" takes the softmax along the batch, "factor" has another one before it and a wrong epsilon later."""
    return _seeded(CallsFunctions(layout, gate), seed)


def tied(seed: int = 0) -> nn.Layer:
    """An embedding whose weight is also that of the output projection."""
    return _seeded(Tied(), seed)


def random(seed: int = 0, layout: Layout = "oi", p: float = 0.5) -> nn.Layer:
    """An active dropout between two linear layers."""
    return _seeded(nn.Sequential(_linear(layout, 8, 16), nn.Dropout(p), _linear(layout, 16, 4)), seed)


# -- inputs -----------------------------------------------------------------------------------------------------------
def vectors(seed: int = 0, rows: int = 4) -> dict[str, Any]:
    """Inputs `x` [rows, 8] of mlp, deep, shared, calls, tuple_outputs and random."""
    return {"x": np.random.RandomState(seed).standard_normal((rows, 8)).astype(np.float32)}


def tokens(seed: int = 0, rows: int = 3) -> dict[str, Any]:
    """Inputs of bert_like: `input_ids` [rows, 6] below 20, and a boolean `mask` [rows, 6] that hides the last of row 0."""
    mask = np.ones((rows, 6), bool)
    mask[0, -1] = False
    return {"input_ids": np.random.RandomState(seed).randint(0, 20, (rows, 6)).astype(np.int64), "mask": mask}


def ids(seed: int = 0, rows: int = 3) -> dict[str, Any]:
    """Inputs `ids` [rows, 5] of tied, below 12."""
    return {"ids": np.random.RandomState(seed).randint(0, 12, (rows, 5)).astype(np.int64)}


def images(seed: int = 0, rows: int = 4) -> dict[str, Any]:
    """Inputs `image` [rows, 3, 8, 8] of conv_net."""
    return {"image": np.random.RandomState(seed).standard_normal((rows, 3, 8, 8)).astype(np.float32)}


# -- layers -----------------------------------------------------------------------------------------------------------
class Mlp(nn.Layer):
    def __init__(self, layout: Layout, scale: float) -> None:
        super().__init__()
        self.body = Body(layout, scale)
        self.head = _linear(layout, 16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


class Body(nn.Layer):
    """`_scale` is private, so that a difference must be found in the numbers."""

    def __init__(self, layout: Layout, scale: float) -> None:
        super().__init__()
        self.fc1 = _linear(layout, 8, 16)
        self.act = nn.Tanh()
        self.fc2 = _linear(layout, 16, 16)
        self._scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x) * self._scale))


class Residual(nn.Layer):
    def __init__(self, layout: Layout, factor: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.fc = _linear(layout, 8, 8)
        self.act = nn.Tanh()
        self._factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x + self.act(self.fc(self.norm(x))) * self._factor


class Bert(nn.Layer):
    def __init__(self, layout: Layout, blocks: list[EncoderLayer], permuted_batch: bool, nan_output: bool) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 16)
        self.positions = nn.Embedding(6, 16)
        self.norm = nn.LayerNorm(16, eps=1e-12)
        self.encoder = nn.LayerList(*blocks)
        self.pooler = _linear(layout, 16, 16)
        self._permuted_batch, self._nan_output = permuted_batch, nan_output

    def forward(self, input_ids: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        positions = Tensor(np.arange(input_ids.shape[1]))
        hidden = self.norm(self.words(input_ids) + self.positions(positions))
        if mask is not None:
            mask = mask.reshape(mask.shape[0], 1, 1, mask.shape[1])
        for layer in self.encoder:
            hidden = layer(hidden_states=hidden, mask=mask)
        pooled = self.pooler(hidden[:, 0]).tanh()
        if self._permuted_batch:
            hidden, pooled = hidden[::-1], pooled[::-1]
        if self._nan_output:
            spoil = np.zeros(hidden.shape, hidden.values.dtype)
            spoil[0, 0, 0] = np.nan
            hidden = hidden + spoil
        return {"last_hidden_state": hidden, "pooled": pooled}


class EncoderLayer(nn.Layer):
    def __init__(
        self, layout: Layout, eps: float, scaled: bool, bias: bool, activation: nn.Layer, swapped_qk: bool
    ) -> None:
        super().__init__()
        self.attention = SelfAttention(layout, scaled, swapped_qk)
        self.norm1 = nn.LayerNorm(16, eps=eps)
        self.intermediate = _linear(layout, 16, 32, bias)
        self.activation = activation
        self.output = _linear(layout, 32, 16)
        self.norm2 = nn.LayerNorm(16, eps=1e-12)

    def forward(self, hidden_states: Tensor, mask: Tensor | None = None) -> Tensor:
        hidden = self.norm1(hidden_states + self.attention(hidden_states, mask=mask))
        return self.norm2(hidden + self.output(self.activation(self.intermediate(hidden))))


class SelfAttention(nn.Layer):
    def __init__(self, layout: Layout, scaled: bool, swapped_qk: bool) -> None:
        super().__init__()
        for name in "kqvo" if swapped_qk else "qkvo":
            setattr(self, name, _linear(layout, 16, 16))
        self.heads = 2
        self._scaled = scaled

    def forward(self, hidden_states: Tensor, mask: Tensor | None = None) -> Tensor:
        scale = 1 / math.sqrt(16 // self.heads) if self._scaled else 1.0
        q, k, v = self.q(hidden_states), self.k(hidden_states), self.v(hidden_states)
        return self.o(F.attention(q, k, v, self.heads, scale, mask))


class ConvNet(nn.Layer):
    def __init__(self, inplace: bool, momentum: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2D(3, 6, 3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm(6, momentum=momentum)
        self.relu1 = nn.ReLU(inplace)
        self.conv2 = nn.Conv2D(6, 6, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm(6, momentum=momentum)
        self.relu2 = nn.ReLU(inplace)
        self.head = nn.Linear(6, 5)

    def forward(self, image: Tensor) -> Tensor:
        x = self.relu1(self.bn1(self.conv1(image)))
        x = self.relu2(self.bn2(self.conv2(x)) + x)
        return self.head(x.mean((2, 3)))


class Shared(nn.Layer):
    def __init__(self, layout: Layout, scale: float) -> None:
        super().__init__()
        self.fc = _linear(layout, 8, 8)
        self._scale = scale

    def forward(self, x: Tensor) -> Tensor:
        once = self.fc(x).tanh()
        return self.fc(self.fc(once * self._scale).tanh())


class Split(nn.Layer):
    def __init__(self, layout: Layout, scale: float) -> None:
        super().__init__()
        self.left = _linear(layout, 8, 8)
        self.right = _linear(layout, 8, 8)
        self._scale = scale

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.left(x), self.right(x) * self._scale


class Merge(nn.Layer):
    def forward(self, parts: tuple[Tensor, Tensor], gain: float = 1.0) -> dict[str, Any]:
        left, right = parts
        largest = Tensor(np.argmax(left.values, axis=-1))
        return {"sum": left + right * gain, "past": (left, [right]), "largest": largest, "nothing": None}


class TupleOutputs(nn.Layer):
    def __init__(self, layout: Layout, scale: float) -> None:
        super().__init__()
        self.split = Split(layout, scale)
        self.merge = Merge()
        self.head = _linear(layout, 8, 4)

    def forward(self, x: Tensor) -> dict[str, Any]:
        merged = self.merge(self.split(x), gain=0.5)
        return {"logits": self.head(merged["sum"]), "past": merged["past"], "largest": merged["largest"]}


class CallsFunctions(nn.Layer):
    def __init__(self, layout: Layout, gate: str) -> None:
        super().__init__()
        self.gate = Gate(layout, gate)
        self.head = _linear(layout, 8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gate(self.gate(x)) + x)


class Gate(nn.Layer):
    def __init__(self, layout: Layout, variant: str) -> None:
        super().__init__()
        self.fc = _linear(layout, 8, 8)
        self.norm = nn.LayerNorm(8, eps=0.1 if variant == "factor" else 1e-5)
        self._variant = variant

    def forward(self, x: Tensor) -> Tensor:
        wanted = self._variant
        h = self.fc(x)
        h = F.gelu(h) if wanted == "gelu" else h.relu()
        h = h + h if wanted == "spelled" else h * 2
        h = h / 4 / 0.5 if wanted in ("order", "factor") else h / 0.5 / 4
        total = h.exp().sum(-1, True) - 1 if wanted == "late" else (h.exp() - 1 / 8).sum(-1, True)
        return self.norm(h + F.softmax(h, axis=0 if wanted == "axis" else -1)) + total.sqrt() + x


class Tied(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(12, 8)
        self.fc = nn.Linear(8, 8)
        self.projection = nn.Linear(8, 12, bias=False)
        self.projection.weight = self.table.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.projection(self.fc(self.table(ids)).tanh())


def _linear(layout: Layout, in_features: int, out_features: int, bias: bool = True) -> nn.Layer:
    kind = {"oi": nn.Linear, "io": nn.LinearIO}[layout]
    return kind(in_features, out_features, bias)


def _seeded(model: nn.Layer, seed: int, route: str = "") -> nn.Layer:
    """Set every weight and buffer to numbers that are neither 0 nor 1: defaults would hide a wrong assignment."""
    for name, tensor in {**model.parameters(), **model.buffers()}.items():
        shape = tensor.shape[::-1] if isinstance(model, nn.LinearIO) else tensor.shape
        numbers = np.random.RandomState([seed, zlib.crc32(f"{route}{name}".encode())]).standard_normal(shape)
        if tensor.ndim > 1:
            values = numbers / math.sqrt(tensor.data.size / shape[0])
        elif name == "running_var":
            values = 1 + 0.2 * np.abs(numbers)
        elif name == "weight":
            values = 1 + 0.2 * numbers
        else:
            values = 0.2 * numbers
        tensor.overwrite(np.ascontiguousarray((values.T if isinstance(model, nn.LinearIO) else values).astype("f4")))
    for name, child in model.children().items():
        _seeded(child, seed, f"{route}{name}.")
    return model
