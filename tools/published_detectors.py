"""EfficientDet-Lite in PyTorch, for the work of published detectors.

The structure is that of Tan, Pang and Le, EfficientDet (2020, arXiv 1911.09070): an
EfficientNet-Lite, a bidirectional pyramid of five levels, and two heads. The sizes are those of
`efficientdet_lite0` to `efficientdet_lite4` in google/automl, efficientdet/hparams_config.py. Batch
norms are left out, because converters fold them. The selection of boxes that follows the network
has no weights and is not counted.
"""

from __future__ import annotations

import dataclasses

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 90  # of COCO
ANCHORS = 9  # three scales times three aspect ratios
BOX = 4  # coordinates


@dataclasses.dataclass(frozen=True)
class Size:
    """One EfficientDet-Lite. `cells`: of the pyramid; `depth`: convolutions of a head."""

    backbone: str
    px: int
    channels: int
    cells: int
    depth: int


SIZES = {
    "efficientdet-lite0": Size("tf_efficientnet_lite0", 320, 64, 3, 3),
    "efficientdet-lite1": Size("tf_efficientnet_lite1", 384, 88, 4, 3),
    "efficientdet-lite2": Size("tf_efficientnet_lite2", 448, 112, 5, 3),
    "efficientdet-lite3": Size("tf_efficientnet_lite3", 512, 160, 6, 4),
    "efficientdet-lite3x": Size("tf_efficientnet_lite3", 640, 200, 6, 4),
    "efficientdet-lite4": Size("tf_efficientnet_lite4", 640, 224, 7, 4),
}


class Separable(nn.Module):
    """A 3 x 3 depthwise convolution and a 1 x 1 convolution."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, out, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """[batch, channels, height, width] to [batch, out, height, width]."""
        out: Tensor = self.pointwise(self.depthwise(maps))
        return out


class Cell(nn.Module):
    """One cell of the pyramid: four nodes from coarse to fine, and four back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.nodes = nn.ModuleList(Separable(channels, channels) for _ in range(8))

    def forward(self, levels: list[Tensor], again: list[Tensor]) -> list[Tensor]:
        """`levels`: five maps, fine to coarse. `again`: the three in the middle, for the way
        back.
        """
        down = [levels[4]]
        for node, level in zip(self.nodes[:4], levels[3::-1], strict=True):
            larger = functional.interpolate(down[0], size=level.shape[2:])
            down.insert(0, node(functional.relu6(level + larger)))
        up = [down[0]]
        for node, inner, level in zip(self.nodes[4:7], down[1:4], again, strict=True):
            up.append(node(functional.relu6(level + inner + _halved(up[-1]))))
        up.append(self.nodes[7](functional.relu6(levels[4] + _halved(up[-1]))))
        return up


def _halved(maps: Tensor) -> Tensor:
    return functional.max_pool2d(maps, 3, 2, 1)


class Detector(nn.Module):
    """An EfficientDet-Lite with random weights: its scores and boxes for all anchors."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.backbone = timm.create_model(size.backbone, features_only=True, out_indices=(2, 3, 4))
        inputs = self.backbone.feature_info.channels()
        made = [*inputs, inputs[-1], *inputs[1:]]
        self.lateral = nn.ModuleList(nn.Conv2d(count, size.channels, 1) for count in made)
        self.cells = nn.ModuleList(Cell(size.channels) for _ in range(size.cells))
        self.heads = nn.ModuleList(
            nn.ModuleList(
                [
                    *(Separable(size.channels, size.channels) for _ in range(size.depth)),
                    Separable(size.channels, ANCHORS * outputs),
                ]
            )
            for outputs in (CLASSES, BOX)
        )

    def forward(self, image: Tensor) -> Tensor:
        """An image [batch, 3, px, px] to all scores and boxes [batch, values]."""
        fine = self.backbone(image)
        levels = [conv(maps) for conv, maps in zip(self.lateral, fine, strict=False)]
        levels.append(_halved(self.lateral[3](fine[-1])))
        levels.append(_halved(levels[-1]))
        again = [self.lateral[4](fine[1]), self.lateral[5](fine[2]), levels[3]]
        for cell in self.cells:
            levels = cell(levels, again)
            again = levels[1:4]
        scores = [torch.sigmoid(self._head(self.heads[0], level)) for level in levels]
        boxes = [self._head(self.heads[1], level) for level in levels]
        return torch.cat([part.flatten(1) for part in (*scores, *boxes)], 1)

    @staticmethod
    def _head(layers: nn.Module, level: Tensor) -> Tensor:
        *inner, last = layers.children()
        for layer in inner:
            level = functional.relu6(layer(level))
        out: Tensor = last(level)
        return out
