"""What pairs that other people wrote have: each harmless difference in a small pair, which is right, and a fault right behind it.

Base is always the same model. Raw has one of FORMS, or all that go together, and then one of FAULTS, which must be named exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor
from padiff_rpc.numpy_framework.functions import where
from padiff_rpc.result import Result
from tests.align.pairs import Claimed

BATCH, LENGTH, WIDTH, HEADS, INNER = 3, 5, 8, 2, 12
_random = np.random.default_rng(0)
INPUTS = as_inputs({"ids": _random.integers(0, 11, (BATCH, LENGTH))})
SINUSOIDS = np.sin(np.arange(LENGTH)[:, None] / 10.0 ** np.arange(WIDTH)).astype(np.float32)
PADDED = np.arange(LENGTH) >= np.array([5, 4, 3])[:, None]
"""Which keys of each example are padding, and so are masked."""

FORMS = (
    "repeated positions",
    "tokens merged",
    "heads merged",
    "dropouts exchanged",
    "mask of -1e4",
    "boolean mask",
    "mask of one axis less",
    "mask of ones",
    "inputs in another order",
    "up before gate",
    "weights merged",
    "class embedding outside",
    "table held",
    "stack",
)
TOGETHER = tuple(
    form for form in FORMS if form not in ("boolean mask", "mask of one axis less", "mask of ones", "stack")
)
FAULTS = {
    "gain": ("forward", "blocks.0.mlp"),
    "activation": ("forward", "blocks.0.mlp"),
    "cut": ("backward", "blocks.0.mlp"),
    "epsilon": ("forward", "blocks.0.norm"),
    "mask": ("forward", "blocks.0.attn"),
}
"""Each fault, and the stage and base's layer that must be named."""


class Embeddings(nn.Layer):
    """Words, learned positions, sinusoids and a class embedding, which a user's layer may also hold itself."""

    def __init__(self, forms: tuple[str, ...]) -> None:
        super().__init__()
        _hold_embeddings(self, forms)
        self._forms = forms

    def forward(self, ids: Tensor) -> Tensor:
        return _embed(self, ids, self._forms)


def _hold_embeddings(layer: nn.Layer, forms: tuple[str, ...]) -> None:
    layer.words = nn.Embedding(11, WIDTH)
    layer.positions = nn.Embedding(LENGTH, WIDTH)
    layer.class_embedding = nn.Parameter(_draw(WIDTH))
    if "table held" in forms:
        layer.sinusoids = nn.Parameter(SINUSOIDS.copy(), requires_grad=False)


def _embed(layer: nn.Layer, ids: Tensor, forms: tuple[str, ...]) -> Tensor:
    at = np.arange(LENGTH)[None]
    at = at.repeat(BATCH, axis=0) if "repeated positions" in forms else at
    table = layer.sinusoids if "table held" in forms else Tensor(SINUSOIDS)
    return layer.words(ids) + layer.positions(Tensor(at)) + table + layer.class_embedding


class Attention(nn.Layer):
    """Heads with weights of their own, [D, H, K] or [D, H * K], over keys of which some are masked."""

    def __init__(self, forms: tuple[str, ...], fault: str) -> None:
        super().__init__()
        shape = (WIDTH, WIDTH) if "weights merged" in forms else (WIDTH, HEADS, WIDTH // HEADS)
        self.q, self.k, self.v = (nn.Parameter(_draw(*shape)) for _ in range(3))
        self.softmax = nn.Softmax()
        self.out = _linear(forms, WIDTH, WIDTH)
        self._forms, self._fault = forms, fault

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (self._heads(x, weight) for weight in (self.q, self.k, self.v))
        if self._fault == "mask":
            mask = Tensor(np.roll(mask.data, 1, axis=-1))
        if "mask of ones" in self._forms:
            mask = (mask - 1.0) * 1e9
        mask = mask.reshape(BATCH, 1, 1, LENGTH)
        scores = q @ k.transpose(0, 1, 3, 2)
        scores = where(mask, Tensor(np.float32(-1e4)), scores) if "boolean mask" in self._forms else scores + mask
        shape = scores.shape
        if "heads merged" in self._forms:
            scores = scores.reshape(BATCH * HEADS, LENGTH, LENGTH)
        shares = self.softmax(scores).reshape(*shape)
        return self.out((shares @ v).transpose(0, 2, 1, 3).reshape(BATCH, LENGTH, WIDTH))

    def _heads(self, x: Tensor, weight: Tensor) -> Tensor:
        return (x @ weight.reshape(WIDTH, WIDTH)).reshape(BATCH, LENGTH, HEADS, -1).transpose(0, 2, 1, 3)


class Mlp(nn.Layer):
    """A gate and what passes it, from two Linears or from one that has both."""

    def __init__(self, forms: tuple[str, ...], fault: str) -> None:
        super().__init__()
        if "up before gate" in forms:
            self.up_gate_proj = _linear(forms, WIDTH, 2 * INNER)
        else:
            self.gate_proj, self.up_proj = _linear(forms, WIDTH, INNER), _linear(forms, WIDTH, INNER)
        self.down_proj = _linear(forms, INNER, WIDTH)
        self._forms, self._fault = forms, fault

    def forward(self, x: Tensor) -> Tensor:
        if "up before gate" in self._forms:
            both = self.up_gate_proj(x)
            up, gate = both[..., :INNER], both[..., INNER:]
        else:
            gate, up = self.gate_proj(x), self.up_proj(x)
        opened = gate.relu() if self._fault == "activation" else gate.tanh()
        if self._fault == "cut":
            opened = opened.detach()
        return self.down_proj(opened * up * (1.05 if self._fault == "gain" else 1.0))


class Block(nn.Layer):
    """Attention and the gated layer behind it. Neither Dropout does anything."""

    def __init__(self, forms: tuple[str, ...], fault: str) -> None:
        super().__init__()
        self.attn = Attention(forms, fault)
        self.drop1 = nn.Dropout(0.0)
        self.mlp = Mlp(forms, fault)
        self.drop2 = nn.Dropout(0.0)
        self.norm = nn.LayerNorm(WIDTH, eps=0.05 if fault == "epsilon" else 1e-5)
        self._forms = forms

    def forward(self, x: Tensor, mask: Tensor, memory: Tensor) -> Tensor:
        inner, outer = (self.drop2, self.drop1) if "dropouts exchanged" in self._forms else (self.drop1, self.drop2)
        x = x + inner(self.attn(x, mask)) + memory * 0.1
        flat = x.reshape(BATCH * LENGTH, WIDTH) if "tokens merged" in self._forms else x
        return self.norm(x + outer(self.mlp(flat)).reshape(*x.shape))


class BlockOfAnotherHand(Block):
    """The same with its inputs under other names, in another order."""

    def forward(self, src: Tensor, memory: Tensor, src_mask: Tensor) -> Tensor:
        return super().forward(src, src_mask, memory)


class Stack(nn.Layer):
    """Blocks and the norm behind them, as frameworks have them in one layer of their own."""

    def __init__(self, blocks: list[Block]) -> None:
        super().__init__()
        self.layers = nn.LayerList(*blocks)
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor, mask: Tensor, memory: Tensor) -> Tensor:
        for block in self.layers:
            x = block(x, mask, memory)
        return self.norm(x)


