"""The port of torch_unet.py in paddle, with the bugs that it may have."""

from __future__ import annotations

import math

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from benchmarks.models.ported.paddle_parts import mode as in_mode


class Time(nn.Layer):
    def __init__(self, width: int, bug: str) -> None:
        super().__init__()
        self.width, self._bug = width, bug
        self.fc = nn.Linear(width, width)

    def forward(self, t: Tensor) -> Tensor:
        half = self.width // 2
        steps = half - 1 if self._bug == "time_rates_shifted" else half
        rates = paddle.exp(paddle.arange(half).astype(t.dtype) * (-math.log(1000.0) / steps))
        angles = t.unsqueeze(-1) * rates
        parts = [angles.cos(), angles.sin()]
        if self._bug == "sine_before_cosine":
            parts.reverse()
        return self.fc(paddle.concat(parts, -1))


class HalfGroupNorm(nn.GroupNorm):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.astype("float16").astype("float32"))


class Block(nn.Layer):
    def __init__(self, inside: int, width: int, time: int, bug: str = "") -> None:
        super().__init__()
        groups = 8 if bug == "group_count" else 4
        norm = HalfGroupNorm if bug == "group_norm_in_half" else nn.GroupNorm
        self.norm = norm(groups, inside, epsilon=1e-6 if bug == "group_norm_eps" else 1e-5)
        self.act = nn.ReLU() if bug == "relu_for_silu" else nn.Silu()
        self.conv = nn.Conv2D(inside, width, 3, padding=1)
        self.time = nn.Linear(time, width)
        self.short = nn.Conv2D(inside, width, 1)
        self._bug = bug

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        y = self.conv(self.act(self.norm(x)))
        if self._bug != "time_not_added":
            y = y + self.time(t).unsqueeze([2, 3])
        x = self.short(x) + y
        return x if self._bug == "residual_scale_missing" else x * 0.7071


class Down(nn.Layer):
    def __init__(self, width: int, bug: str = "") -> None:
        super().__init__()
        self.conv = nn.Conv2D(width, width, 3, stride=2, padding=0 if bug == "padded_on_one_side" else 1)
        self._bug = bug

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, [0, 1, 0, 1]) if self._bug == "padded_on_one_side" else x)


class Up(nn.Layer):
    def __init__(self, mode: str, bug: str) -> None:
        super().__init__()
        self.mode = "nearest" if bug == "nearest_for_bilinear" else mode
        self._bug = bug

    def forward(self, x: Tensor) -> Tensor:
        if self.mode == "nearest":
            return F.interpolate(
                x, scale_factor=2, mode="bilinear" if self._bug == "bilinear_for_nearest" else "nearest"
            )
        align = {"align_corners": {"align_corners": True}, "align_mode": {"align_mode": 1}}.get(self._bug, {})
        return F.interpolate(x, scale_factor=2, mode=self.mode, **align)


class UNet(nn.Layer):
    def __init__(self, width: int, bug: str) -> None:
        super().__init__()
        first = bug * (bug in ("group_count", "residual_scale_missing"))
        second = bug * (bug in ("relu_for_silu", "time_not_added"))
        middle = bug * (bug in ("group_norm_eps", "group_norm_in_half"))
        self.time = Time(16, bug)
        self.stem = nn.Conv2D(3, width, 3, padding=1)
        self.down0, self.pool0 = Block(width, width, 16, first), Down(width, bug)
        self.down1, self.pool1 = Block(width, 2 * width, 16, second), Down(2 * width)
        self.middle = Block(2 * width, 2 * width, 16, middle)
        self.up1 = Up("nearest", bug * (bug == "bilinear_for_nearest"))
        self.join1 = Block(4 * width, width, 16)
        self.up0 = Up("bilinear", bug * (bug != "bilinear_for_nearest"))
        self.join0 = Block(2 * width, width, 16)
        self.out = nn.Conv2D(width, 3, 3, padding=1)
        self._bug = bug

    def forward(self, image: Tensor, t: Tensor) -> Tensor:
        t = self.time(t)
        first = self.down0(self.stem(image), t)
        second = self.down1(self.pool0(first), t)
        x = self.middle(self.pool1(second), t)
        if self._bug == "skip_changed_in_place":
            with paddle.no_grad():
                second.scale_(1.5)
        parts = [self.up1(x), second]
        if self._bug == "skip_concatenated_first":
            parts.reverse()
        x = self.join1(paddle.concat(parts, 1), t)
        if self._bug == "skip_detached":
            first = first.detach()
        x = self.join0(paddle.concat([self.up0(x), first], 1), t)
        return self.out(x)


def build(width: int = 8, training: bool = True, bug: str = "", seed: int = 0) -> nn.Layer:
    paddle.seed(seed)
    return in_mode(UNet(width, bug), training)
