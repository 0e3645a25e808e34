"""ResNet-50 in PyTorch, in torchvision's layout: the same parameter names, in-place ReLU and stride in the 3x3 convolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside an identity; widens to 4 x width."""

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int = 1, downsample: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * self.expansion, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    """Photographs [N, 3, H, W] to class scores [N, 1000]."""

    def __init__(self, depths: tuple[int, int, int, int] = (3, 4, 6, 3), classes: int = 1000) -> None:
        super().__init__()
        self.channels = 64
        self.conv1 = nn.Conv2d(3, 64, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = self._stage(64, depths[0], stride=1)
        self.layer2 = self._stage(128, depths[1], stride=2)
        self.layer3 = self._stage(256, depths[2], stride=2)
        self.layer4 = self._stage(512, depths[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(512 * Bottleneck.expansion, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))

    def _stage(self, width: int, depth: int, stride: int) -> nn.Sequential:
        out = width * Bottleneck.expansion
        downsample = nn.Sequential(
            nn.Conv2d(self.channels, out, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(out)
        )
        blocks = [Bottleneck(self.channels, width, stride, downsample)]
        blocks += [Bottleneck(out, width) for _ in range(depth - 1)]
        self.channels = out
        return nn.Sequential(*blocks)


def build(seed: int = 0) -> ResNet:
    """Make a ResNet-50 that behaves like a trained one, from random numbers.

    Batch normalisations get scales, shifts and running statistics of their own, so that one that is not carried over shows.
    The last scale of each block is small, as training makes it, so that activations do not explode in eval mode.
    """
    model = ResNet()
    generator = torch.Generator().manual_seed(seed)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            low, high = (0.2, 0.6) if name.endswith("bn3") else (1.0, 3.0) if "downsample" in name else (0.5, 1.5)
            nn.init.uniform_(module.weight, low, high, generator=generator)
            nn.init.normal_(module.bias, 0.0, 0.2, generator=generator)
            nn.init.normal_(module.running_mean, 0.0, 0.2, generator=generator)
            nn.init.uniform_(module.running_var, 0.5, 2.0, generator=generator)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.02, generator=generator)
            nn.init.normal_(module.bias, 0.0, 0.02, generator=generator)
    return model
