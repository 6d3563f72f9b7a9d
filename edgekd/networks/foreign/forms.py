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


FILES = (".onnx", ".pt2")
PREFIXES = ("torchvision:", "hf-hub:")


def split_weights(text: str) -> tuple[str, str]:
    """NAME@WEIGHTS as (NAME, WEIGHTS), with "" for no weights. The path of a model's file is one
    name, whatever is in it.
    """
    if Path(text).suffix.lower() in FILES:
        return text, ""
    name, _, weights = text.partition("@")
    return name, weights


def short_name(text: str) -> str:
    """What a network is called in reports: the name of its file, its function or its repository."""
    name = split_weights(text)[0]
    if Path(name).suffix.lower() in FILES:
        return Path(name).stem
    return re.split(r"[:/]", name)[-1]


def is_foreign(text: str) -> bool:
    """Whether a text names a network in one of the forms that are loaded, and no student."""
    return (
        Path(text).suffix.lower() in FILES
        or "@" in text
        or text.startswith(PREFIXES)
        or bool(FUNCTION.match(text))
    )
