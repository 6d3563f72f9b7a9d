"""An X-ray exposure: from centimetres of tissue to grey levels, by scatter, blur and counted photons. numpy only.

Maps are float64 [px, px] over a square detector of FIELD_CM. Used by edgekd.data.phantom, which knows the anatomy.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Map = NDArray[np.float64]

FIELD_CM = 36.0  # a 14 inch square detector
PX = 96  # the smallest usual MobileNet input; a pixel is then 3.75 mm

# Linear attenuation per cm at about 50 and 75 keV, the two halves of a 110 kVp beam behind the filter.
_SOFT = (0.227, 0.186)
_BONE = (0.62, 0.41)  # ribs and vertebrae, marrow included
_BEAM = (0.55, 0.45)


def blur(image: Map, centimetres: float) -> Map:
    """Gaussian blur, mirrored at the edges.

    By FFT and not by matrix products: BLAS starts threads of its own, and with two threads drawing images they wait for
    each other so long that a set takes thirty times as long.
    """
    sigma = centimetres * len(image) / FIELD_CM
    for _ in range(2):  # along one axis, turn, along the other, turn back
        mirrored = np.concatenate([image, image[:, ::-1]], axis=1)
        response = np.exp(-2.0 * (math.pi * sigma * np.fft.rfftfreq(mirrored.shape[1])) ** 2)
        blurred = np.fft.irfft(np.fft.rfft(mirrored, axis=1) * response, mirrored.shape[1], axis=1)
        image = np.ascontiguousarray(blurred[:, : image.shape[1]].T)
    return image


def texture(px: int, rng: Generator) -> Map:
    """A cloudy field with standard deviation 1 at PX: structure from half a centimetre to two, the same at every px."""
    field = blur(rng.standard_normal((PX, PX)), 0.5)
    field -= blur(field, 2.0)
    field /= field.std()
    return field if px == PX else _resampled(_resampled(field, px).T, px).T


def _resampled(field: Map, px: int) -> Map:
    """Rows of a map brought from len(field) to px by linear interpolation."""
    at = np.clip((np.arange(px) + 0.5) * len(field) / px - 0.5, 0.0, len(field) - 1.0)
    low = np.minimum(at.astype(int), len(field) - 2)
    share = (at - low)[:, None]
    return np.asarray(field[low] * (1.0 - share) + field[low + 1] * share)


def expose(soft: Map, bone: Map, px: int, rng: Generator) -> Map:
    """Photons counted in each pixel, as a share of those sent: primary beam, scatter, blur, then quantum noise."""
    primary = np.zeros_like(soft)
    for weight, mu_soft, mu_bone in zip(_BEAM, _SOFT, _BONE, strict=True):
        primary += weight * np.exp(-mu_soft * soft - mu_bone * bone)
    scatter = rng.uniform(0.15, 0.40)  # of what arrives, behind an anti-scatter grid
    arriving = primary + scatter / (1.0 - scatter) * blur(primary, 4.0)
    blurred = blur(arriving, rng.uniform(0.10, 0.22))
    # Photons a 96 px pixel in the open beam. A real pixel of that size counts more; electronic noise is in here too.
    sent = math.exp(rng.uniform(math.log(1.5e4), math.log(1.2e5))) * (PX / px) ** 2
    return rng.poisson(blurred * sent) / sent


def window(counted: Map, rng: Generator) -> NDArray[np.uint8]:
    """Counts to grey levels as a workstation does: logarithm, window between two percentiles, a film-like curve."""
    density = -np.log(np.maximum(counted, 1e-5))
    core = density[len(density) // 8 : -len(density) // 8, len(density) // 8 : -len(density) // 8]
    low, high = np.percentile(core, (rng.uniform(0.5, 4.0), rng.uniform(96.0, 99.5)))
    level = (density - low) / (high - low) * rng.uniform(0.85, 1.0) + rng.uniform(0.02, 0.10)
    level = np.clip(level, 0.0, 1.0) ** rng.uniform(0.80, 1.30)
    return np.asarray(np.rint(255.0 * level), np.uint8)
