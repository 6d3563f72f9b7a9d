"""Small networks, each with ops that a MobileNet does not have, and images with structure, for the tests of the int8 route."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from edgekd.core.artifacts import QuantNetwork
from edgekd.quantization.qat_network import QatNetwork, calibrate, finish, prepare
from edgekd.tflite.int8_rules import Int8Rules

MEAN, STD = (
    [0.485, 0.456, 0.406],
    [0.229, 0.224, 0.225],
)  # ImageNet's: the channels differ, so they must be folded
PX = 32


def block(
    inputs: int, outputs: int, stride: int = 1, act: type[nn.Module] = nn.ReLU6
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), act()
    )


class Head(nn.Module):
    def __init__(self, channels: int, classes: int = 3) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(x).flatten(1))


class Branches(nn.Module):
    """Concatenation and a residual addition, with ReLU and with ReLU6."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right = block(3, 8, 2), block(8, 8), block(8, 8, act=nn.ReLU)
        self.head = Head(16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(torch.cat([torch.relu(self.left(x) + x), self.right(x)], 1))


class Pools(nn.Module):
    """Max pooling with a border, string padding, average pooling, and a head written as a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.max, self.avg = block(3, 8), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2)
        self.conv, self.fc = nn.Conv2d(8, 16, 3, padding="same"), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.avg(self.conv(self.max(self.stem(x)))).mean((2, 3)))


class NegativePool(nn.Module):
    """A max pool with a border over values below zero, and a dilated depthwise convolution with a multiplier of 2."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.max = nn.Conv2d(3, 8, 3, 1, 1), nn.MaxPool2d(3, 2, 1)
        self.depthwise, self.head = nn.Conv2d(8, 16, 3, 1, 2, dilation=2, groups=8), Head(16)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.depthwise(self.max(self.conv(x)))))


class Excite(nn.Module):
    """Squeeze-excite: MEAN, LOGISTIC and a broadcast MUL."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.pool = block(3, 8, 2), nn.AdaptiveAvgPool2d(1)
        self.reduce, self.expand, self.head = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1), Head(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x * torch.sigmoid(self.expand(torch.relu(self.reduce(self.pool(x))))))


class LoneActivation(nn.Module):
    """A ReLU whose input is also used elsewhere, so that it cannot be fused."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.point, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 1), Head(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.head(self.point(torch.relu(x)) + x)


class Flattened(nn.Module):
    """A map flattened into two linear layers, with a batch size asked for and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.hidden, self.drop = block(3, 8, 4), nn.Linear(8 * 64, 16), nn.Dropout(0.2)
        self.fc = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.fc(self.drop(torch.relu(self.hidden(x.view(x.size(0), -1)))))


class HardExcite(nn.Module):
    """Hard-swish, and a squeeze-excite whose gate is a hard-sigmoid: MEAN, two CONV_2D and MUL, no op for the gate."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.reduce, self.expand = (
            block(3, 8, 2, nn.Hardswish),
            nn.Conv2d(8, 4, 1),
            nn.Conv2d(4, 8, 1),
        )
        self.gate, self.head = nn.Hardsigmoid(), Head(8)
        with torch.no_grad():
            self.expand.weight *= 100  # so that the gate reaches both its ends

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(
            x * self.gate(self.expand(torch.relu(self.reduce(x.mean((2, 3), keepdim=True)))))
        )


class GateOfSum(nn.Module):
    """A hard-sigmoid that follows an addition, and so no layer of its own; layer scale; a number added to a map."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.head = block(3, 8, 2), nn.Conv2d(8, 8, 3, padding=1), Head(8)
        self.gamma = nn.Parameter(torch.rand(8, 1, 1) + 0.1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.conv(x) * self.gamma
        return self.head(torch.nn.functional.hardsigmoid(x + x) + 0.25)


class LoneNorms(nn.Module):
    """Batch norms after an addition and, with a ReLU behind it, after a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = block(3, 8, 2), nn.Conv2d(8, 8, 3, padding=1)
        self.sum_norm, self.cat_norm, self.head = nn.BatchNorm2d(8), nn.BatchNorm2d(16), Head(16)
        for norm in (self.sum_norm, self.cat_norm):
            norm.running_mean.normal_(0, 0.3)
            norm.running_var.uniform_(0.2, 3)
            nn.init.normal_(norm.weight)  # both signs
            nn.init.normal_(norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([x, self.sum_norm(x + self.conv(x))], 1)
        return self.head(torch.relu(self.cat_norm(x)))


class Ghost(nn.Module):
    """A ghost module: a map beside a cheap copy of itself, cut to an odd number of channels; channels split and swished."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.cheap = block(3, 8, 2), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.point, self.head = nn.Conv2d(13, 12, 1), Head(12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([x, torch.relu(self.cheap(x))], 1)[:, :13]
        left, right = self.point(x).split([4, 8], 1)
        return self.head(torch.cat([nn.functional.silu(left), right], 1))


class Grouped(nn.Module):
    """Convolutions in 2 and in 4 groups, one dilated, with TensorFlow's asymmetric border."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.two = block(3, 8, 2), nn.Conv2d(8, 16, 3, 1, 2, dilation=2, groups=2)
        self.pad, self.four, self.head = (
            nn.ZeroPad2d((0, 1, 0, 1)),
            nn.Conv2d(16, 16, 3, 2, groups=4),
            Head(16),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.four(self.pad(torch.relu(self.two(self.stem(x)))))))


