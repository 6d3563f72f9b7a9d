"""An X-ray exposure: centimetres of tissue become grey levels, with scatter, blur and photon noise.

Maps are float64 [px, px] over a square detector of FIELD_CM. The anatomy is in `phantom_anatomy`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Map = NDArray[np.float64]

FIELD_CM = 36.0  # a 14 inch square detector
PX = 96  # the smallest usual MobileNet input; a pixel is then 3.75 mm

# Linear attenuation per cm at about 50 and 75 keV, the two halves of a filtered 110 kVp beam.
_SOFT = (0.227, 0.186)
_BONE = (0.62, 0.41)  # ribs and vertebrae, marrow included
_BEAM = (0.55, 0.45)  # shares of the two energies


def blur(image: Map, centimetres: float) -> Map:
    """Gaussian blur with a standard deviation in cm, mirrored at the edges.

    Uses the FFT instead of matrix products. BLAS starts threads of its own; with two threads that
    draw images they wait for each other, and a set takes thirty times as long.
    """
    sigma = centimetres * len(image) / FIELD_CM
    for _ in range(2):  # along one axis, turn, along the other, turn back
        mirrored = np.concatenate([image, image[:, ::-1]], axis=1)
        response = np.exp(-2.0 * (math.pi * sigma * np.fft.rfftfreq(mirrored.shape[1])) ** 2)
        blurred = np.fft.irfft(np.fft.rfft(mirrored, axis=1) * response, mirrored.shape[1], axis=1)
        image = np.ascontiguousarray(blurred[:, : image.shape[1]].T)
    return image


def texture(px: int, rng: Generator) -> Map:
    """A cloudy field with structure between 0.5 and 2 cm and a standard deviation of 1 at PX.

    It is drawn at PX and then resampled, so that it is the same at every px.
    """
    field = blur(rng.standard_normal((PX, PX)), 0.5)
    field -= blur(field, 2.0)
    field /= field.std()
    return field if px == PX else _resampled(_resampled(field, px).T, px).T


def _resampled(field: Map, px: int) -> Map:
    """The map resampled along its rows' axis to px entries by linear interpolation."""
    at = np.clip((np.arange(px) + 0.5) * len(field) / px - 0.5, 0.0, len(field) - 1.0)
    low = np.minimum(at.astype(int), len(field) - 2)
    share = (at - low)[:, None]
    return np.asarray(field[low] * (1.0 - share) + field[low + 1] * share)


def expose(soft: Map, bone: Map, px: int, rng: Generator) -> Map:
    """Photons counted in each pixel, as a share of those sent.

    `soft`, `bone`: centimetres along each ray. The steps are: primary beam, scatter, blur, and then
    quantum noise.
    """
    primary = np.zeros_like(soft)
    for weight, mu_soft, mu_bone in zip(_BEAM, _SOFT, _BONE, strict=True):
        primary += weight * np.exp(-mu_soft * soft - mu_bone * bone)
    scatter = rng.uniform(0.15, 0.40)  # of what arrives, behind an anti-scatter grid
    arriving = primary + scatter / (1.0 - scatter) * blur(primary, 4.0)
    blurred = blur(arriving, rng.uniform(0.10, 0.22))
    # Photons in the open beam for a pixel of 1/96 of the field. A real pixel of that size counts
    # more; this number stands for electronic noise, too.
    sent = math.exp(rng.uniform(math.log(1.5e4), math.log(1.2e5))) * (PX / px) ** 2
    return rng.poisson(blurred * sent) / sent


def window(counted: Map, rng: Generator) -> NDArray[np.uint8]:
    """Counts to grey levels, uint8 [px, px], as a workstation does it.

    The steps are: logarithm, window between two percentiles, and a curve like that of film.
    """
    density = -np.log(np.maximum(counted, 1e-5))
    core = density[len(density) // 8 : -len(density) // 8, len(density) // 8 : -len(density) // 8]
    low, high = np.percentile(core, (rng.uniform(0.5, 4.0), rng.uniform(96.0, 99.5)))
    level = (density - low) / (high - low) * rng.uniform(0.85, 1.0) + rng.uniform(0.02, 0.10)
    level = np.clip(level, 0.0, 1.0) ** rng.uniform(0.80, 1.30)
    return np.asarray(np.rint(255.0 * level), np.uint8)
