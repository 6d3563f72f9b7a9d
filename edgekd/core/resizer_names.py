"""The names of the resizers that apps use; `edgekd.data.resizers` holds their algorithms."""

from __future__ import annotations

import enum


class Resizer(enum.StrEnum):
    """How an image is brought to another size."""

    PILLOW = "pillow"  # bilinear over all pixels that a result covers; what EdgeKD deploys
    PILLOW_BICUBIC = "pillow-bicubic"
    OPENCV = "opencv"  # cv2.resize as it is: INTER_LINEAR, four neighbours
    OPENCV_AREA = "opencv-area"  # INTER_AREA, the mean of all pixels that a result covers
    ANDROID = "android"  # Bitmap.createScaledBitmap(filter = true), and TFLite Support's ResizeOp
    IOS = "ios"  # vImageScale and MPSImageLanczosScale: Lanczos
    NEAREST = "nearest"
