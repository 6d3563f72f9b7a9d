"""The libraries of an NPU's vendor, which LiteRT's tool needs beside it on a phone.

EdgeKD brings none of them: they come with LiteRT's releases (libLiteRtDispatch_*.so and
libLiteRtCompilerPlugin_*.so) and with the vendor's SDK. What is known of them comes from LiteRT's
sources (litert/tools/benchmark_litert_model.cc) and from LiteRT-CLI, which sets the same variables.
No phone with an NPU has been used.
"""

from __future__ import annotations

from pathlib import Path

from edgekd.core import files
from edgekd.core.errors import DeviceError, RecipeError
from edgekd.device.android_delegate import AndroidDelegate, Kind

LIBRARY = ".so"
DISPATCH = "libLiteRtDispatch_"  # how the name of every vendor's dispatch library begins
# Qualcomm's DSP finds its own libraries through ADSP_LIBRARY_PATH, and wants a whole path.
WITH_LIBRARIES = (
    "sh",
    "-c",
    'LD_LIBRARY_PATH="$PWD" ADSP_LIBRARY_PATH="$PWD" exec "$@"',
    "sh",
)
HOW = (
    "give --npu-libraries DIR, a folder with the vendor's libLiteRtDispatch_*.so for arm64, "
    "libLiteRtCompilerPlugin_*.so for a model that is not compiled yet, and the libraries of the "
    "vendor's SDK"
)


def npu_libraries_of(delegate: AndroidDelegate, folder: Path | None) -> dict[str, bytes]:
    """{name: bytes} of the libraries in a folder, empty for another delegate than npu.

    Raises RecipeError where the delegate and the folder do not go together, DeviceError for a
    folder without a dispatch library.
    """
    if delegate.kind != Kind.NPU:
        if folder is not None:
            raise RecipeError(
                f"--npu-libraries is given, and the delegate is {delegate.name}",
                "give --delegate npu, or leave --npu-libraries out",
            )
        return {}
    if folder is None:
        raise RecipeError("the delegate npu needs the libraries of the NPU's vendor", HOW)
    paths = [path for path in files.listed(folder) if path.suffix == LIBRARY]
    if not any(path.name.startswith(DISPATCH) for path in paths):
        raise DeviceError(f"{folder} holds no {DISPATCH}*{LIBRARY}", HOW)
    return {path.name: path.read_bytes() for path in paths}
