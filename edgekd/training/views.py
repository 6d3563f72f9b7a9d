"""Random views of images as functions of a seed, so that teacher and student see the same.

A view of an image is drawn from the image's hash, the seed and the number of the view: an affine
crop, a photometric change, an erased rectangle, a mixup partner. Every batch, in any order and at
any resolution, renders the same view, and it stays the same when images are added. Cached answers
of a teacher are therefore equal to live ones. Views are drawn on the CPU, and rendered by the same
functions on every device; devices differ in rounding, by less than 1/255.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from edgekd.data.on_demand import PixelRows
from edgekd.networks.compute import CPU, moved, pinned
from edgekd.settings.recipe import ViewsConfig
from edgekd.training import view_places
from edgekd.training.counted_random import Numbers, drawn, number, scramble, shares
from edgekd.training.pixels import Pixels, on_device
from edgekd.training.view_sizes import RESIZED_FROM, Resizing, cut_out, resized, shrunk

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
    rest. `resizer`: 0 to 1, which of the resizers brings the image to the network's size.
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
    resizer: Tensor

    def at(self, rows: Tensor) -> Views:
        """The same view of some of the images."""
        return Views(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))

    def moved(self, device: torch.device) -> Views:
        """The same views on a device. On another one than now they take two copies in all."""
        if self.share.device == device:
            return self
        columns = [field.name for field in dataclasses.fields(self) if field.name != "partner"]
        parts = [
            getattr(self, name).flatten(1)
            if name in ("affine", "erase")
            else getattr(self, name)[:, None]
            for name in columns
        ]
        split = moved(pinned(torch.cat(parts, 1), device), device).split(
            [part.shape[1] for part in parts], 1
        )
        found = {
            name: part.reshape(getattr(self, name).shape)
            for name, part in zip(columns, split, strict=True)
        }
        return Views(**found, partner=moved(self.partner, device))


def generator(*parts: object) -> torch.Generator:
    """A generator whose stream depends on all parts and on nothing else.

    The parts are hashed with sha256, so that neighbouring seeds give unrelated streams.
    """
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") & (2**63 - 1))


def starts(seed: int, view: int, images: Numbers) -> Numbers:
    """The stream of random numbers of each image in one view, uint64 [n]."""
    return scramble(images ^ number("views", seed, view))


def draw(config: ViewsConfig, seed: int, view: int, images: Numbers, among: Tensor) -> Views:
    """View number `view` of each image.

    `images`: what stands for each image of the data set, uint64 [n] (`datasets.identities`). An
    image has the same view in every data set, and copies of one image have the same. `among`: the
    rows that mixup partners are drawn from, int64 [m]. An image keeps its partner when images are
    added, unless one of them comes to lie closer.
    """
    config = unchanged(config) if is_plain(config, view) else config
    streams, count = starts(seed, view, images), len(images)
    uniform = functools.partial(view_places.uniform, streams)
    chance = functools.partial(view_places.chance, streams)
    side = uniform("side", 0.15, 0.4) * chance("erase", config.erase)  # 2 to 16 % of the area
    left, top = (shares(streams, name) * (1 - side) for name in ("left", "top"))
    return Views(
        affine=_single(view_places.affine(config, streams)),
        gain=_single(1 + uniform("gain", -config.contrast, config.contrast)),
        offset=_single(uniform("offset", -config.brightness, config.brightness)),
        gamma=_single(np.exp(uniform("gamma", -config.gamma, config.gamma))),
        blur=_single(chance("blur", config.blur)),
        noise=_single(uniform("noise", 0, config.noise)),
        erase=_single(np.stack([left, top, left + side, top + side], -1)),
        partner=_partners(streams, images, among),
        share=_mixup(streams, config.mixup) if config.mixup > 0 else torch.ones(count),
        resizer=_single(uniform("resizer", 0, 1)),
    )


def is_plain(config: ViewsConfig, view: int) -> bool:
    """Whether a view shows each image as it is."""
    return config.plain and view == 0


def unchanged(config: ViewsConfig) -> ViewsConfig:
    """The settings of views that change nothing."""
    ranges: dict[str, Any] = {
        field.name: 0.0 for field in dataclasses.fields(config) if isinstance(field.default, float)
    }
    return dataclasses.replace(config, **ranges)


def _single(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


def _mixup(streams: Numbers, mixup: float) -> Tensor:
    """The share that each image has in its mixture: float32 [n], 0.5 to 1."""
    drawn = [np.random.default_rng(int(start)).beta(mixup, mixup) for start in streams]
    share = np.array(drawn)
    return _single(np.maximum(share, 1 - share))


def _partners(streams: Numbers, images: Numbers, among: Tensor) -> Tensor:
    """The row of each image's mixup partner, int64 [n].

    Images lie on a ring of 2^64 places. An image draws a place, and the next image of `among` is
    its partner (consistent hashing, Karger et al. 1997, STOC).
    """
    places = scramble(images[among.numpy()])
    order = places.argsort(kind="stable")
    following = np.searchsorted(places[order], drawn(streams, "partner")) % len(order)
    return among[torch.from_numpy(order[following])]


def unit(pixels: Tensor) -> Tensor:
    """Pixels, uint8 (0..255) or uint16 (0..65535), as float32 in 0..1."""
    return pixels.float() / (255 if pixels.dtype == torch.uint8 else 65_535)


def render(
    pixels: Tensor,
    views: Views,
    px: int,
    grainy: bool | None = None,
    by: Resizing | None = None,
) -> Tensor:
    """The view of each image, float32 [b, c, px, px] in 0..1, without mixup (see `mix`).

    `pixels`: uint8 or uint16 [b, c, h, w], on the device of the views. `grainy`: whether some view
    has noise; None looks it up. `by`: how a view comes to its size. Without it the view is sampled
    from images of about that size, which is cheaper, and antialiased.
    """
    base = unit(pixels)
    if by is None:
        image = cut_out(shrunk(base, round(px * MARGIN)), views.affine, px)
    else:
        base = shrunk(base, max(RESIZED_FROM * px, by.side))
        image = resized(cut_out(base, views.affine, base.shape[-1]), views.resizer, px, by)
    if grainy is None:
        grainy = bool(views.noise.max() > 0)
    image = _photometric(image, views, grainy)
    return _erase(image, views.erase)


def _column(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def _photometric(image: Tensor, views: Views, grainy: bool) -> Tensor:
    soft = F.avg_pool2d(image, 3, stride=1, padding=1, count_include_pad=False)
    image = torch.lerp(image, soft, _column(views.blur))
    # The lower bound keeps pow finite.
    image = image.clamp(1e-4, 1).pow(_column(views.gamma))
    image = (image - 0.5) * _column(views.gain) + 0.5 + _column(views.offset)
    if grainy:
        image = image + _grain(image.shape[-1], image.device) * _column(views.noise)
    return image.clamp(0, 1)


@functools.lru_cache(maxsize=8)
def _grain(px: int, device: torch.device) -> Tensor:
    """One fixed pattern [px, px] of unit variance for each resolution, so that no batch order
    changes it.
    """
    return torch.randn((px, px), generator=generator("grain", px)).to(device)


def _erase(image: Tensor, box: Tensor) -> Tensor:
    px = image.shape[-1]
    place = (torch.arange(px, device=image.device) + 0.5) / px
    inside_x = (place >= box[:, 0:1]) & (place < box[:, 2:3])
    inside_y = (place >= box[:, 1:2]) & (place < box[:, 3:4])
    hidden = (inside_y[:, None, :, None] & inside_x[:, None, None, :]).to(image.dtype)
    return torch.lerp(image, torch.full_like(image, GREY), hidden)


def mix(image: Tensor, partner: Tensor, share: Tensor) -> Tensor:
    """Mixup of two rendered batches: share * image + (1 - share) * partner."""
    return torch.lerp(partner, image, _column(share))


@dataclasses.dataclass(frozen=True)
class Sight:
    """What views of some images are rendered from. It is gathered on the CPU.

    `pixels`: of the images, as `Pixels.gather` gives them. `views`: of each, on the CPU. `partners`
    and `partner_views`: the same of the images that are mixed in, where some are. `grainy`,
    `partners_grainy`: whether some view of them has noise.
    """

    pixels: Tensor
    views: Views
    grainy: bool
    partners: Tensor | None = None
    partner_views: Views | None = None
    partners_grainy: bool = False


class Renderer:
    """Renders views of one data set, normalised for one network.

    `pixels`: uint8 or uint16 [n, c, h, w], usually a memory map. `mean`, `std`: for each channel of
    the network's input. Results are float32 [b, len(mean), px, px] in channels_last on `device`;
    grey is repeated for a network with three channels. `resizing`: as apps do it; a teacher sees
    antialiased images only, so that its answers are the best ones.

    `views` is `gather`, which only looks up and copies, and then `draw`. A thread can gather the
    next batches while the device draws.
    """

    def __init__(
        self,
        pixels: PixelRows,
        px: int,
        mean: list[float],
        std: list[float],
        device: torch.device = CPU,
        resizing: Resizing = Resizing(),  # noqa: B008 - it is frozen
    ) -> None:
        self.pixels: Pixels = on_device(pixels, device)
        self.resizing = resizing if resizing.varied else None
        self.px = px
        self.device = device
        self.mean = torch.tensor(mean).view(1, -1, 1, 1).to(device)
        self.std = torch.tensor(std).view(1, -1, 1, 1).to(device)

    def _normalised(self, image: Tensor) -> Tensor:
        image = image.expand(-1, self.mean.shape[1], -1, -1)
        return ((image - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def views(self, rows: Tensor, views: Views) -> Tensor:
        """The given view of images `rows`, int64 [b], mixed with that view of their partners."""
        return self.draw(self.gather(rows, views))

    def gather(self, rows: Tensor, views: Views) -> Sight:
        """What `draw` needs of images `rows`, int64 [b]. `views`: of every image, on the CPU."""
        rows = rows.cpu()
        own = views.at(rows)
        found = Sight(self.pixels.gather(rows), own, bool(own.noise.max() > 0))
        if not bool((own.share < 1).any()):
            return found
        others = views.at(own.partner)
        return dataclasses.replace(
            found,
            partners=self.pixels.gather(own.partner),
            partner_views=others,
            partners_grainy=bool(others.noise.max() > 0),
        )

    def draw(self, sight: Sight) -> Tensor:
        """The views, rendered on the device."""
        return self._drawn(sight, self.resizing)

    def draw_antialiased(self, sight: Sight) -> Tensor | None:
        """The same views, all of them resized by Pillow. None where `draw` gives these already."""
        if self.resizing is None:
            return None
        return self._drawn(sight, self.resizing.by_pillow())

    def _drawn(self, sight: Sight, by: Resizing | None) -> Tensor:
        own = sight.views.moved(self.device)
        image = render(self.pixels.take(sight.pixels), own, self.px, sight.grainy, by)
        if sight.partners is not None and sight.partner_views is not None:
            others = sight.partner_views.moved(self.device)
            taken = self.pixels.take(sight.partners)
            partner = render(taken, others, self.px, sight.partners_grainy, by)
            image = mix(image, partner, own.share)
        return self._normalised(image)

    def plain(self, rows: Tensor) -> Tensor:
        """The images `rows` without a random change, resized (antialiased) and normalised."""
        image = unit(self.pixels.take(self.pixels.gather(rows.cpu())))
        if image.shape[-1] != self.px:
            image = F.interpolate(
                image, (self.px, self.px), mode="bilinear", antialias=True, align_corners=False
            )
        return self._normalised(image)
