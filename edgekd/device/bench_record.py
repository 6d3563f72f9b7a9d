"""The schemas edgekd.bench/1 (bench/*.json) and edgekd.bench-error/1 (the runner's error) as
records.

The runner (edgebench.py) writes every field except `profile`, `transport` and `emulated`, which the
host adds. The bounds of a number reject what no machine can have measured, because the host trusts
no file that comes back from a device. A field is None where the device, or Android's
benchmark_model, does not tell it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from edgekd.core.records import UNSET, Record, UnsetType
from edgekd.device import edgebench

SCHEMA = edgebench.SCHEMA
ERROR_SCHEMA = edgebench.ERROR_SCHEMA

MOST = 10**12  # more milliseconds, kibibytes or runs than any measurement has
Count = Annotated[int, Meta(ge=0, le=2**53)]  # JSON numbers are exact integers up to 2^53
Positive = Annotated[int, Meta(ge=1, le=2**53)]
Milliseconds = Annotated[float, Meta(ge=0, le=MOST)]
Seconds = Annotated[float, Meta(ge=0, le=MOST)]
Share = Annotated[float, Meta(ge=0, le=1)]
Celsius = Annotated[float, Meta(ge=-100, le=300)]
Cores = Annotated[int, Meta(ge=1, le=4096)]
ThrottledWord = Annotated[str, Meta(pattern="^0x[0-9a-fA-F]{1,8}$")]
CoreNumber = Annotated[int, Meta(ge=0, le=edgebench.MAX_CORE)]


class Runtime(Record, frozen=True):
    """What ran the model. `delegate`: "xnnpack", "none", or the name that was asked for."""

    name: str
    version: str
    delegate: str | None
    threads: Annotated[int, Meta(ge=1, le=edgebench.LIMITS["threads"][1])]


class Throttled(Record, frozen=True):
    """The words of `vcgencmd get_throttled` before and after the run, such as "0x50005"."""

    before: ThrottledWord
    after: ThrottledWord


class HostBefore(Record, frozen=True):
    """Clock (kHz) and temperature (degrees Celsius) before the run."""

    clock_khz: Count | None
    temperature_c: Celsius | None


class Host(Record, frozen=True):
    """The machine, and its clock and temperature after the run."""

    machine: str
    cpu: str | None
    cores: Cores | None
    kernel: str
    python: str | None
    governor: str | None
    clock_khz: Count | None
    temperature_c: Celsius | None
    throttled: Throttled | None
    before: HostBefore


class Settings(Record, frozen=True):
    """How the times were taken.

    `warmup_runs`: the warm-up runs that were made. `cores`: the cores that the run was kept on.
    """

    warmup_runs: Count
    runs: Positive
    min_seconds: Seconds
    seed: Count
    cores: list[CoreNumber] | None


class LatencyMs(Record, frozen=True):
    """Milliseconds of one inference; copies of the input and the output are not counted.

    `load`: until the tensors are allocated. `first`: the first inference. `std`: of the population.
    `samples`: every timed run, in order; empty for a tool that does not tell them.
    """

    load: Milliseconds | None
    first: Milliseconds | None
    p50: Milliseconds | None
    p90: Milliseconds | None
    p95: Milliseconds | None
    p99: Milliseconds | None
    mean: Milliseconds | None
    std: Milliseconds | None
    min: Milliseconds | None
    max: Milliseconds | None
    samples: Annotated[list[Milliseconds], Meta(max_length=edgebench.MAX_SAMPLES)]


class MemoryKib(Record, frozen=True):
    """Resident memory of the process in KiB: before the model, with the model, and at most.

    `load_growth` and `run_growth`: how much the process grew until the model was loaded, and until
    the end. Android's benchmark_model alone tells them, and the first two not.
    """

    baseline: Count | None
    after_load: Count | None
    peak: Count | None
    load_growth: Count | UnsetType = UNSET
    run_growth: Count | UnsetType = UNSET


class FurtherAnswers(Record, frozen=True):
    """An output behind the answers, on the first `images` golden images.

    `max_abs_lsb` is None for an output that is no 8-bit code.
    """

    name: str
    images: Positive
    max_abs_lsb: Annotated[int, Meta(ge=0, le=255)] | None


class GoldenAnswers(Record, frozen=True):
    """The golden set on the device.

    `max_abs_lsb` is None for a model whose output is no 8-bit code. `further`: the other outputs of
    a model with several.
    """

    images: Positive
    argmax_agreement: Share
    max_abs_lsb: Annotated[int, Meta(ge=0, le=255)] | None
    top1: Share
    further: list[FurtherAnswers] | UnsetType = UNSET


class MicroAnswers(Record, frozen=True):
    """The model in TensorFlow Lite Micro's interpreter, on the machine that EdgeKD runs on.

    `version`: of the package tflite-micro. `arena_bytes`: what it allocated, with 64-bit pointers
    and reference kernels. `golden`: None without a golden set.
    """

    version: str
    arena_bytes: Positive
    golden: GoldenAnswers | None


class SoakWindow(Record, frozen=True):
    """One row of a soak's trace.

    `at_s`: seconds from the start. `p50_ms`: the median of its runs. The rest is the machine at its
    end.
    """

    at_s: Seconds
    p50_ms: Milliseconds
    runs: Positive
    clock_khz: Count | None
    temperature_c: Celsius | None
    throttled: str | None


class Soak(Record, frozen=True):
    """A run without a pause. `slowdown`: the end against the start, as a share (0.1: 10 %
    slower).
    """

    minutes: Annotated[float, Meta(ge=0, le=edgebench.LIMITS["soak_minutes"][1])]
    verdict: Literal["steady", "slows", "throttles"]
    slowdown: Annotated[float, Meta(ge=-1, le=MOST)]
    reason: str
    trace: Annotated[list[SoakWindow], Meta(min_length=1, max_length=2 * edgebench.SOAK_WINDOWS)]


class Bench(Record, frozen=True, kw_only=True):
    """One measurement. `emulated`: the run was on an emulator, and its times are void. `micro`: for
    a microcontroller's profile; the times are those of LiteRT here, and void.

    `output_sha256`: of the bytes of every output, for the random input and for each golden image.
    """

    schema: str = SCHEMA
    model_sha256: str
    runner_version: str
    profile: str
    transport: str
    runtime: Runtime
    host: Host
    settings: Settings
    latency_ms: LatencyMs
    memory_kib: MemoryKib
    golden: GoldenAnswers | None
    output_sha256: str | None
    soak: Soak | None
    emulated: bool
    warnings: list[str]
    micro: MicroAnswers | UnsetType = UNSET


class BenchFailure(Record, frozen=True, kw_only=True):
    """The runner's error. `kind`: model, golden, runtime, delegate, crash, timeout or device."""

    schema: str = ERROR_SCHEMA
    runner_version: str
    kind: str
    message: str
    next_step: str
