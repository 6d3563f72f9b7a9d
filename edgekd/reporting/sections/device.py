"""The section "The file and the device": the .tflite, its operators, and where they run."""

from __future__ import annotations

import dataclasses

import msgspec

from edgekd.assessment.check_record import Prediction
from edgekd.core.records import present
from edgekd.reporting import charts
from edgekd.reporting import text as fmt
from edgekd.reporting.report_record import Artifact, Port, Report


@dataclasses.dataclass(frozen=True)
class PortLine:
    """The input or output tensor."""

    name: str
    dtype: str
    shape: str
    scale: str
    zero_point: str


@dataclasses.dataclass(frozen=True)
class OpLine:
    """One kind of operator. `bar`: its share of the time, or of the largest count, as SVG."""

    op: str
    count: int
    away: bool
    share: str
    bar: str


@dataclasses.dataclass(frozen=True)
class TimeLine:
    """A part of the predicted time that belongs to no operator."""

    name: str
    share: str


@dataclasses.dataclass(frozen=True)
class ArtifactView:
    """The file. `timed`: whether the operators' shares are of the predicted time."""

    path: str
    size: str
    exact: str
    full_integer: bool
    ports: list[PortLine]
    pixels: str
    ops: list[OpLine]
    rest: list[TimeLine]
    timed: bool
    mapped: bool


@dataclasses.dataclass(frozen=True)
class DeviceView:
    """What the device makes of the file. None where nothing is known."""

    profile: str
    mapped: str
    ops: str
    share: str | None
    away: list[str]
    latency: str | None
    basis: str
    memory: list[tuple[str, str]]


def artifact(report: Report) -> ArtifactView | None:
    """The file: size, operators, input and output; None before it is converted."""
    block, device = present(report.artifact), present(report.device)
    if block is None:
        return None
    away = set() if device is None else {row.op for row in device.mapped.fallback}
    times = {} if device is None else present(device.predicted.time_by_op) or {}
    total = sum(times.values()) or 1.0
    return ArtifactView(
        path=block.path,
        size=fmt.kib(block.bytes),
        exact=fmt.whole(block.bytes),
        full_integer=block.full_integer,
        ports=[
            _port("input", block.input),
            _port("output", block.output),
            *(_port(f"output {port.name}", port) for port in present(block.further) or []),
        ],
        pixels=block.input.dtype,
        ops=_ops(block, away, times, total),
        rest=[
            TimeLine(name, fmt.share(ms / total))
            for name, ms in times.items()
            if name not in block.ops and ms > 0
        ],
        timed=bool(times),
        mapped=device is not None,
    )


def _port(name: str, port: Port) -> PortLine:
    return PortLine(
        name=name,
        dtype=port.dtype,
        shape=" × ".join(str(side) for side in port.shape),
        scale=fmt.NONE if port.scale is None else f"{port.scale:.9g}",
        zero_point=fmt.whole(port.zero_point),
    )


def _ops(block: Artifact, away: set[str], times: dict[str, float], total: float) -> list[OpLine]:
    """Every kind of operator, the most frequent first."""
    most = max(block.ops.values(), default=1) or 1
    return [
        OpLine(
            op=op,
            count=count,
            away=op in away,
            share=fmt.share(times.get(op, 0.0) / total),
            bar=charts.bar(
                times.get(op, 0.0) / total if times else count / most,
                "away" if op in away else "first",
            ),
        )
        for op, count in sorted(block.ops.items(), key=lambda item: (-item[1], item[0]))
    ]


def device(report: Report) -> DeviceView | None:
    """Where the operators run, the memory and the predicted latency."""
    block = present(report.device)
    if block is None:
        return None
    mapped = block.mapped
    share = mapped.share_of_macs
    return DeviceView(
        profile=report.profile,
        mapped=fmt.whole(mapped.mapped),
        ops=fmt.whole(mapped.ops),
        share=None if share is None else fmt.percent(share),
        away=[f"{row.op} ({row.status})" for row in mapped.fallback],
        latency=_latency(block.predicted),
        basis=block.predicted.basis,
        memory=[
            (key.removesuffix("_bytes").replace("_", " "), fmt.kib(value))
            for key, value in msgspec.structs.asdict(block.memory).items()
            if isinstance(value, int) and key != "file_bytes"  # stands with the file
        ],
    )


def _latency(predicted: Prediction) -> str | None:
    """The predicted latency with its interval; None where nothing is predicted."""
    if predicted.latency_ms is None:
        return None
    return f"{predicted.latency_ms:.3g} ms ({predicted.low_ms:.3g}–{predicted.high_ms:.3g} ms)"
