"""The section "Measurement": what one run on a device or on this machine measured."""

from __future__ import annotations

import dataclasses
from typing import Any

from edgekd.core.records import present
from edgekd.reporting import charts
from edgekd.reporting.device_answers import ran_on
from edgekd.reporting.report_record import Report
from edgekd.reporting.sections import text as fmt

# Rows of the latency table: the name, and the field of the run.
LATENCIES = (
    ("p50", "p50"),
    ("p95", "p95"),
    ("p99", "p99"),
    ("fastest", "min"),
    ("slowest", "max"),
    ("first run", "first"),
    ("loading", "load"),
)
MARKED = ("p50", "p95", "p99")  # marked in the histogram
MEMORIES = (
    ("before loading", "baseline"),
    ("after loading", "after_load"),
    ("peak", "peak"),
)


@dataclasses.dataclass(frozen=True)
class MeasurementView:
    """One run. `own`: whether it was made on the build's device; `timed`: on a real clock.

    `predicted`: whether the device's latency is predicted. `chart` is SVG or "".
    """

    machine: str
    kind: str
    target: str
    own: bool
    timed: bool
    predicted: bool
    how: str
    chart: str
    runs: str
    latency: list[tuple[str, str]]
    memory: list[tuple[str, str]]
    golden: str
    warnings: list[str]
    facts: list[tuple[str, str]]


def measurement(run: dict[str, Any], report: Report) -> MeasurementView:
    """One measured run. An emulated run has no times."""
    host = run["host"]
    device = present(report.device)
    timed = run["emulated"] is False  # anything else is not known to be a real clock
    samples = run["latency_ms"].get("samples") or [] if timed else []
    return MeasurementView(
        machine=host["cpu"] or "An unnamed processor",
        kind=host["machine"],
        target=report.profile,
        own=ran_on(run, report.profile),
        timed=timed,
        predicted=device is not None and device.predicted.latency_ms is not None,
        how=_how(run),
        chart=_chart(samples, run["latency_ms"]) if samples else "",
        runs=fmt.whole(len(samples)) if samples else "",
        latency=[
            (name, f"{fmt.number(run['latency_ms'][key], 2)} ms")
            for name, key in LATENCIES
            if timed and run["latency_ms"][key] is not None
        ],
        memory=[
            (name, fmt.mib(run["memory_kib"][key]))
            for name, key in MEMORIES
            if run["memory_kib"][key] is not None
        ],
        golden=_golden(run["golden"]),
        warnings=run["warnings"],
        facts=_facts(host),
    )


def _how(run: dict[str, Any]) -> str:
    """Runtime, delegate, threads, transport and profile, in a line."""
    runtime = run["runtime"]
    parts = [
        f"{runtime['name']} {runtime['version']}",
        runtime["delegate"],
        fmt.plural(runtime["threads"], "thread") if runtime["threads"] else "",
        f"transport {run['transport']}",
        f"profile {run['profile']}",
    ]
    return ", ".join(part for part in parts if part)


def _chart(samples: list[float], latency: dict[str, Any]) -> str:
    marks = {key: latency[key] for key in MARKED if latency[key] is not None}
    told = ", ".join(f"{name} {value:.4g} ms" for name, value in marks.items())
    return charts.histogram(
        samples, marks, "ms", f"How often each latency came, {len(samples)} runs: {told}"
    )


def _golden(golden: dict[str, Any] | None) -> str:
    """How the answers to the stored images compare with the build's; "" without golden set."""
    if golden is None:
        return ""
    return (
        f"{fmt.plural(golden['images'], 'stored image')}: same class as in the build on "
        f"{fmt.percent(golden['argmax_agreement'])}, largest difference "
        f"{fmt.whole(golden['max_abs_lsb'])} LSB; {fmt.percent(golden['top1'])} right"
    )


def _facts(host: dict[str, Any]) -> list[tuple[str, str]]:
    """What is known about the machine."""
    clock, temperature = host["clock_khz"], host["temperature_c"]
    facts = [
        ("cores", host["cores"]),
        ("kernel", host["kernel"]),
        ("Python", host["python"]),
        ("governor", host["governor"]),
        ("clock", None if clock is None else f"{clock / 1000:,.0f} MHz"),
        ("temperature", None if temperature is None else f"{temperature:.0f} °C"),
    ]
    return [(name, str(value)) for name, value in facts if value is not None]
