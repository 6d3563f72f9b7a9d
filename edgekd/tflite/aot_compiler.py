"""Ahead-of-time compilation for an NPU by ai-edge-litert's AOT module, in a process of its own.

The module needs the compiler of the NPU's vendor: Qualcomm's and MediaTek's come as packages,
Google's as a library in the folder that GOOGLE_TENSOR_COMPILER_LIB names. EdgeKD installs none. The
way to the compiler has been run, up to the message that it is missing; no compiler has.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from edgekd.core.errors import DeviceError

PACKAGE = "ai-edge-litert"
GOOGLE_VARIABLE = "GOOGLE_TENSOR_COMPILER_LIB"
# vendor -> the package of its compiler; Google's has none
SDKS = {"qualcomm": "ai_edge_litert_sdk_qualcomm", "mediatek": "ai_edge_litert_sdk_mediatek"}
# vendor -> its folder in ai_edge_litert/aot/vendors
VENDORS = {"qualcomm": "qualcomm", "mediatek": "mediatek", "google-tensor": "google_tensor"}
ANDROID = "ANDROID_15"  # the only Android that MediaTek's target names
TIMEOUT_S = 600


@dataclasses.dataclass(frozen=True)
class AotAnswer:
    """A compiled model. `taken` of `total` operators went into `parts` parts for the NPU."""

    model: bytes
    taken: int
    total: int
    parts: int
    version: str


def has_compiler(vendor: str) -> bool:
    """Whether the vendor's compiler is on this machine."""
    if vendor in SDKS:
        return importlib.util.find_spec(SDKS[vendor]) is not None
    return vendor in VENDORS and bool(os.environ.get(GOOGLE_VARIABLE))


def compile_model(model: bytes, vendor: str, soc: str) -> AotAnswer:
    """A .tflite for one SoC, such as "SM8650". Raises DeviceError that says what went wrong."""
    with tempfile.TemporaryDirectory(prefix="edgekd-") as folder:
        source = Path(folder) / "model.tflite"
        source.write_bytes(model)
        try:
            done = subprocess.run(
                [sys.executable, "-m", __name__, vendor, soc, folder],
                capture_output=True,
                text=True,
                check=False,
                timeout=TIMEOUT_S,
                env={**os.environ, "PYTHONPATH": _path(), "TMPDIR": folder},
            )
        except subprocess.TimeoutExpired:
            raise _failed(vendor, f"gave no answer in {TIMEOUT_S} seconds") from None
        if done.returncode:
            raise _failed(vendor, _cause(Path(folder), done.stderr))
        told = json.loads(done.stdout.splitlines()[-1])
        compiled = Path(told.pop("file")).read_bytes()
        return AotAnswer(compiled, **told, version=metadata.version(PACKAGE))


def _path() -> str:
    home = str(Path(__file__).resolve().parents[2])
    return os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH", "")]))


def _failed(vendor: str, how: str) -> DeviceError:
    return DeviceError(
        f"ahead-of-time compilation for {vendor}: {how}",
        "repair the vendor's compiler, or remove it to have the placement predicted",
    )


def _cause(folder: Path, said: str) -> str:
    """The first error of the plug-in's log, which the module leaves in the temporary folder."""
    logs = [path.read_text(errors="replace") for path in folder.glob("*.error")]
    lines = [line.strip() for text in [*logs, said] for line in text.splitlines()]
    errors = [line.partition("] ")[2] for line in lines if line.startswith("ERROR: ")]
    return next(iter(errors or [line for line in reversed(lines) if line]), "it gives no reason")


def main(vendor: str, soc: str, folder: str) -> int:
    """Compile FOLDER/model.tflite; the last line on stdout is JSON."""
    place = f"ai_edge_litert.aot.vendors.{VENDORS[vendor]}"
    importlib.import_module(f"{place}.{VENDORS[vendor]}_backend")
    targets = importlib.import_module(f"{place}.target")
    compiler = importlib.import_module("ai_edge_litert.aot.aot_compile")
    chosen = {"soc_model": targets.SocModel(soc)}
    if vendor == "mediatek":
        chosen["android_os_version"] = targets.AndroidOsVersion(ANDROID)
    found = compiler.aot_compile(
        f"{folder}/model.tflite",
        output_dir=f"{folder}/compiled",
        target=targets.Target(**chosen),
    )
    if not found.models_with_backend:
        print("; ".join(why for _, why in found.failed_backends), file=sys.stderr)
        return 1
    _, made = found.models_with_backend[0]
    rows = made.partition_stats.subgraph_stats
    told = {
        "file": str(made.path),
        "taken": sum(row.num_ops_offloaded for row in rows),
        "total": sum(row.num_total_ops for row in rows),
        "parts": sum(row.num_partitions_offloaded for row in rows),
    }
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
