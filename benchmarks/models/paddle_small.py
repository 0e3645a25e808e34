"""The port of torch_small.py in paddle."""

from __future__ import annotations

import math

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn


class RMSNorm(nn.Layer):
    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = self.create_parameter([width], default_initializer=nn.initializer.Constant(1.0))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return x * paddle.rsqrt((x * x).mean(-1, keepdim=True) + self.eps) * self.weight


class GroupedAttention(nn.Layer):
    def __init__(self, width: int, heads: int, groups: int) -> None:
        super().__init__()
        self.groups, self.size = groups, width // heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width // groups)
        self.v_proj = nn.Linear(width, width // groups)
        self.o_proj = nn.Linear(width, width, bias_attr=False)
        self.scaling = 1 / math.sqrt(self.size)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        batch, length, width = x.shape
        q = self.q_proj(x).reshape([batch, length, -1, self.size]).transpose([0, 2, 1, 3])
        k = self.k_proj(x).reshape([batch, length, -1, self.size]).transpose([0, 2, 1, 3])
        v = self.v_proj(x).reshape([batch, length, -1, self.size]).transpose([0, 2, 1, 3])
        q, k = q * cos + turned(q) * sin, k * cos + turned(k) * sin
        k, v = paddle.repeat_interleave(k, self.groups, 1), paddle.repeat_interleave(v, self.groups, 1)
        weights = F.softmax(paddle.matmul(q, k, transpose_y=True) * self.scaling + mask, -1)
        return self.o_proj(paddle.matmul(weights, v).transpose([0, 2, 1, 3]).reshape([batch, length, width]))


class Gated(nn.Layer):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, inner, bias_attr=False)
        self.up_proj = nn.Linear(width, inner, bias_attr=False)
        self.down_proj = nn.Linear(inner, width, bias_attr=False)
        self.act = nn.Silu()

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.act(self.gate_proj(x)) * self.up_proj(x))


class Experts(nn.Layer):
    def __init__(self, width: int, inner: int, count: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, count, bias_attr=False)
        self.experts = nn.LayerList([Gated(width, inner) for _ in range(count)])

    def forward(self, x: Tensor) -> Tensor:
        scores = F.softmax(self.gate(x), -1)
        best = paddle.topk(scores, 2, -1)[0][..., -1:]
        chosen = paddle.where(scores >= best, scores, paddle.zeros_like(scores))
        chosen = chosen / chosen.sum(-1, keepdim=True)
        total = paddle.zeros_like(x)
        for number, expert in enumerate(self.experts):
            total = total + expert(x) * chosen[..., number : number + 1]
        return total


class Layer(nn.Layer):
    def __init__(self, width: int, experts: int) -> None:
        super().__init__()
        self.input_norm = RMSNorm(width)
        self.attention = GroupedAttention(width, 4, 2)
        self.middle_norm = RMSNorm(width)
        self.mlp = Experts(width, 24, experts) if experts else Gated(width, 48)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attention(self.input_norm(x), cos, sin, mask)
        return x + self.mlp(self.middle_norm(x))


class Rotary(nn.Layer):
    def __init__(self, size: int, theta: float = 100.0) -> None:
        super().__init__()
        self.size, self.theta = size, theta

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rates = self.theta ** (paddle.arange(0, self.size, 2).astype(x.dtype) * -1.0 / self.size)
        angles = paddle.arange(x.shape[1]).astype(x.dtype).unsqueeze(-1) * rates
        angles = paddle.concat([angles, angles], -1)
        return paddle.cos(angles), paddle.sin(angles)


class Llama(nn.Layer):
    def __init__(self, experts: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(60, 32)
        self.rotary = Rotary(8)
        self.layers = nn.LayerList([Layer(32, experts) for _ in range(2)])
        self.norm = RMSNorm(32)
        self.head = nn.Linear(32, 60, bias_attr=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        cos, sin = self.rotary(x)
        mask = paddle.triu(paddle.full([ids.shape[1], ids.shape[1]], -1e9), 1)
        for layer in self.layers:
            x = layer(x, cos, sin, mask)
        return self.head(self.norm(x))


class ConvBlock(nn.Layer):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2D(channels, channels, 3, padding=1, bias_attr=False)
        self.bn1 = nn.BatchNorm2D(channels)
        self.conv2 = nn.Conv2D(channels, channels, 3, padding=1, groups=2)
        self.bn2 = nn.BatchNorm2D(channels)
        self.act = nn.ReLU()
        self.squeeze = nn.Linear(channels, channels // 2)
        self.excite = nn.Linear(channels // 2, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
        weights = F.sigmoid(self.excite(F.relu(self.squeeze(y.mean([2, 3])))))
        return self.act(x + y * weights.reshape([y.shape[0], -1, 1, 1]))


class Cnn(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2D(3, 8, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(ConvBlock(8), ConvBlock(8))
        self.pool = nn.MaxPool2D(2)
        self.norm = nn.GroupNorm(2, 8)
        self.fc = nn.Linear(8 * 16, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.pool(self.blocks(self.stem(image)))
        return self.fc(self.norm(x).reshape([x.shape[0], -1]))


class Gru(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, 16)
        self.gru = nn.GRU(16, 16)
        self.norm = nn.LayerNorm(16)
        self.dense = nn.Linear(16, 32)
        self.out = nn.Linear(32, 12)

    def forward(self, ids: Tensor) -> dict[str, Tensor]:
        x = self.embed(ids)
        y, last = self.gru(x)
        scores = self.out(paddle.tanh(self.dense(self.norm(y + x))))
        return {"scores": scores, "last": last}


def turned(x: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return paddle.concat([x[..., half:] * -1.0, x[..., :half]], -1)


def llama(experts: int = 0) -> nn.Layer:
    paddle.seed(0)
    return spread(Llama(experts))


def cnn(training: bool = True) -> nn.Layer:
    paddle.seed(0)
    model = spread(Cnn())
    model.train() if training else model.eval()
    return model


def gru() -> nn.Layer:
    paddle.seed(0)
    return spread(Gru())


def spread(model: nn.Layer) -> nn.Layer:
    """Make what starts as ones and zeros random, as in torch_small.py: base of one pair is raw of another."""
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.set_value(parameter + (paddle.rand(parameter.shape) * 0.4 - 0.2))
    return model
