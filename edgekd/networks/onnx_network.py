"""A network that stays an ONNX model and runs in ONNX Runtime. It gives logits alone, and cannot be
trained: a teacher that is used as it is.

Its artifact holds the file's bytes, with the weights inside.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor, nn

from edgekd.core.artifacts import Json, Network
from edgekd.tflite.onnx_runner import open_session

# The keys in the options of its artifact: whether the input is NHWC, whether its colours are BGR,
# how many images the file takes at once (0: any number), and the version of ONNX Runtime, which
# decides the answers and so belongs to the artifact's digest.
NHWC, BGR, BATCH, RUNTIME = "nhwc", "bgr", "batch", "onnxruntime"


class OnnxNetwork(nn.Module):
    """Logits float32 [n, classes] of images float32 [n, channels, px, px] in RGB order.

    Raises ModelFileError for a model that ONNX Runtime refuses.
    """

    def __init__(self, model: bytes, options: dict[str, Json]) -> None:
        super().__init__()
        self.session = open_session(model)
        # What stands for the weights where the weights of a network are hashed.
        digest = hashlib.sha256(model).digest()
        self.register_buffer("digest", torch.frombuffer(bytearray(digest), dtype=torch.uint8))
        (port,) = self.session.get_inputs()
        self.entry = port.name
        self.nhwc, self.bgr = bool(options[NHWC]), bool(options[BGR])
        self.batch = int(options[BATCH])
        self.code = f"nhwc {self.nhwc}, bgr {self.bgr}, {options[RUNTIME]}"  # what else decides

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images."""
        if self.bgr:
            images = images.flip(1)
        if self.nhwc:
            images = images.permute(0, 2, 3, 1)
        every = np.ascontiguousarray(images.float().cpu().numpy())
        size = self.batch or len(every)
        found = [self._run(every[at : at + size]) for at in range(0, len(every), size)]
        return torch.from_numpy(np.concatenate(found)).to(images.device)

    def _run(self, images: np.ndarray) -> np.ndarray:
        """The logits of at most one batch, which is filled up with copies of its last image."""
        lacking = self.batch - len(images)
        filled = images
        if lacking > 0:
            filled = np.concatenate([images, np.repeat(images[-1:], lacking, axis=0)])
        logits: np.ndarray = self.session.run(None, {self.entry: filled})[0]
        return logits[: len(images)].astype(np.float32)


def restore(network: Network) -> OnnxNetwork:
    """The network of an artifact whose `arch` is ONNX."""
    return OnnxNetwork(bytes(network.state), network.options)
