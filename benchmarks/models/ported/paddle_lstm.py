"""The port of torch_lstm.py in paddle, with the bugs that it may have."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from benchmarks.models.ported.paddle_parts import mode


class Cell(nn.Layer):
    """Gates in the order input, forget, cell, output."""

    def __init__(self, inside: int, width: int, bug: str) -> None:
        super().__init__()
        self.entering = nn.Linear(inside, 4 * width)
        self.kept = nn.Linear(width, 4 * width, bias_attr=False)
        self._bug = bug

    def forward(self, x: Tensor) -> Tensor:
        gates_in = self.entering(x)
        h = c = paddle.zeros_like(gates_in[:, 0, : gates_in.shape[-1] // 4])
        sigmoid = F.hardsigmoid if self._bug == "hard_sigmoid" else F.sigmoid
        states: list[Tensor] = []
        for at in range(x.shape[1]):
            i, f, g, o = (gates_in[:, at] + paddle.matmul(h, self.kept.weight)).chunk(4, -1)
            if self._bug == "gate_order":
                i, f, g, o = i, f, o, g
            if self._bug == "forget_bias_added":
                f = f + 1.0
            c = sigmoid(f) * c + sigmoid(i) * F.tanh(g)
            h = sigmoid(o) * F.tanh(c)
            states.append(h)
            if self._bug == "state_detached":
                h = h.detach()
        return paddle.stack(states, 1)


class Last(nn.Layer):
    def __init__(self, bug: str) -> None:
        super().__init__()
        self._bug = bug

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        if self._bug == "lengths_ignored":
            return x[:, -1]
        at = lengths if self._bug == "last_off_by_one" else lengths - 1
        return x[paddle.arange(x.shape[0]), at]


class Both(nn.Layer):
    def __init__(self, width: int, bug: str) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, direction="bidirect", time_major=bug == "time_major")
        self.width, self._bug = width, bug

    def forward(self, x: Tensor) -> Tensor:
        state = None
        if self._bug == "time_and_batch_swapped":
            x = x.transpose([1, 0, 2])
        if self._bug == "initial_state_of_ones":
            ones = paddle.ones([2, x.shape[0], self.width])
            state = (ones, ones)
        y, _ = self.lstm(x, state)
        forward, backward = y.chunk(2, -1)
        if self._bug == "directions_swapped":
            return paddle.concat([backward, forward], -1)
        if self._bug == "backward_not_turned":
            return paddle.concat([forward, backward.flip(1)], -1)
        return y.transpose([1, 0, 2]) if self._bug == "time_and_batch_swapped" else y


class Recurrent(nn.Layer):
    def __init__(self, vocabulary: int, width: int, bug: str) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width, padding_idx=0 if bug == "padding_idx" else None)
        self.both = Both(width, bug)
        self.cell = Cell(2 * width, width, bug)
        self.last = Last(bug)
        self.head = nn.Linear(width, 5)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        return self.head(self.last(self.cell(self.both(self.embed(ids))), lengths))


def build(vocabulary: int = 40, width: int = 16, training: bool = True, bug: str = "", seed: int = 0) -> nn.Layer:
    paddle.seed(seed)
    return mode(Recurrent(vocabulary, width, bug), training)
