"""The port of torch_cnn.py in paddle, with the bugs that it may have."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from benchmarks.models.ported.paddle_parts import mode


class Block(nn.Layer):
    def __init__(self, inside: int, width: int, stride: int, bug: str = "") -> None:
        super().__init__()
        first, second = (1, stride) if bug == "stride_on_second_conv" else (stride, 1)
        dilation = 2 if bug == "conv_dilation" else 1
        pad_mode = "reflect" if bug == "conv_pads_by_reflection" else "zeros"
        self.conv1 = nn.Conv2D(inside, width, 3, stride=first, padding=dilation, dilation=dilation, bias_attr=False)
        self.bn1 = nn.BatchNorm2D(width, momentum=0.1 if bug == "bn_momentum" else 0.9)
        self.conv2 = nn.Conv2D(width, width, 3, stride=second, padding=1, padding_mode=pad_mode, bias_attr=False)
        self.bn2 = nn.BatchNorm2D(width, use_global_stats=True if bug == "bn_in_eval_mode" else None)
        self.act = nn.LeakyReLU(0.01) if bug == "leaky_relu" else nn.ReLU()
        joins = stride > 1 or inside != width
        self.short = nn.Conv2D(inside, width, 1, stride=stride, bias_attr=False) if joins else None
        self.short_bn = nn.BatchNorm2D(width) if joins else None
        self._bug = bug

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.short is not None and self.short_bn is not None:
            x = self.short_bn(self.short(x))
        if self._bug == "residual_missing":
            return self.act(y)
        if self._bug == "residual_detached":
            x = x.detach()
        return self.act(x + y)


class Stem(nn.Layer):
    def __init__(self, width: int, bug: str) -> None:
        super().__init__()
        self.conv = nn.Conv2D(3, width, 3, padding=1, bias_attr=False)
        self.bn = nn.BatchNorm2D(width, epsilon=1e-3 if bug == "bn_eps" else 1e-5)
        self.act = nn.ReLU()
        self.pool = nn.MaxPool2D(3, 2, padding=1, ceil_mode=bug == "pool_ceil_mode")

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.act(self.bn(self.conv(x))))


class Flatten(nn.Layer):
    def __init__(self, bug: str) -> None:
        super().__init__()
        self._bug = bug

    def forward(self, x: Tensor) -> Tensor:
        if self._bug == "flatten_channels_last":
            x = x.transpose([0, 2, 3, 1])
        return x.flatten(1)


class Drop(nn.Dropout):
    def forward(self, input: Tensor) -> Tensor:
        return F.dropout(input, 0.1, training=True)


class ResNet(nn.Layer):
    def __init__(self, width: int, depth: int, bug: str) -> None:
        super().__init__()
        self.stem = Stem(width, bug)
        at = 0 if bug in ("residual_missing", "bn_momentum", "conv_pads_by_reflection") else 1
        self.blocks = nn.LayerList(
            [Block(width, width, 1, bug * (at == 0)), Block(width, 2 * width, 2, bug * (at == 1))]
            + [Block(2 * width, 2 * width, 1) for _ in range(depth - 2)]
        )
        self.pool = nn.AvgPool2D(3, 2, padding=1, exclusive=bug == "pool_exclusive")
        self.flatten = Flatten(bug)
        rule = "downscale_in_infer" if bug == "dropout_downscales" else "upscale_in_train"
        self.drop = Drop(0.1) if bug == "dropout_left_on" else nn.Dropout(0.5, mode=rule)
        self.fc = nn.Linear(2 * width * 4, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        for block in self.blocks:
            x = block(x)
        return self.fc(self.drop(self.flatten(self.pool(x))))


def build(width: int = 8, depth: int = 3, training: bool = True, bug: str = "", seed: int = 0) -> nn.Layer:
    paddle.seed(seed)
    model = ResNet(width, depth, bug)
    if training:
        model.drop.p = 0.0
    return mode(model, training)
