"""Small networks and images for tests of quantization and export.

Each network has operators that a MobileNet does not have. The images have structure that depends on
their class, so that calibration and training see more than noise.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from edgekd.core.artifacts import QuantNetwork
from edgekd.quantization.qat_network import QatNetwork, calibrate, finish, prepare
from edgekd.tflite.int8_rules import Int8Rules

# ImageNet's mean and standard deviation. They differ between channels, so that folding them into
# the first convolution is not the same for every channel.
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
PX = 32


def block(
    inputs: int, outputs: int, stride: int = 1, act: type[nn.Module] = nn.ReLU6
) -> nn.Sequential:
    """A 3 x 3 convolution, a batch norm and an activation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), act()
    )


class Head(nn.Module):
    """Global average pooling and a linear classifier."""

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
    """A padded max pool over negative values, and a dilated depthwise convolution.

    The depthwise convolution has a depth multiplier of 2.
    """

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
    """A map flattened into two linear layers, with dropout and a batch size read from the input."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.hidden, self.drop = block(3, 8, 4), nn.Linear(8 * 64, 16), nn.Dropout(0.2)
        self.fc = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.fc(self.drop(torch.relu(self.hidden(x.view(x.size(0), -1)))))


class HardExcite(nn.Module):
    """Hard-swish, and a squeeze-excite whose gate is a hard-sigmoid.

    The squeeze-excite becomes MEAN, two CONV_2D and MUL. The gate needs no operator of its own.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.reduce, self.expand = (
            block(3, 8, 2, nn.Hardswish),
            nn.Conv2d(8, 4, 1),
            nn.Conv2d(4, 8, 1),
        )
        self.gate, self.head = nn.Hardsigmoid(), Head(8)
        with torch.no_grad():
            self.expand.weight *= 100  # so that the gate saturates at both ends

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(
            x * self.gate(self.expand(torch.relu(self.reduce(x.mean((2, 3), keepdim=True)))))
        )


class GateOfSum(nn.Module):
    """A hard-sigmoid after an addition, layer scale, and a constant added to a map.

    The hard-sigmoid does not follow a layer with weights, so that it cannot be fused into one.
    """

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
    """A ghost module, and a channel split with a SiLU on one part.

    The ghost module concatenates a map with a depthwise convolution of the same map, and keeps an
    odd number of channels.
    """

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
    """Convolutions with 2 and with 4 groups: one is dilated, one has TensorFlow's SAME padding."""

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
    """Average pools: padding counted, padding not counted, ceil mode, and two adaptive pools.

    The windows of the adaptive pools are all of one size.
    """

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
    """A 4 x 2 map, flattened, then a hard-swish whose output two linear layers read."""

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
    """A convolution with weight standardization and one gain per channel, as in timm.

    Source: Qiao et al. 2019, arXiv 1903.10520.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, 3, stride, 1)
        self.gain = nn.Parameter(torch.rand(outputs, 1, 1, 1) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        flat, gain = self.weight.reshape(1, self.out_channels, -1), self.gain.view(-1)
        flat = nn.functional.batch_norm(flat, None, None, weight=gain * 0.2, training=True)
        return self._conv_forward(x, flat.reshape_as(self.weight), self.bias)


class ComputedWeights(nn.Module):
    """Weights that are computed from parameters.

    They come from weight standardization, with and without a batch norm after the convolution, and
    from torch's weight normalization.
    """

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
    """Noisy waves whose color and slant depend on the class.

    Returns (images uint8 [count, px, px, 3], labels int64 [count]).
    """
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
    """uint8 images [n, px, px, c] as the normalized float32 input [n, c, px, px]."""
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float() / 255
    return (x - torch.tensor(mean).view(1, -1, 1, 1)) / torch.tensor(std).view(1, -1, 1, 1)


def artifact(network: QatNetwork, arch: str = "small") -> QuantNetwork:
    """The artifact of a calibrated network, as the stage `qat` returns it."""
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
    """A network of SMALL, calibrated on 16 images.

    Returns (calibrated network, float network, calibration images). `rules` are the fields of
    Int8Rules.
    """
    torch.manual_seed(0)
    model = SMALL[name]().eval()
    network = prepare(model, PX, MEAN, STD, Int8Rules(**rules))
    pixels, _ = images(16, PX)
    calibrate(network, [normalised(pixels, MEAN, STD)])
    return network, model, pixels
