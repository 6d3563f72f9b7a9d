"""The report's sections on the file, its ops on the device, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekd.evaluation.waterfall import ran_on
from edgekd.reporting import charts
from edgekd.reporting.sections import text as fmt

Block = dict[str, Any]


def artifact(body: Mapping[str, Any]) -> Block | None:
    """The file: size, ops, ports."""
    artifact = body.get("artifact")
    if not artifact:
        return None
    away = {str(item.get("op")) for item in fmt.at(body, "device", "mapped", "fallback") or []}
    counts = sorted((artifact.get("ops") or {}).items(), key=lambda item: (-item[1], item[0]))
    most = max((count for _, count in counts), default=1) or 1
    ports = [
        {
            "name": port,
            "dtype": fmt.at(artifact, port, "dtype"),
            "shape": " × ".join(str(side) for side in fmt.at(artifact, port, "shape") or []),
            "scale": f"{fmt.at(artifact, port, 'scale'):.9g}"
            if fmt.real(fmt.at(artifact, port, "scale"))
            else "–",
            "zero_point": fmt.whole(fmt.at(artifact, port, "zero_point")),
        }
        for port in ("input", "output")
        if artifact.get(port)
    ]
    times = fmt.at(body, "device", "predicted", "time_by_op") or {}
    whole = sum(times.values()) or 1.0
    counted = dict(counts)
    rest = [
        {"name": name, "share": fmt.share(ms / whole)}
        for name, ms in times.items()
        if name not in counted and ms > 0
    ]
    return {
        "timed": bool(times),
        "rest": rest,
        "path": artifact.get("path", "model.tflite"),
        "sha256": artifact.get("sha256"),
        "size": fmt.kib(artifact.get("bytes")),
        "exact": fmt.whole(artifact.get("bytes")),
        "integer": artifact.get("full_integer"),
        "ports": ports,
        "device": "device" in body,
        "pixels": fmt.at(artifact, "input", "dtype"),
        "ops": [
            {
                "op": op,
                "count": count,
                "away": op in away,
                "share": fmt.share(times.get(op, 0.0) / whole),
                "bar": charts.bar(
                    times.get(op, 0.0) / whole if times else count / most,
                    "away" if op in away else "first",
                ),
            }
            for op, count in counts
        ],
    }


def device(body: Mapping[str, Any]) -> Block | None:
    """How each op maps on the device, and its share of the predicted time."""
    device = body.get("device")
    if not device:
        return None
    predicted, mapped = device.get("predicted") or {}, device.get("mapped") or {}
    latency = None
    if fmt.real(predicted.get("latency_ms")):
        bounds = fmt.bound(
            [predicted.get("low_ms"), predicted.get("high_ms")], lambda x: f"{x:.3g}"
        )
        latency = f"{predicted['latency_ms']:.3g} ms" + (f" ({bounds} ms)" if bounds else "")
    away = [
        f"{fmt.at(item, 'op')}"
        + (f" × {item['count']}" if item.get("count") else "")
        + (f" ({item['status']})" if item.get("status") else "")
        for item in mapped.get("fallback") or []
    ]
    memory = [
        {
            "name": str(key).removesuffix("_bytes").replace("_", " "),
            "value": fmt.kib(value) if str(key).endswith("_bytes") else fmt.whole(value),
        }
        for key, value in (device.get("memory") or {}).items()
        if key != "file_bytes"
    ]  # said with the file
    return {
        "profile": body.get("profile"),
        "latency": latency,
        "basis": predicted.get("basis"),
        "away": away,
        "mapped": fmt.whole(mapped.get("mapped")),
        "ops": fmt.whole(mapped.get("ops")),
        "memory": memory,
        "share": fmt.percent(mapped.get("share_of_macs"))
        if fmt.real(mapped.get("share_of_macs"))
        else None,
    }


def bench(run: Mapping[str, Any], body: Mapping[str, Any]) -> Block:
    """One measured run."""
    host, runtime = run.get("host") or {}, run.get("runtime") or {}
    latency, memory, golden = (
        run.get("latency_ms") or {},
        run.get("memory_kib") or {},
        run.get("golden"),
    )
    timed = run.get("emulated") is False  # anything else is not known to be a real clock's
    threads = runtime.get("threads")
    shown: Block = {
        "machine": host.get("cpu") or "An unnamed processor",
        "kind": host.get("machine"),
        "profile": run.get("profile"),
        "transport": run.get("transport"),
        "target": body.get("profile"),
        "own": ran_on(run, str(body.get("profile"))),
        "timed": timed,
        "predicted": fmt.real(fmt.at(body, "device", "predicted", "latency_ms")),
        "runtime": " ".join(str(runtime[key]) for key in ("name", "version") if runtime.get(key)),
        "delegate": runtime.get("delegate"),
        "threads": fmt.plural(threads, "thread") if isinstance(threads, int) else "",
        "facts": [
            (name, value)
            for name, value in (
                ("cores", host.get("cores")),
                ("kernel", host.get("kernel")),
                ("Python", host.get("python")),
                ("governor", host.get("governor")),
                (
                    "clock",
                    f"{host['clock_khz'] / 1000:,.0f} MHz"
                    if fmt.real(host.get("clock_khz"))
                    else None,
                ),
                (
                    "temperature",
                    f"{host['temperature_c']:.0f} °C"
                    if fmt.real(host.get("temperature_c"))
                    else None,
                ),
            )
            if value is not None
        ],
        "memory": [
            (name, fmt.mib(memory.get(key)))
            for name, key in (
                ("before loading", "baseline"),
                ("after loading", "after_load"),
                ("peak", "peak"),
            )
            if fmt.real(memory.get(key))
        ],
        "golden": golden
        and f"{fmt.plural(golden.get('images', 0), 'stored image')}: same class on "
        f"{fmt.percent(golden.get('argmax_agreement'))}, largest difference "
        f"{fmt.whole(golden.get('max_abs_lsb'))} LSB; {fmt.percent(golden.get('top1'))} right",
        "warnings": [str(warning) for warning in run.get("warnings") or []],
        "chart": "",
        "latency": [],
        "runs": None,
    }
    if timed:
        samples = [value for value in latency.get("samples") or [] if fmt.real(value)]
        marks = {key: latency[key] for key in ("p50", "p95", "p99") if fmt.real(latency.get(key))}
        label = f"How often each latency came, {len(samples)} runs: " + ", ".join(
            f"{name} {value:.4g} ms" for name, value in marks.items()
        )
        shown["chart"] = charts.histogram(samples, marks, "ms", label)
        shown["runs"] = fmt.whole(len(samples)) if samples else None
        shown["latency"] = [
            (name, f"{fmt.number(latency[key], 2)} ms")
            for name, key in (
                ("p50", "p50"),
                ("p95", "p95"),
                ("p99", "p99"),
                ("fastest", "min"),
                ("slowest", "max"),
                ("first run", "first"),
                ("loading", "load"),
            )
            if fmt.real(latency.get(key))
        ]
    return shown
