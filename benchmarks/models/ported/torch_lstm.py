"""Embedding, a bidirectional LSTM, a cell written out, the last state of each sequence, a head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.models.ported.torch_parts import settled


class Cell(nn.Module):
    """Gates in the order input, forget, cell, output."""

    def __init__(self, inside: int, width: int) -> None:
        super().__init__()
        self.entering = nn.Linear(inside, 4 * width)
        self.kept = nn.Linear(width, 4 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gates_in = self.entering(x)
        h = c = torch.zeros_like(gates_in[:, 0, : gates_in.shape[-1] // 4])
        states: list[Tensor] = []
        for at in range(x.shape[1]):
            i, f, g, o = (gates_in[:, at] + h @ self.kept.weight.t()).chunk(4, -1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            states.append(h)
        return torch.stack(states, 1)


class Both(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, bidirectional=True, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(x)
        return y


class Last(nn.Module):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return x[torch.arange(len(x)), lengths - 1]


class Recurrent(nn.Module):
    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.both = Both(width)
        self.cell = Cell(2 * width, width)
        self.last = Last()
        self.head = nn.Linear(width, 5)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        return self.head(self.last(self.cell(self.both(self.embed(ids))), lengths))


def build(vocabulary: int = 40, width: int = 16, training: bool = True, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return settled(Recurrent(vocabulary, width), seed, training)
