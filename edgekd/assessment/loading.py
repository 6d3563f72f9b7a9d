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
    r"(?i)\b(?:(?P<litert>ai[-_]edge[-_]litert|litert)"
    r"|tflite[-_ ]runtime|tensorflow[- ]lite|tflite)"
    r"(?:\s*(?:==|v)?\s*(?P<version>\d+(?:\.\d+)*))?"
)
HOST = "host"  # the profile of this machine, whose runtime is the one that is installed


def judge_loading(graph: LiteGraph, profile: DeviceProfile, words: str = "") -> LoadBlock:
    """Compare a file's operator codes with what the profile's device loads.

    `words`: what the interpreter of this machine said when it refused the file, "" otherwise. The
    device's runtime has the same kernels, and refuses it too.

    A compiler reads the file first, where the profile has one; a compiled file goes to the runtime.
    A profile may name several runtimes, and one of them is enough. Of a runtime that is not in the
    table, only what no known runtime has is held against the file.
    """
    codes = runtime_ops.codes_of(graph)
    packages = () if mapper_for(profile).runtime(profile) else runtime_ops.packages()
    oldest = {name: runtime_ops.oldest_loading(name, codes) for name in packages}
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
        loads=not refused and not words,
        refused=refused,
        oldest=oldest,
        words="" if refused else words,
        next_step=_next_step(best, best.lacking(codes), oldest) if refused or words else "",
    )


def installed_lacks(graph: LiteGraph) -> str:
    """The name of this machine's runtime where it is too old for a file, else ""."""
    here = runtime_ops.runtime(LITERT, _installed(LITERT))
    return here.name if here.lacking(runtime_ops.codes_of(graph)) else ""


def _loaders(profile: DeviceProfile, *, compiled: bool) -> list[Runtime]:
    """What reads a file for this device; any one of the list will do."""
    mapper = mapper_for(profile)
    own = mapper.runtime(profile)
    if own is not None:
        return [own]
    if mapper.compiler in runtime_ops.compilers() and not compiled:
        return [runtime_ops.compiler(mapper.compiler)]
    return [
        dataclasses.replace(one, custom=one.custom | mapper.custom_ops)
        for one in runtimes_of(profile)
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
    """What is wrong with an operator code that the loader lacks: the rest of "CONV_2D ..."."""
    if code.custom == CUSTOM_OP:
        return "is a program for Coral's Edge TPU, which this profile does not have"
    if code.custom.startswith(FLEX):
        return f"is TensorFlow's own operator, and {loader.name} has no Flex delegate"
    if code.custom:
        return f"is a custom operator, version {code.version}, that {loader.name} does not have"
    newest, oldest = loader.newest.get(code.name, 0), loader.oldest.get(code.name, 1)
    known = f"{oldest} to {newest}" if newest > oldest else f"{oldest} only"
    has = f"knows version {known}" if newest else "does not have this operator"
    anywhere = any(runtime_ops.oldest_loading(name, [code]) for name in runtime_ops.packages())
    nowhere = "" if anywhere else "; no runtime that EdgeKD knows has it"
    return f"has version {code.version}, and {loader.name} {has}{nowhere}"


def _next_step(loader: Runtime, lacking: list[OpCode], oldest: dict[str, str | None]) -> str:
    """What to do about a file that the loader refuses."""
    if not lacking:
        return "convert the model again: its operators and tensors do not fit together"
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
    if loader.package == runtime_ops.MICRO:
        return (
            f"replace these operators in the network and convert it again: {runtime_ops.MICRO} has "
            "no kernels for them"
        )
    newer = [f"{package} {version}" for package, version in oldest.items() if version]
    if loader.package in runtime_ops.compilers():
        unknown = sorted({code.name for code in lacking if not loader.newest.get(code.name)})
        if unknown:
            return (
                f"replace {', '.join(unknown)} in the network, since {loader.package} has no such "
                "operator in any version, or check another device: --profile pi4"
            )
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
