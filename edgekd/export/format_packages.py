"""The packages that make number formats other than int8: whether they are installed.

This module imports none of them, so that planning a build stays fast.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterable

from edgekd.core.errors import MissingExtra, RecipeError
from edgekd.core.number_formats import NumberFormat, in_order
from edgekd.settings.profile_fields import DeviceProfile
from edgekd.settings.recipe import ConvertConfig

EXTRA = "formats"
PACKAGES = {"onnx2tf": "onnx2tf", "ai-edge-quantizer": "ai_edge_quantizer"}


@functools.cache
def missing() -> str | None:
    """The first package that is not installed, or None."""
    found = (name for name, module in PACKAGES.items() if not importlib.util.find_spec(module))
    return next(found, None)


def wanted(config: ConvertConfig, profile: DeviceProfile) -> tuple[NumberFormat, ...]:
    """The number formats that a build makes, int8 first.

    Those of the profile are left out where the packages that make them are not installed.
    """
    own = profile.formats if missing() is None else ()
    return in_order(config.formats or own)


def offered(profile: DeviceProfile) -> tuple[NumberFormat, ...]:
    """What can be made and measured beside int8 where int8 loses too much."""
    by_library = () if missing() else (NumberFormat.FLOAT16, NumberFormat.INT16X8)
    return (*by_library, NumberFormat.MIXED) if mixes(profile) else by_library


def mixes(profile: DeviceProfile) -> bool:
    """Whether a device runs int8 and float32 operators of one file: a CPU does. A delegate would
    give the rest back to the CPU.
    """
    return profile.mapper == "kernels" and "QUANTIZE" in profile.ops


def left_out(config: ConvertConfig, profile: DeviceProfile) -> str:
    """That formats of the profile cannot be made, with what to do; "" where they can."""
    package = missing()
    if package is None or config.formats or not profile.formats:
        return ""
    return (
        f"{profile.name} also ships {', '.join(profile.formats)}, which needs the package "
        f"{package!r}: pip install 'edgekd[{EXTRA}]'"
    )


def check(formats: Iterable[NumberFormat], profile: DeviceProfile) -> None:
    """Raise MissingExtra when a package is missing for one of these formats, and RecipeError for
    mixed on a device that does not run it.
    """
    if NumberFormat.MIXED in formats and not mixes(profile):
        raise RecipeError(
            f"convert.formats: {profile.name} runs no file of int8 and float32 operators (mixed)",
            "leave mixed out, or take a CPU profile such as pi4 or android-cpu",
        )
    ours = (NumberFormat.INT8, NumberFormat.MIXED)
    others = [one for one in formats if one not in ours]
    package = missing()
    if others and package is not None:
        raise MissingExtra(package, EXTRA, f"convert.formats {', '.join(others)}")
