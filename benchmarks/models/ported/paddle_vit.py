"""The port of torch_vit.py in paddle, with the bugs that it may have."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from benchmarks.models.ported.paddle_parts import attend, mode


class Embed(nn.Layer):
    def __init__(self, width: int, bug: str) -> None:
        super().__init__()
        normal = nn.initializer.Normal(0.0, 1.0)
        self.patch = nn.Conv2D(3, width, 4, stride=4)
        self.cls = self.create_parameter([1, 1, width], default_initializer=normal)
        self.position = self.create_parameter([1, 17, width], default_initializer=normal)
        self._bug = bug

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch(image).flatten(2)
        turned = [x.shape[0], x.shape[2], x.shape[1]]
        x = x.reshape(turned) if self._bug == "patches_reshaped" else x.transpose([0, 2, 1])
        parts = [self.cls.expand([x.shape[0], -1, -1]), x]
        position = self.position
        if self._bug == "cls_token_last":
            parts.reverse()
        if self._bug == "positions_shifted":
            position = paddle.roll(position, 1, 1)
        return paddle.concat(parts, 1) + position


class Attention(nn.Layer):
    def __init__(self, width: int, heads: int, bug: str) -> None:
        super().__init__()
        self.heads, self._bug = heads, bug
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        size = width // self.heads
        scale = size**-0.5
        if self._bug == "scale_off_by_1e-5":
            scale *= 1 + 1e-5
        if self._bug == "scale_by_size":
            scale = 1 / size
        if self._bug == "qkv_by_head":
            q, k, v = self.qkv(x).reshape([batch, length, self.heads, 3, size]).transpose([3, 0, 2, 1, 4])
        else:
            q, k, v = self.qkv(x).reshape([batch, length, 3, self.heads, size]).transpose([2, 0, 3, 1, 4])
        if self._bug == "softmax_axis":
            x = paddle.matmul(F.softmax(paddle.matmul(q, k, transpose_y=True) * scale, -2), v)
        else:
            x = attend(q, k, v, scale=scale)
        if self._bug != "heads_not_transposed":
            x = x.transpose([0, 2, 1, 3])
        return self.proj(x.reshape([batch, length, width]))


class Mlp(nn.Layer):
    def __init__(self, width: int, bug: str) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.act = nn.GELU(approximate=bug == "gelu_tanh")
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class Scale(nn.Layer):
    def __init__(self, width: int, bug: str = "") -> None:
        super().__init__()
        self.gamma = self.create_parameter([width], default_initializer=nn.initializer.Constant(1.0))
        self._bug = bug

    def forward(self, x: Tensor) -> Tensor:
        return x if self._bug == "layer_scale_missing" else x * self.gamma


class Block(nn.Layer):
    def __init__(self, width: int, heads: int, bug: str = "") -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, epsilon=1e-5 if bug == "layer_norm_eps" else 1e-6)
        self.attn = Attention(width, heads, bug)
        self.scale1 = Scale(width)
        self.norm2 = nn.LayerNorm(width, epsilon=1e-6)
        self.mlp = Mlp(width, bug)
        self.scale2 = Scale(width, bug)
        self._bug = bug

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.scale1(self.attn(self.norm1(x)))
        if self._bug == "post_norm":
            return self.norm2(x + self.scale2(self.mlp(x)))
        return x + self.scale2(self.mlp(self.norm2(x)))


class First(nn.Layer):
    def __init__(self, bug: str) -> None:
        super().__init__()
        self._bug = bug

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1) if self._bug == "mean_for_cls_token" else x[:, 0]


class ViT(nn.Layer):
    def __init__(self, width: int, depth: int, heads: int, bug: str) -> None:
        super().__init__()
        at = 0 if bug in ("layer_norm_eps", "qkv_by_head", "scale_by_size", "heads_not_transposed") else 1
        self.embed = Embed(width, bug)
        self.blocks = nn.LayerList([Block(width, heads, bug * (number == at)) for number in range(depth)])
        self.norm = nn.LayerNorm(width, epsilon=1e-6)
        self.pool = First(bug)
        self.head = nn.Linear(width, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.embed(image)
        for block in self.blocks:
            x = block(x)
        return self.head(self.pool(self.norm(x)))


def build(
    width: int = 32, depth: int = 3, heads: int = 4, training: bool = True, bug: str = "", seed: int = 0
) -> nn.Layer:
    paddle.seed(seed)
    return mode(ViT(width, depth, heads, bug), training)
