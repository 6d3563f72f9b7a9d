"""A bench of an Android device: LiteRT's benchmark_model through adb. No Python runs there, so no golden set is checked.

EdgeKD has not been run on an Android device: what is tested is this side, against a real adb and a scripted device.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from edgekd.core.artifacts import sha256
from edgekd.core.errors import DeviceError, RecipeError
from edgekd.device import benchmark_model as tool
from edgekd.device.adb import AdbTransport
from edgekd.device.bench import BenchSettings, check_model, clean, completed
from edgekd.device.edgebench import SCHEMA, VERSION
from edgekd.device.transports import Job, Progress
from edgekd.settings.device_profiles import DeviceProfile

TOOL = "benchmark_model"
MARGIN_S = 30.0  # over the tool's own --max_secs (150 by default) and what starting takes
DELEGATES = {
    "android-gpu": "gpu",
    "android-nnapi": "nnapi",
}  # by profile, where none is named; the CPU's for the rest
CPU = "/sys/devices/system/cpu/cpu0/cpufreq/"
FACTS = {  # of the bench JSON and of the checks -> what to ask the device's shell
    "manufacturer": "getprop ro.product.manufacturer",
    "model": "getprop ro.product.model",
    "soc": "getprop ro.soc.model",
    "api": "getprop ro.build.version.sdk",
    "abi": "getprop ro.product.cpu.abi",
    "machine": "uname -m",
    "kernel": "uname -r",
    "cores": "nproc",
    "governor": f"cat {CPU}scaling_governor",
    "clock_khz": f"cat {CPU}scaling_cur_freq",
    "temperature": "cat /sys/class/thermal/thermal_zone0/temp",
}


def bench(
    model: bytes,
    profile: DeviceProfile,
    device: AdbTransport,
    named_tool: Path | None,
    settings: BenchSettings,
    on_progress: Progress,
) -> dict[str, Any]:
    """Measure a model on an Android device. Returns the bench JSON, schema edgekd.bench/1; what is not told is None.

    `named_tool`: benchmark_model's file, or None to look for it. Raises DeviceError, ModelFileError for the model, and
    RecipeError for a setting that benchmark_model has not.
    """
    check_model(model, "the model")
    if settings.soak_minutes is not None:
        raise RecipeError(
            "--soak needs EdgeKD's own runner, and Android has no Python for it",
            "measure without --soak, and watch `adb shell dumpsys thermalservice`",
        )
    automatic = DELEGATES.get(profile.name, "xnnpack")
    delegate = tool.AndroidDelegate(automatic if settings.delegate == "auto" else settings.delegate)
    program = tool.find_tool(named_tool).read_bytes()
    before = facts(device)
    tool.check_architecture(program, before["abi"])
    warnings = delegate.warnings(_whole(before["api"]))
    threads = settings.threads or profile.threads
    pinned = ["taskset", f"{sum(1 << core for core in settings.cores):x}"] if settings.cores else []
    argv = [
        *pinned,
        f"./{TOOL}",
        *tool.arguments(delegate, threads, settings.runs, settings.min_seconds),
    ]
    ran = device.run(
        Job({TOOL: program, tool.MODEL: model}, argv, [tool.PROTO], settings.timeout_s + MARGIN_S),
        on_progress,
    )
    if ran.exit_code != 0:
        raise tool.failed(ran.exit_code, clean_lines(ran.stderr))
    found = tool.figures(ran.files.get(tool.PROTO), ran.stderr)
    if "median" not in found:
        warnings.append(
            "this benchmark_model told no median, so there is no p50; its mean is there"
        )
    after = facts(device)
    peak = found.get("peak_mem_mb", 0.0)
    clock = _whole(after["clock_khz"])
    result = {
        "schema": SCHEMA,
        "model_sha256": sha256(model),
        "runner_version": VERSION,
        "runtime": {
            "name": TOOL,
            "version": f"sha256 {sha256(program)[:12]}",
            "delegate": delegate.name,
            "threads": threads,
        },
        "host": {
            "machine": after["machine"],
            "cpu": _device_name(after),
            "cores": _whole(after["cores"]),
            "kernel": after["kernel"],
            "python": None,
            "governor": after["governor"] or None,
            "clock_khz": clock,
            "temperature_c": _celsius(after["temperature"]),
            "throttled": None,
            "before": {
                "clock_khz": _whole(before["clock_khz"]),
                "temperature_c": _celsius(before["temperature"]),
            },
        },
        "settings": {
            "warmup_runs": int(found.get("num_warmup_runs", 0)),
            "runs": settings.runs,
            "min_seconds": settings.min_seconds,
            "seed": settings.seed,
            "cores": list(settings.cores) if settings.cores else None,
        },
        "latency_ms": tool.latency(found),
        "memory_kib": {
            "baseline": None,
            "after_load": None,
            "peak": round(peak * 1024) if peak > 0 else None,
        },
        "golden": None,
        "output_sha256": None,
        "soak": None,
        "warnings": [*warnings, *tool.taken(ran.stderr, delegate)],
    }
    return completed(result, profile, device.name, device.emulated)


def facts(device: AdbTransport) -> dict[str, str]:
    """What the device says of itself, by the names of FACTS, each as one safe line; "" where it says nothing."""
    script = "; ".join(f"echo {name}=$({question} 2>/dev/null)" for name, question in FACTS.items())
    code, text = device.shell(script)
    if code != 0:
        raise DeviceError(
            f"the device's shell ended with exit code {code}: {clean(text)}",
            "try `adb shell` by hand",
        )
    rows = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {name: clean(rows.get(name, ""))[:100] for name in FACTS}


def clean_lines(text: str) -> str:
    """Every line made safe to print."""
    return "\n".join(clean(line) for line in text.splitlines())


def _device_name(told: dict[str, str]) -> str | None:
    name = " ".join(filter(None, (told["manufacturer"], told["model"])))
    return (f"{name} ({told['soc']})" if told["soc"] else name) or None


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"\d{1,12}", text) else None


def _celsius(text: str) -> float | None:
    """Degrees from the kernel's thousandths."""
    return int(text) / 1000.0 if re.fullmatch(r"-?\d{1,6}", text) else None
