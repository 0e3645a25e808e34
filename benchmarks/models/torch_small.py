"""Small models in torch: grouped attention with rotary positions, experts, a CNN, a GRU; paddle_small.py is the port."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class RMSNorm(nn.Module):
    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + self.eps) * self.weight


class GroupedAttention(nn.Module):
    """Causal; `groups` query heads share a head of keys and values."""

    def __init__(self, width: int, heads: int, groups: int) -> None:
        super().__init__()
        self.groups, self.size = groups, width // heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width // groups)
        self.v_proj = nn.Linear(width, width // groups)
        self.o_proj = nn.Linear(width, width, bias=False)
        self.scaling = 1 / math.sqrt(self.size)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        batch, length, width = x.shape
        q = self.q_proj(x).reshape(batch, length, -1, self.size).transpose(1, 2)
        k = self.k_proj(x).reshape(batch, length, -1, self.size).transpose(1, 2)
        v = self.v_proj(x).reshape(batch, length, -1, self.size).transpose(1, 2)
        q, k = q * cos + turned(q) * sin, k * cos + turned(k) * sin
        k, v = k.repeat_interleave(self.groups, 1), v.repeat_interleave(self.groups, 1)
        weights = torch.softmax(torch.matmul(q, k.transpose(-1, -2)) * self.scaling + mask, -1)
        return self.o_proj(torch.matmul(weights, v).transpose(1, 2).reshape(batch, length, width))


class Gated(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.act(self.gate_proj(x)) * self.up_proj(x))


class Experts(nn.Module):
    """Each position goes to its best two of the experts, by weights that sum to one."""

    def __init__(self, width: int, inner: int, count: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, count, bias=False)
        self.experts = nn.ModuleList([Gated(width, inner) for _ in range(count)])

    def forward(self, x: Tensor) -> Tensor:
        scores = torch.softmax(self.gate(x), -1)
        best = torch.topk(scores, 2, -1).values[..., -1:]
        chosen = torch.where(scores >= best, scores, torch.zeros_like(scores))
        chosen = chosen / chosen.sum(-1, keepdim=True)
        total = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            total = total + expert(x) * chosen[..., number : number + 1]
        return total


class Layer(nn.Module):
    def __init__(self, width: int, experts: int) -> None:
        super().__init__()
        self.input_norm = RMSNorm(width)
        self.attention = GroupedAttention(width, 4, 2)
        self.middle_norm = RMSNorm(width)
        self.mlp = Experts(width, 24, experts) if experts else Gated(width, 48)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attention(self.input_norm(x), cos, sin, mask)
        return x + self.mlp(self.middle_norm(x))


class Rotary(nn.Module):
    def __init__(self, size: int, theta: float = 100.0) -> None:
        super().__init__()
        self.size, self.theta = size, theta

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rates = self.theta ** (-torch.arange(0, self.size, 2).to(x.dtype) / self.size)
        angles = torch.arange(x.shape[1]).to(x.dtype).unsqueeze(-1) * rates
        angles = torch.cat([angles, angles], -1)
        return torch.cos(angles), torch.sin(angles)


class Llama(nn.Module):
    """Token ids [N, T] to scores [N, T, vocabulary]; with experts in each block, or with one gated MLP."""

    def __init__(self, experts: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(60, 32)
        self.rotary = Rotary(8)
        self.layers = nn.ModuleList([Layer(32, experts) for _ in range(2)])
        self.norm = RMSNorm(32)
        self.head = nn.Linear(32, 60, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        cos, sin = self.rotary(x)
        mask = torch.triu(torch.full((ids.shape[1], ids.shape[1]), -1e9), 1)
        for layer in self.layers:
            x = layer(x, cos, sin, mask)
        return self.head(self.norm(x))


class ConvBlock(nn.Module):
    """Two convolutions with batch normalisation, a squeeze and excitation, and the sum with the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, groups=2)
        self.bn2 = nn.BatchNorm2d(channels)
        self.act = nn.ReLU()
        self.squeeze = nn.Linear(channels, channels // 2)
        self.excite = nn.Linear(channels // 2, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
        weights = torch.sigmoid(self.excite(torch.relu(self.squeeze(y.mean((2, 3))))))
        return self.act(x + y * weights.reshape(y.shape[0], -1, 1, 1))


class Cnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(ConvBlock(8), ConvBlock(8))
        self.pool = nn.MaxPool2d(2)
        self.norm = nn.GroupNorm(2, 8)
        self.fc = nn.Linear(8 * 16, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.pool(self.blocks(self.stem(image)))
        return self.fc(self.norm(x).reshape(x.shape[0], -1))


class Gru(nn.Module):
    """A recurrent tagger with a residual branch."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, 16)
        self.gru = nn.GRU(16, 16, batch_first=True)
        self.norm = nn.LayerNorm(16)
        self.dense = nn.Linear(16, 32)
        self.out = nn.Linear(32, 12)

    def forward(self, ids: Tensor) -> dict[str, Tensor]:
        x = self.embed(ids)
        y, last = self.gru(x)
        scores = self.out(torch.tanh(self.dense(self.norm(y + x))))
        return {"scores": scores, "last": last}


def turned(x: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return torch.cat([x[..., half:] * -1.0, x[..., :half]], -1)


def llama(experts: int = 0) -> nn.Module:
    torch.manual_seed(0)
    return spread(Llama(experts))


def cnn(training: bool = True) -> nn.Module:
    torch.manual_seed(0)
    return spread(Cnn()).train(training)


def gru() -> nn.Module:
    torch.manual_seed(0)
    return spread(Gru())


def spread(model: nn.Module) -> nn.Module:
    """Make what starts as ones and zeros random: it would hide that two were crossed."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.rand_like(parameter) * 0.4 - 0.2)
    return model
