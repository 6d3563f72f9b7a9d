"""The section "Measurement": what one run on a device or on this machine measured."""

from __future__ import annotations

import dataclasses

from edgekd.core.records import present
from edgekd.device.bench_record import Bench, FurtherAnswers, GoldenAnswers, Host, LatencyMs
from edgekd.reporting import charts
from edgekd.reporting import text as fmt
from edgekd.reporting.device_answers import ran_on
from edgekd.reporting.report_record import Report


@dataclasses.dataclass(frozen=True)
class MeasurementView:
    """One run. `own`: whether it was made on the build's device; `timed`: not emulated.

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


def measurement(run: Bench, report: Report) -> MeasurementView:
    """One measured run. An emulated run has no times."""
    device, latency, memory = present(report.device), run.latency_ms, run.memory_kib
    samples = [] if run.emulated else latency.samples
    times = {
        "p50": latency.p50,
        "p95": latency.p95,
        "p99": latency.p99,
        "fastest": latency.min,
        "slowest": latency.max,
        "first run": latency.first,
        "loading": latency.load,
    }
    sizes = {
        "memory before loading": memory.baseline,
        "memory after loading": memory.after_load,
        "peak memory": memory.peak,
    }
    return MeasurementView(
        machine=run.host.cpu or "An unnamed processor",
        kind=run.host.machine,
        target=report.profile,
        own=ran_on(run, report.profile),
        timed=not run.emulated,
        predicted=device is not None and device.predicted.latency_ms is not None,
        how=_how(run),
        chart=_chart(samples, latency) if samples else "",
        runs=fmt.whole(len(samples)),
        latency=[
            (name, f"{fmt.number(value, 2)} ms")
            for name, value in times.items()
            if value is not None and not run.emulated
        ],
        memory=[(name, fmt.mib(value)) for name, value in sizes.items() if value is not None],
        golden=_golden(run.golden),
        warnings=run.warnings,
        facts=_facts(run.host),
    )


def _how(run: Bench) -> str:
    """Runtime, delegate, threads, transport and profile, in a line."""
    runtime = run.runtime
    parts = [
        f"{runtime.name} {runtime.version}",
        runtime.delegate or "",
        fmt.plural(runtime.threads, "thread"),
        f"transport {run.transport}",
        f"profile {run.profile}",
    ]
    return ", ".join(part for part in parts if part)


def _chart(samples: list[float], latency: LatencyMs) -> str:
    known = {"p50": latency.p50, "p95": latency.p95, "p99": latency.p99}
    marks = {name: value for name, value in known.items() if value is not None}
    told = ", ".join(f"{name} {value:.4g} ms" for name, value in marks.items())
    return charts.histogram(
        samples, marks, "ms", f"Number of runs by latency, of {len(samples)} runs: {told}"
    )


def _golden(golden: GoldenAnswers | None) -> str:
    """How the answers to the stored images compare with the build's; "" without golden set."""
    if golden is None:
        return ""
    # An output of another number format than int8 has no codes to compare.
    off = (
        ""
        if golden.max_abs_lsb is None
        else f", largest difference {fmt.whole(golden.max_abs_lsb)} LSB"
    )
    return (
        f"{fmt.plural(golden.images, 'stored image')}: same class as in the build on "
        f"{fmt.percent(golden.argmax_agreement)}{off}; {fmt.percent(golden.top1)} right"
        + "".join(map(_further, present(golden.further) or []))
    )


def _further(row: FurtherAnswers) -> str:
    if row.max_abs_lsb is None:
        return ""
    return f"; output {row.name}: largest difference {fmt.whole(row.max_abs_lsb)} LSB"


def _facts(host: Host) -> list[tuple[str, str]]:
    """What is known about the machine."""
    clock, temperature = host.clock_khz, host.temperature_c
    facts = [
        ("cores", host.cores),
        ("kernel", host.kernel),
        ("Python", host.python),
        ("governor", host.governor),
        ("clock", None if clock is None else f"{clock / 1000:,.0f} MHz"),
        ("temperature", None if temperature is None else f"{temperature:.0f} °C"),
    ]
    return [(name, str(value)) for name, value in facts if value is not None]
