"""The memory that a service on a board may use: the limit in the units of the Pi sample."""

from __future__ import annotations

from edgekd.assessment import arena
from edgekd.tflite.flatbuffer import read

MEBIBYTE = 2**20
# Python, numpy, Pillow and the runtime took 50 MiB on x86-64 with a model of 0.2 MB and the frames
# of a folder. The rest is for picamera2 and its buffers, which were never measured, and for images
# of many pixels: 64 million, the most that the sample reads, take 192 MB as RGB.
BASE_MIB = 256
# The file is in memory twice while it is loaded, and XNNPACK packs the weights once more.
COPIES_OF_THE_FILE = 3
STEP_MIB = 64


def limit_mib(model: bytes) -> int:
    """The limit in MiB for a service that runs this .tflite, a multiple of STEP_MIB."""
    planned = arena.plan(read(model)).peak_bytes + COPIES_OF_THE_FILE * len(model)
    needed = BASE_MIB + planned / MEBIBYTE
    return STEP_MIB * -int(-needed // STEP_MIB)
