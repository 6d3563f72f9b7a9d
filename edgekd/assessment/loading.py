"""Whether a device's runtime, or its compiler, can load a file at all, and which runtimes can."""

from __future__ import annotations

import dataclasses
import re
from importlib import metadata

from edgekd.assessment.check_record import LoadBlock, RefusedOp
from edgekd.assessment.edgetpu.compiled_file import CUSTOM_OP, is_compiled
from edgekd.assessment.mappers.registry import mapper_for
from edgekd.settings.device_profiles import DeviceProfile
from edgekd.tflite import runtime_ops
from edgekd.tflite.flatbuffer import LiteGraph
from edgekd.tflite.runtime_ops import FLEX, OpCode, Runtime

LITERT, TFLITE = "ai-edge-litert", "tflite-runtime"
# A runtime's name, and its version where one follows, in the text of a profile's `runtime`.
_NAMED = re.compile(
    r"(?i)\b(?:(?P<litert>ai[-_]edge[-_]litert|litert)|tflite[-_ ]runtime|tensorflow[- ]lite|tflite)"
    r"(?:\s*(?:==|v)?\s*(?P<version>\d+(?:\.\d+)*))?"
)
HOST = "host"  # the profile of this machine, whose runtime is the one that is installed


def judge_loading(graph: LiteGraph, profile: DeviceProfile) -> LoadBlock:
    """Compare a file's operator codes with what the profile's device loads.

    A compiler reads the file first, where the profile has one; a compiled file goes to the runtime.
    A profile may name several runtimes, and one of them is enough. Of a runtime that is not in the
    table, only what no known runtime has is held against the file.
    """
    codes = runtime_ops.codes_of(graph)
    oldest = {name: runtime_ops.oldest_loading(name, codes) for name in runtime_ops.packages()}
    loaders = _loaders(profile, compiled=is_compiled(graph))
    if not loaders:
        loaders = [runtime_ops.runtime(LITERT)]
        codes = [code for code in codes if not code.custom]
    best = min(loaders, key=lambda loader: len(loader.lacking(codes)))
    refused = [
        RefusedOp(code.label, code.version, _why(code, best)) for code in best.lacking(codes)
    ]
    return LoadBlock(
        by=best.name,
        loads=not refused,
        refused=refused,
        oldest=oldest,
        next_step=_next_step(best, best.lacking(codes), oldest) if refused else "",
    )


def _loaders(profile: DeviceProfile, *, compiled: bool) -> list[Runtime]:
    """What reads a file for this device; any one of the list will do."""
    mapper = mapper_for(profile)
    if mapper.compiler in runtime_ops.compilers() and not compiled:
        return [runtime_ops.compiler(mapper.compiler)]
    return [
        dataclasses.replace(one, custom=one.custom | mapper.custom_ops) for one in runtimes_of(profile)
    ]


def runtimes_of(profile: DeviceProfile) -> list[Runtime]:
    """The runtimes that a profile's `runtime` names, empty where the table has none of them.

    Without a version it is the newest that the table has; on this machine, the installed one.
    """
    found = []
    for match in _NAMED.finditer(profile.runtime):
        package = LITERT if match["litert"] else TFLITE
        version = match["version"] or (_installed(package) if profile.name == HOST else "")
        found.append(runtime_ops.runtime(package, version))
    return found


def _installed(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _why(code: OpCode, loader: Runtime) -> str:
    """What is wrong with an operator code that the loader lacks: half a sentence after "and"."""
    if code.custom == CUSTOM_OP:
        return "it is a program for Coral's Edge TPU, which this profile does not have"
    if code.custom.startswith(FLEX):
        return f"it is TensorFlow's own operator, and {loader.name} has no Flex delegate"
    if code.custom:
        return f"it is a custom operator, and {loader.name} does not have it"
    newest = loader.newest.get(code.name, 0)
    oldest = loader.oldest.get(code.name, 1)
    known = f"{loader.name} knows version {oldest}" + (f" to {newest}" if newest > oldest else "")
    if not newest:
        known = f"{loader.name} does not have it"
    if not any(runtime_ops.oldest_loading(name, [code]) for name in runtime_ops.packages()):
        known += f", and no runtime that EdgeKD knows has {'this version' if newest else 'it'}"
    return known


def _next_step(loader: Runtime, lacking: list[OpCode], oldest: dict[str, str | None]) -> str:
    """What to do about a file that the loader refuses."""
    custom = next((code.custom for code in lacking if code.custom), "")
    if custom == CUSTOM_OP:
        return (
            "check the model that it was compiled from, or name a profile that has an Edge TPU: "
            "--profile coral-usb"
        )
    if custom.startswith(FLEX):
        return "convert the model again without SELECT_TF_OPS, or replace what needs it"
    if custom:
        return f"convert the model again without {custom}"
    newer = [f"{package} {version}" for package, version in oldest.items() if version]
    if loader.package in runtime_ops.compilers():
        like = runtime_ops.reads_like(loader.package)
        return (
            f"convert the network again with TensorFlow {like} or older, which writes no newer "
            "versions, or let `edgekd build` convert it"
        )
    if newer:
        return (
            f"install {' or '.join(newer)}, or newer, on the device, and name it as `runtime` in a "
            "profile of your own"
        )
    return "convert the model again with a released version of TensorFlow or LiteRT"
