"""ResNet-50 of PaddlePaddle's own model zoo; on request with a bug planted in one block."""

from __future__ import annotations

import paddle
from paddle import nn
from paddle.vision.models import resnet50


def build(seed: int = 0, plant: str = "") -> nn.Layer:
    """Make paddle.vision's ResNet-50 with random weights.

    plant: "relu6" puts ReLU6 where the second block of layer2 has its ReLU, as a port from a mobile model might.
    """
    if plant not in ("", "relu6"):
        raise ValueError(f"plant is '' or 'relu6', got {plant!r}")
    paddle.seed(seed)
    model = resnet50(pretrained=False)
    if plant == "relu6":
        model.layer2[1].relu = nn.ReLU6()
    return model
