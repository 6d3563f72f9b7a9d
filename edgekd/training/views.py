"""Random views of images as functions of a seed, so that teacher and student see the same.

A view of an image is one row of a table that is drawn from the seed and the number of the view: an
affine crop, a photometric change, an erased rectangle, a mixup partner. Every batch, in any order
and at any resolution, renders the same view. Cached answers of a teacher are therefore equal to
live ones.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edgekd.settings.recipe import ViewsConfig

# Images are first shrunk (antialiased) to this multiple of the target size, so that zooming in
# stays sharp.
MARGIN = 1.2
# Value of erased pixels: the middle of the range, for every image and both networks.
GREY = 0.5


@dataclasses.dataclass(frozen=True)
class Views:
    """One view of each of n images. All tensors are [n] and float32 unless stated.

    `affine`: [n, 2, 3], as F.affine_grid takes it. `gain`, `offset`: contrast and brightness.
    `blur`: share of a 3 x 3 average. `noise`: standard deviation, for inputs in 0..1. `erase`: [n,
    4], left, top, right and bottom as shares of the side; an empty box erases nothing. `partner`:
    int64, the image that is mixed in. `share`: of the image itself, 0.5 to 1; its partner has the
    rest.
    """

    affine: Tensor
    gain: Tensor
    offset: Tensor
    gamma: Tensor
    blur: Tensor
    noise: Tensor
    erase: Tensor
    partner: Tensor
    share: Tensor

    def at(self, rows: Tensor) -> Views:
        """The same view of some of the images."""
        return Views(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))


def generator(*parts: object) -> torch.Generator:
    """A generator whose stream depends on all parts and on nothing else.

    The parts are hashed with sha256, so that neighbouring seeds give unrelated streams.
    """
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") & (2**63 - 1))


def draw(config: ViewsConfig, seed: int, view: int, count: int, among: Tensor) -> Views:
    """View number `view` of each of `count` images.

    `among`: the rows that mixup partners are drawn from, int64 [m].
    """
    stream = generator("views", seed, view)

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(count).uniform_(low, high, generator=stream)

    def chance(share: float) -> Tensor:
        return (uniform(0, 1) < share).float()

    zoom = 1 + uniform(-config.scale, config.scale)
    stretch = (uniform(-config.aspect, config.aspect) / 2).exp()
    angle = uniform(-config.rotate, config.rotate) * (math.pi / 180)
    mirror = 1 - 2 * chance(config.flip)
    cos, sin = angle.cos(), angle.sin()
    shift_x, shift_y = (
        uniform(-2 * config.shift, 2 * config.shift),
        uniform(-2 * config.shift, 2 * config.shift),
    )
    affine = torch.stack(
        [  # from output to input coordinates in -1 .. 1, as F.grid_sample uses them
            torch.stack([cos * zoom * stretch * mirror, -sin * zoom / stretch, shift_x], -1),
            torch.stack([sin * zoom * stretch * mirror, cos * zoom / stretch, shift_y], -1),
        ],
        1,
    )
    side = uniform(0.15, 0.4) * chance(config.erase)  # 2 to 16 % of the area
    left, top = uniform(0, 1) * (1 - side), uniform(0, 1) * (1 - side)
    if config.mixup > 0:
        numbers = np.random.default_rng(int(torch.randint(2**31, (1,), generator=stream)))
        share = torch.from_numpy(numbers.beta(config.mixup, config.mixup, count)).float()
        share = torch.maximum(share, 1 - share)
    else:
        share = torch.ones(count)
    return Views(
        affine=affine,
        gain=1 + uniform(-config.contrast, config.contrast),
        offset=uniform(-config.brightness, config.brightness),
        gamma=uniform(-config.gamma, config.gamma).exp(),
        blur=chance(config.blur),
        noise=uniform(0, config.noise),
        erase=torch.stack([left, top, left + side, top + side], -1),
        partner=among[torch.randint(len(among), (count,), generator=stream)],
        share=share,
    )


def unit(pixels: Tensor) -> Tensor:
    """Pixels, uint8 (0..255) or uint16 (0..65535), as float32 in 0..1."""
    return pixels.float() / (255 if pixels.dtype == torch.uint8 else 65_535)


def render(pixels: Tensor, views: Views, px: int) -> Tensor:
    """The view of each image, float32 [b, c, px, px] in 0..1, without mixup (see `mix`).

    `pixels`: uint8 or uint16 [b, c, h, w].
    """
    base = unit(pixels)
    middle = min(round(px * MARGIN), pixels.shape[-1])
    if middle < pixels.shape[-1]:
        base = F.interpolate(
            base, (middle, middle), mode="bilinear", antialias=True, align_corners=False
        )
    grid = F.affine_grid(views.affine, [len(base), base.shape[1], px, px], align_corners=False)
    image = F.grid_sample(base, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    image = _photometric(image, views)
    return _erase(image, views.erase)


def _column(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def _photometric(image: Tensor, views: Views) -> Tensor:
    soft = F.avg_pool2d(image, 3, stride=1, padding=1, count_include_pad=False)
    image = torch.lerp(image, soft, _column(views.blur))
    # The lower bound keeps pow finite.
    image = image.clamp(1e-4, 1).pow(_column(views.gamma))
    image = (image - 0.5) * _column(views.gain) + 0.5 + _column(views.offset)
    if bool(views.noise.max() > 0):
        image = image + _grain(image.shape) * _column(views.noise)
    return image.clamp(0, 1)


def _grain(shape: torch.Size) -> Tensor:
    """One fixed pattern of unit variance for each resolution, so that no batch order changes it."""
    return torch.randn(shape[-2:], generator=generator("grain", shape[-1])).expand(shape)


def _erase(image: Tensor, box: Tensor) -> Tensor:
    px = image.shape[-1]
    place = (torch.arange(px) + 0.5) / px
    inside_x = (place >= box[:, 0:1]) & (place < box[:, 2:3])
    inside_y = (place >= box[:, 1:2]) & (place < box[:, 3:4])
    hidden = (inside_y[:, None, :, None] & inside_x[:, None, None, :]).to(image.dtype)
    return torch.lerp(image, torch.full_like(image, GREY), hidden)


def mix(image: Tensor, partner: Tensor, share: Tensor) -> Tensor:
    """Mixup of two rendered batches: share * image + (1 - share) * partner."""
    return torch.lerp(partner, image, _column(share))


class Renderer:
    """Renders views of one data set, normalised for one network.

    `pixels`: uint8 or uint16 [n, c, h, w], usually a memory map. `mean`, `std`: for each channel of
    the network's input. Results are float32 [b, len(mean), px, px] in channels_last; grey is
    repeated for a network with three channels.
    """

    def __init__(self, pixels: np.ndarray, px: int, mean: list[float], std: list[float]) -> None:
        self.pixels = pixels
        self.px = px
        self.mean = torch.tensor(mean).view(1, -1, 1, 1)
        self.std = torch.tensor(std).view(1, -1, 1, 1)

    def _take(self, rows: Tensor) -> Tensor:
        return torch.from_numpy(self.pixels[rows.numpy()])

    def _normalised(self, image: Tensor) -> Tensor:
        image = image.expand(-1, len(self.mean.flatten()), -1, -1)
        return ((image - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def views(self, rows: Tensor, views: Views) -> Tensor:
        """The given view of images `rows`, int64 [b], mixed with that view of their partners."""
        image = render(self._take(rows), views.at(rows), self.px)
        share = views.share[rows]
        if bool((share < 1).any()):
            partners = views.partner[rows]
            image = mix(image, render(self._take(partners), views.at(partners), self.px), share)
        return self._normalised(image)

    def plain(self, rows: Tensor) -> Tensor:
        """The images `rows` without a random change, resized (antialiased) and normalised."""
        image = unit(self._take(rows))
        if image.shape[-1] != self.px:
            image = F.interpolate(
                image, (self.px, self.px), mode="bilinear", antialias=True, align_corners=False
            )
        return self._normalised(image)
