"""How the texts look that name a network of the user's. Loads no library."""

from __future__ import annotations

import re
from pathlib import Path

FUNCTION = re.compile(r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")
FORMS = (
    "MODEL.onnx, MODEL.pt2, package.module:function, NAME@WEIGHTS, torchvision:NAME[@WEIGHTS] or "
    "hf-hub:REPO"
)
# Files that hold weights or a model of another library, with what to do with them.
OTHERS = {
    ".pt": "weights alone are no network: give NAME@{name}, or save it with torch.export.save",
    ".pth": "weights alone are no network: give NAME@{name}, or save it with torch.export.save",
    ".safetensors": "weights alone are no network: give NAME@{name}",
    ".h5": "export it as .onnx with tf2onnx",
    ".keras": "export it as .onnx with tf2onnx",
    ".pb": "export it as .onnx with tf2onnx",
    ".tflite": "it is converted already: edgekd check {name}",
    ".mlmodel": "export the network that it was made from as .onnx",
}


def is_foreign(text: str) -> bool:
    """Whether a text names a network in one of the forms that are loaded, and no student."""
    return (
        Path(text).suffix.lower() in (".onnx", ".pt2")
        or "@" in text
        or text.startswith(("torchvision:", "hf-hub:"))
        or bool(FUNCTION.match(text))
    )
