"""A bench of an Android device with LiteRT's benchmark_model through adb.

No Python runs on the device, so no golden set is checked. EdgeKD has not been run on an Android
device: its tests use a real adb and a scripted device.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgekd.core.artifacts import sha256
from edgekd.core.errors import RecipeError
from edgekd.device import android_facts, benchmark_output, benchmark_tool
from edgekd.device.adb import AdbTransport
from edgekd.device.android_delegate import AndroidDelegate, Kind
from edgekd.device.bench import completed
from edgekd.device.bench_record import Bench, Runtime, Settings
from edgekd.device.bench_settings import BenchSettings
from edgekd.device.delegation import read_delegation
from edgekd.device.device_text import clean
from edgekd.device.edgebench import VERSION
from edgekd.device.model_file import check_model
from edgekd.device.npu_libraries import LIBRARY, WITH_LIBRARIES, npu_libraries_of
from edgekd.device.thermal_service import throttled_note
from edgekd.device.transports import Job, Progress, Ran
from edgekd.settings.device_profiles import DeviceProfile

TOOL = "benchmark_model"
MARGIN_S = 30.0  # over the tool's own --max_secs (150 by default) and what starting takes
# profile -> the delegate when none is named; every other profile gets XNNPACK
DELEGATES = {"android-gpu": Kind.GPU, "android-nnapi": Kind.NNAPI}
NPU_MAPPER = "npu"  # the mapper of every profile of an NPU


def bench(
    model: bytes,
    profile: DeviceProfile,
    device: AdbTransport,
    named_tool: Path | None,
    settings: BenchSettings,
    on_progress: Progress,
    npu_libraries: Path | None = None,
) -> Bench:
    """Measure a model on an Android device.

    `named_tool`: benchmark_model's file, or None to look for it. `npu_libraries`: the folder of the
    vendor's libraries, for the delegate npu alone. Raises DeviceError, ModelFileError
    for a model that is not whole, and RecipeError for a setting that benchmark_model does not have.
    """
    check_model(model, "the model")
    if settings.soak_minutes is not None:
        raise RecipeError(
            "--soak needs EdgeKD's own runner, and Android has no Python for it",
            "measure without --soak, and watch `adb shell dumpsys thermalservice`",
        )
    delegate = _delegate(profile, settings.delegate)
    libraries = npu_libraries_of(delegate, npu_libraries)
    program = benchmark_tool.find_tool(named_tool).read_bytes()
    before = android_facts.ask(device)
    benchmark_tool.check_architecture(program, before.abi)
    warnings = delegate.warnings(before.api_level)
    threads = settings.threads or profile.threads
    flags = benchmark_tool.arguments(delegate, threads, settings.runs, settings.min_seconds)
    files = {**libraries, TOOL: program, benchmark_tool.MODEL: model}
    ran = _run(files, flags, device, settings, on_progress)
    found = benchmark_output.figures(ran.files.get(benchmark_tool.PROTO), ran.stderr)
    if "median" not in found:
        warnings.append(
            "this benchmark_model told no median, so there is no p50; its mean is there"
        )
    after = android_facts.ask(device)
    warnings += filter(None, [throttled_note(before.thermal, after.thermal)])
    delegation = read_delegation(ran.stderr)
    result = Bench(
        model_sha256=sha256(model),
        runner_version=VERSION,
        profile=profile.name,
        transport=device.name,
        runtime=Runtime(TOOL, f"sha256 {sha256(program)[:12]}", delegate.used(delegation), threads),
        host=android_facts.host(before, after),
        settings=_used(settings, found),
        latency_ms=benchmark_output.latency(found),
        memory_kib=benchmark_output.memory(found),
        golden=None,
        output_sha256=None,
        soak=None,
        emulated=device.emulated,
        warnings=[*warnings, *delegate.taken(delegation)],
    )
    return completed(result, profile)


def _delegate(profile: DeviceProfile, asked: str) -> AndroidDelegate:
    """The delegate that was asked for; for "auto", the one that the profile is about."""
    if asked != "auto":
        return AndroidDelegate(asked)
    if profile.mapper == NPU_MAPPER:
        return AndroidDelegate(Kind.NPU)
    return AndroidDelegate(DELEGATES.get(profile.name, Kind.XNNPACK))


def _used(settings: BenchSettings, found: Mapping[str, float]) -> Settings:
    """The settings of a run, with the warm-up runs that the tool made."""
    return Settings(
        warmup_runs=int(found.get("num_warmup_runs", 0)),
        runs=settings.runs,
        min_seconds=settings.min_seconds,
        seed=settings.seed,
        cores=list(settings.cores) if settings.cores else None,
    )


def _run(
    files: dict[str, bytes],
    flags: list[str],
    device: AdbTransport,
    settings: BenchSettings,
    on_progress: Progress,
) -> Ran:
    """Run the tool in a private folder on the device. Raises DeviceError when it fails."""
    pinned = ["taskset", f"{sum(1 << core for core in settings.cores):x}"] if settings.cores else []
    libraries = any(name.endswith(LIBRARY) for name in files)
    job = Job(
        files,
        [*(WITH_LIBRARIES if libraries else ()), *pinned, f"./{TOOL}", *flags],
        [benchmark_tool.PROTO],
        settings.timeout_s + MARGIN_S,
    )
    ran = device.run(job, on_progress)
    if ran.exit_code != 0:
        raise benchmark_tool.failed(
            ran.exit_code, "\n".join(clean(line) for line in ran.stderr.splitlines())
        )
    return ran