class Net(nn.Layer):
    """An encoder with two blocks; a fault lies in the first."""

    def __init__(self, forms: tuple[str, ...] = (), fault: str = "") -> None:
        super().__init__()
        if "class embedding outside" in forms:
            _hold_embeddings(self, forms)
        else:
            self.embeddings = Embeddings(forms)
        kind = BlockOfAnotherHand if "inputs in another order" in forms else Block
        blocks = [kind(forms, fault), kind(forms, "")]
        if "stack" in forms:
            self.encoder = Stack(blocks)
        else:
            self.blocks = nn.LayerList(*blocks)
            self.last_norm = nn.LayerNorm(WIDTH)
        self.head = _linear(forms, WIDTH, 4)
        self._forms = forms

    def forward(self, ids: Tensor) -> Tensor:
        x = _embed(self, ids, self._forms) if "class embedding outside" in self._forms else self.embeddings(ids)
        mask, memory = _mask(self._forms), x.tanh()
        if "stack" in self._forms:
            return self.head(self.encoder(x, mask, memory))
        for block in self.blocks:
            x = block(x, memory, mask) if "inputs in another order" in self._forms else block(x, mask, memory)
        return self.head(self.last_norm(x))


def _mask(forms: tuple[str, ...]) -> Tensor:
    flat = "mask of one axis less" in forms or "mask of ones" in forms
    masked = PADDED if flat else PADDED[:, None, None]
    if "mask of ones" in forms:
        return Tensor((~masked).astype(np.float32))
    if "boolean mask" in forms:
        return Tensor(masked)
    lowest = -1e4 if "mask of -1e4" in forms else np.finfo(np.float32).min
    return Tensor(np.where(masked, lowest, 0.0).astype(np.float32))


def _linear(forms: tuple[str, ...], inputs: int, outputs: int) -> nn.Layer:
    """Return a Linear whose weight lies as the framework has it that raw claims to be."""
    return (nn.LinearIO if "stack" in forms else nn.Linear)(inputs, outputs)


def _draw(*shape: int) -> np.ndarray:
    return _random.standard_normal(shape).astype(np.float32)


def run(forms: tuple[str, ...], fault: str = "") -> Result:
    base, raw = Net(), Net(forms, fault)
    if "stack" not in forms:
        return align(HostedModel(base), HostedModel(raw), INPUTS, INPUTS, AlignSettings())
    plain: Any = Claimed("torch", base, {"LayerList": "torch.nn.modules.container.ModuleList"})
    stacked: Any = Claimed("paddle", raw, {"Stack": "paddle.nn.layer.transformer.TransformerEncoder"})
    return align(plain, stacked, INPUTS, INPUTS, AlignSettings())


def _name(forms: tuple[str, ...]) -> str:
    return forms[0] if len(forms) == 1 else "together" if forms else "no form"


@pytest.mark.parametrize("forms", [*((form,) for form in FORMS), TOGETHER], ids=_name)
def test_a_harmless_difference_is_aligned(forms: tuple[str, ...]) -> None:
    result = run(forms)
    assert [] == [
        (pair.stage, pair.base_route, pair.tensor, pair.why) for pair in result.pairs if pair.status == "fail"
    ]
    assert result.aligned


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("forms", [(), *((form,) for form in FORMS), TOGETHER], ids=_name)
def test_a_fault_right_behind_it_is_named(forms: tuple[str, ...], fault: str) -> None:
    result = run(forms, fault)
    assert result.first_divergence is not None
    assert FAULTS[fault] == (result.first_divergence.stage, result.first_divergence.base.route)
