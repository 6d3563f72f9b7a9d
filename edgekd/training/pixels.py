"""Where the pixels of a data set are while networks look at them.

On the CPU they stay in a memory map, or are decoded when they are needed
(`edgekd.data.on_demand`). A GPU holds all of them where they fit into a share of its free memory.
Otherwise each batch is copied to it, out of memory that the GPU can read by itself (pinned memory),
so that copying and computing overlap.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from edgekd.core import pages
from edgekd.data.on_demand import PixelRows
from edgekd.networks import compute

# Share of a GPU's free memory that pixels may take. The rest is for networks and activations: a
# batch of 1,024 images at 96 px takes 4.2 GiB in training, an H100 has 80.
SHARE = 0.5
# Bytes that are copied to a GPU at a time.
PORTION = 64 * 2**20


class Pixels(Protocol):
    """Pixels [n, c, h, w] of a data set, uint8 or uint16, from which a device takes some rows."""

    def gather(self, rows: Tensor) -> Tensor:
        """What `take` needs for images `rows`, int64 [b] on the CPU. Does not use the device."""

    def take(self, gathered: Tensor) -> Tensor:
        """The pixels [b, c, h, w] on the device: uint8, or numbers up to 65,535."""


class Mapped:
    """Pixels in a memory map, for the CPU."""

    def __init__(self, pixels: PixelRows) -> None:
        self.pixels, self._pages = pixels, pages.Resident(pixels)

    def gather(self, rows: Tensor) -> Tensor:
        found = self.pixels[rows.numpy()]
        self._pages.used(len(found), found[:1].nbytes)
        return torch.from_numpy(found)

    def take(self, gathered: Tensor) -> Tensor:
        return gathered


class Resident:
    """Pixels in the memory of a GPU."""

    def __init__(self, pixels: PixelRows, device: torch.device) -> None:
        # torch has few functions for uint16. The bits of int16 are the same.
        self.deep = pixels.dtype == np.uint16
        kind = torch.int16 if self.deep else torch.uint8
        self.pixels = torch.empty(pixels.shape, dtype=kind, device=device)
        rows = max(1, PORTION // max(1, pixels[:1].nbytes))
        for start in range(0, len(pixels), rows):
            part = np.ascontiguousarray(pixels[start : start + rows])
            part = part.view(np.int16) if self.deep else part
            self.pixels[start : start + rows].copy_(torch.from_numpy(part))
            pages.release(pixels)

    def gather(self, rows: Tensor) -> Tensor:
        return compute.pinned(rows, self.pixels.device)

    def take(self, gathered: Tensor) -> Tensor:
        found = self.pixels[compute.moved(gathered, self.pixels.device)]
        return found.int() & 0xFFFF if self.deep else found


class Sent:
    """Pixels in a memory map, of which each batch is copied to a GPU."""

    def __init__(self, pixels: PixelRows, device: torch.device) -> None:
        self.pixels, self.device, self._pages = pixels, device, pages.Resident(pixels)
        self.deep = pixels.dtype == np.uint16

    def gather(self, rows: Tensor) -> Tensor:
        found = self.pixels[rows.numpy()]
        self._pages.used(len(found), found[:1].nbytes)
        return compute.pinned(
            torch.from_numpy(found.view(np.int16) if self.deep else found), self.device
        )

    def take(self, gathered: Tensor) -> Tensor:
        found = compute.moved(gathered, self.device)
        return found.int() & 0xFFFF if self.deep else found


def on_device(pixels: PixelRows, device: torch.device) -> Pixels:
    """The pixels for a device: `Resident` where they fit, else `Sent`; `Mapped` for the CPU."""
    if device.type == "cpu":
        return Mapped(pixels)
    if pixels.nbytes <= SHARE * compute.free_bytes(device):
        return Resident(pixels, device)
    return Sent(pixels, device)