class Borders(nn.Module):
    """Average pools: a border that is counted, one that is not, a ragged end, and adaptive ones with equal windows."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.counted = block(3, 8, 2), nn.AvgPool2d(3, 1, 1)
        self.inside, self.ragged = (
            nn.AvgPool2d(3, 1, 1, count_include_pad=False),
            nn.AvgPool2d(3, 2, ceil_mode=True),
        )
        self.even, self.same, self.head = nn.AdaptiveAvgPool2d(4), nn.AdaptiveAvgPool2d(4), Head(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.same(self.even(self.ragged(self.inside(self.counted(self.stem(x)))))))


class FlatMaps(nn.Module):
    """A 4 x 2 map flattened, through a hard-swish, into two linear layers that both read it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.pool = (
            nn.Sequential(nn.Conv2d(3, 6, 4, 4), nn.ReLU6()),
            nn.MaxPool2d((2, 4)),
        )
        self.left, self.right = nn.Linear(48, 3), nn.Linear(48, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.nn.functional.hardswish(self.pool(self.stem(x)).flatten(1))
        return self.left(x) + self.right(x)


class StandardizedConv(nn.Conv2d):
    """A convolution with weight standardization (Qiao et al. 2019, arXiv 1903.10520) and a gain a channel, as timm has."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, 3, stride, 1)
        self.gain = nn.Parameter(torch.rand(outputs, 1, 1, 1) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        flat, gain = self.weight.reshape(1, self.out_channels, -1), self.gain.view(-1)
        flat = nn.functional.batch_norm(flat, None, None, weight=gain * 0.2, training=True)
        return self._conv_forward(x, flat.reshape_as(self.weight), self.bias)


class ComputedWeights(nn.Module):
    """Weights that are computed from parameters: standardized, then normalized with batch norm, and by parametrization."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = StandardizedConv(3, 8, 2), StandardizedConv(8, 8)
        self.norm = nn.BatchNorm2d(8)
        self.norm.running_mean.normal_(0, 0.3)
        self.point = nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 16, 1))
        self.head = Head(16)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        return self.head(torch.relu(self.point(x + torch.relu(self.norm(self.conv(x))))))


SMALL: dict[str, type[nn.Module]] = {
    cls.__name__: cls
    for cls in (
        Branches,
        Pools,
        NegativePool,
        Excite,
        LoneActivation,
        Flattened,
        HardExcite,
        GateOfSum,
        LoneNorms,
        Ghost,
        Grouped,
        Borders,
        FlatMaps,
        ComputedWeights,
    )
}


def images(count: int, px: int, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 [count, px, px, 3], labels): blobs whose colour and slant tell the class, under noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    rows, columns = np.mgrid[0:px, 0:px] / px
    out = np.empty((count, px, px, 3), np.uint8)
    for index, label in enumerate(labels):
        wave = np.sin(2 * np.pi * (rows * (1 + label) + columns * (classes - label) + rng.random()))
        base = 100 + 60 * np.eye(3)[label % 3]
        out[index] = np.clip(base + 50 * wave[..., None] + rng.normal(0, 12, (px, px, 3)), 0, 255)
    return out, labels


def normalised(pixels: np.ndarray, mean: list[float], std: list[float]) -> Tensor:
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float() / 255
    return (x - torch.tensor(mean).view(1, -1, 1, 1)) / torch.tensor(std).view(1, -1, 1, 1)


def artifact(network: QatNetwork, arch: str = "small") -> QuantNetwork:
    done = finish(network)
    return QuantNetwork(
        arch=arch,
        options={},
        px=network.px,
        mean=network.mean,
        std=network.std,
        history=[],
        rules=network.rules.to_dict(),
        ranges=done.ranges,
        layers=done.layers,
        facts={},
        state=done.state,
    )


def calibrated(name: str, **rules: str) -> tuple[QatNetwork, nn.Module, np.ndarray]:
    """(network after calibration, the float network, the images it saw)."""
    torch.manual_seed(0)
    model = SMALL[name]().eval()
    network = prepare(model, PX, MEAN, STD, Int8Rules(**rules))
    pixels, _ = images(16, PX)
    calibrate(network, [normalised(pixels, MEAN, STD)])
    return network, model, pixels
