"""The records behind the answer of `edgekd check` (schema edgekd.check/1).

Their fields are the fields of the published JSON. Sizes are in bytes and times in milliseconds.
"""

from __future__ import annotations

import enum
import math
from typing import Final, Literal

from edgekd.core.number_formats import NumberFormat
from edgekd.core.records import UNSET, Record, UnsetType

SCHEMA: Final = "edgekd.check/1"


class Origin(enum.StrEnum):
    """Where the statement that an operator maps comes from."""

    PREDICTED = "predicted"  # from the device's published rules
    COMPILED = "compiled file"  # from a file that the device's compiler has already made
    COMPILER = "compiler"  # from the table that the device's compiler printed for this model


def percent(share: float) -> str:
    """A share of 0 to 1 in percent: only the whole reads 100%, and only nothing reads 0%."""
    if 0 < share < 0.01:
        return "less than 1%"
    if 0.99 < share < 1:
        return f"{math.floor(share * 1e4) / 100:.2f}%"
    return f"{share:.0%}"


class OpRow(Record, frozen=True):
    """One operator that does not map. `status` is in the words of the device's own tools."""

    op: str
    index: int
    status: str
    why: str


class FloatIsland(Record, frozen=True):
    """A run of float operators in an integer graph: first and last index, and how many."""

    first: int
    last: int
    ops: int


class MappedBlock(Record, frozen=True):
    """How many operators run where the profile wants them.

    `share_of_macs`: share of the multiply-accumulates, None where the file no longer says, or
    where the model has none.
    `partitions`: parts that the delegate takes. `ends_at`: the operator that ends the mapping.
    """

    ops: int
    mapped: int
    share_of_macs: float | None
    consumer: str
    origin: Origin
    partitions: int
    ends_at: OpRow | None
    float_islands: list[FloatIsland]
    fallback: list[OpRow]


class RefusedOp(Record, frozen=True):
    """An operator for which a runtime refuses the whole file, and why.

    `op`: the name of a builtin or of a custom operator.
    """

    op: str
    version: int
    why: str


class LoadBlock(Record, frozen=True):
    """Whether the device can load the file.

    `by`: the runtime or the compiler that reads it, with its version. `oldest`: package -> its
    oldest version that loads the file, None where none does. `words`: what the interpreter of this
    machine said when it refused the file, "" where it did not. `next_step`: what to do about a
    refusal, "" where there is none.
    """

    by: str
    loads: bool
    refused: list[RefusedOp]
    oldest: dict[str, str | None]
    words: str
    next_step: str


class Memory(Record, frozen=True, kw_only=True):
    """What the model needs, and what the profile allows.

    `arena_bytes`: peak of the tensor arena as planned. `busiest_op`: index of the operator at
    which most bytes are alive. `edgetpu_*`: only for a device with such a memory; see `CacheUse`.
    `file_bytes`, `limit_bytes` and `interpreter_arena_bytes` are set by `edgekd check`;
    `interpreter_arena_bytes` is what an interpreter allocated, None where no interpreter was run.
    `streaming_ms`: milliseconds of streaming parameters on every inference, by link.
    `micro_*`: only for a microcontroller, whose arena is `arena_bytes`: the part that is planned
    anew for each operator, the part that stays, the flash that the model takes, and the limits.
    """

    arena_bytes: int
    parameter_bytes: int
    busiest_op: int
    busiest_op_bytes: int
    edgetpu_sram_bytes: int | UnsetType = UNSET
    edgetpu_executable_bytes: int | UnsetType = UNSET
    edgetpu_scratch_bytes: int | UnsetType = UNSET
    edgetpu_budget_bytes: int | UnsetType = UNSET
    edgetpu_cached_bytes: int | UnsetType = UNSET
    edgetpu_streamed_bytes: int | UnsetType = UNSET
    micro_planned_bytes: int | UnsetType = UNSET
    micro_persistent_bytes: int | UnsetType = UNSET
    micro_kernel_buffer_bytes: int | UnsetType = UNSET
    micro_arena_limit_bytes: int | UnsetType = UNSET
    micro_flash_limit_bytes: int | UnsetType = UNSET
    file_bytes: int | UnsetType | None = UNSET
    limit_bytes: int | UnsetType = UNSET
    interpreter_arena_bytes: int | UnsetType | None = UNSET
    streaming_ms: dict[str, float] | UnsetType = UNSET


class Prediction(Record, frozen=True):
    """The predicted latency with the bounds of its 90 % interval, None where nothing is known.

    `basis`: the measurements that the prediction rests on. `time_by_op`: operator -> milliseconds;
    the values add up to `latency_ms`.
    """

    latency_ms: float | None
    low_ms: float | None
    high_ms: float | None
    basis: str
    time_by_op: dict[str, float] | UnsetType = UNSET

    @property
    def spoken(self) -> str:
        """The latency with its interval: "11.9 ms (10.8 to 13.1)". It must be known."""
        return f"{self.latency_ms:.3g} ms ({self.low_ms:.3g} to {self.high_ms:.3g})"


class LatencyCut(Record, frozen=True):
    """The smallest cut of a student whose predicted latency keeps `prune.target_latency`.

    `ratio`: the share of its channels that each group loses, before widths are rounded. `before`,
    `after`: what is predicted for the int8 student before and after the cut.
    """

    target_ms: float
    ratio: float
    before: Prediction
    after: Prediction

    def __str__(self) -> str:
        """In one line."""
        return (
            f"prune.target_latency {self.target_ms:g} ms: predicted {self.before.spoken} before "
            f"pruning, and {self.after.spoken} after it, as with prune.ratio={self.ratio:g}"
        )


class FormatLatency(Record, frozen=True):
    """The predicted latency of the network in a number format other than int8."""

    format: NumberFormat
    predicted: Prediction


class OtherSize(Record, frozen=True):
    """The student at another input size or width, as a build would write it.

    `input_px`: the side of its input. `pruned`: the share of its channels that structured pruning
    takes. `macs`: multiply-accumulates for one image. `failures`: the profile's limits that are
    not met, empty where `passed`.
    """

    input_px: int
    pruned: float
    passed: bool
    ops: int
    mapped: int
    macs: int
    arena_bytes: int
    file_bytes: int
    predicted: Prediction
    failures: list[str]


class PairRow(Record, frozen=True):
    """A pointwise layer that becomes two, of `inputs` -> `rank` -> `outputs` channels.

    `macs_before`, `macs`: its multiply-accumulates, and those of the two. `ms_before`, `ms`: the
    same in predicted milliseconds on the device. `energy`: the share of the variance of its outputs
    that the rank keeps; absent before training.
    """

    layer: str
    inputs: int
    rank: int
    outputs: int
    macs_before: int
    macs: int
    ms_before: float
    ms: float
    energy: float | UnsetType = UNSET


class EditRow(Record, frozen=True):
    """One edit of the network, and what the device makes of the edited graph.

    `sets`: the recipe's keys that make the edit, empty where no setting does.
    `gain_ms`: predicted milliseconds that the edit saves. `passes`: whether the profile's limits
    are met after it.
    """

    edit: str
    key: str
    why: str
    how: str
    sets: dict[str, str | int]
    gain_ms: float | None
    latency_ms: float | None
    mapped: int
    ops: int
    share_of_macs: float | None
    passes: bool
    ends_at: OpRow | None


class LowRankBlock(Record, frozen=True):
    """What `prune.low_rank` makes of the student, by its shapes alone.

    `share`: of its multiply-accumulates that a pair of layers may have. `kept_whole`: how many
    pointwise layers are no pair, by reason. `before`, `after`: what is predicted for the int8
    student without and with the pairs; where channels are cut, too, after these cuts.
    """

    share: float
    pairs: list[PairRow]
    kept_whole: dict[str, int]
    before: Prediction
    after: Prediction
    notes: list[str]

    def __str__(self) -> str:
        """In one line."""
        total = len(self.pairs) + sum(self.kept_whole.values())
        layers = f"{len(self.pairs)} of {total} pointwise layers become two"
        told = f"prune.low_rank {self.share:g}: {layers}"
        if self.before.latency_ms is None or self.after.latency_ms is None:
            return told
        return f"{told}, predicted {self.before.spoken} without and {self.after.spoken} with that"


class CompiledBlock(Record, frozen=True):
    """What stands in a compiled Edge TPU file.

    `cpu_ops`: the operators left to the CPU, by name in the order of the graph. `cpu_tail`: those
    of them that come after the last operator of the accelerator.
    """

    edgetpu_ops: int
    executable_bytes: int
    cpu_ops: list[str]
    cpu_tail: list[str]


class CompilerRow(Record, frozen=True):
    """One row of the compiler's table: `count` operators of the kind `op` with this status."""

    op: str
    count: int
    status: str


class CompilerReport(Record, frozen=True, kw_only=True):
    """What edgetpu_compiler, or an NPU's compiler, printed, and what stands in its file.

    A field that the compiler's version does not print is absent. `errors`: also those of attempts
    before one that succeeded. `attempts`: how many there were; with -d the compiler tries again
    with fewer operators.
    """

    program: str | UnsetType = UNSET  # absent for edgetpu_compiler
    version: str
    succeeded: bool
    milliseconds: int | None
    input_bytes: int | UnsetType = UNSET
    output_bytes: int | UnsetType = UNSET
    cached_bytes: int | UnsetType = UNSET
    cache_left_bytes: int | UnsetType = UNSET
    streamed_bytes: int | UnsetType = UNSET
    subgraphs: int | UnsetType = UNSET
    on_cpu: int | UnsetType = UNSET
    operations: int
    mapped: int
    rows: list[CompilerRow]
    errors: list[str]
    attempts: int | UnsetType = UNSET
    edgetpu_ops: int
    executable_bytes: int
    cpu_ops: list[str]
    cpu_tail: list[str]


class DeviceCheck(Record, frozen=True, kw_only=True):
    """The whole answer of `edgekd check`.

    `compiled`: only for a file that the Edge TPU's compiler has made. `compiler`: only where that
    compiler was run; where it succeeded, `mapped` follows its table, and `rules` is what the
    published rules predict. `next_step`: what to do about the failures. `loading`: absent from
    answers of version 0.2.0 and older. `key`: hash of student and device, in the answer that a
    build keeps.
    """

    schema: Literal["edgekd.check/1"] = SCHEMA
    model: str
    profile: str
    passed: bool
    mapped: MappedBlock
    memory: Memory
    predicted: Prediction
    edits: list[EditRow]
    failures: list[str]
    notes: list[str]
    next_step: str | UnsetType = UNSET
    loading: LoadBlock | UnsetType = UNSET
    rules: MappedBlock | UnsetType = UNSET
    compiled: CompiledBlock | UnsetType = UNSET
    compiler: CompilerReport | UnsetType = UNSET
    key: str | UnsetType = UNSET
    formats: list[FormatLatency] | UnsetType = UNSET  # only where more than int8 is asked for
    others: list[OtherSize] | UnsetType = UNSET  # only where --sizes or --widths asks for them
    pruned: LatencyCut | UnsetType = UNSET  # only where prune.target_latency asks for it
    low_rank: LowRankBlock | UnsetType = UNSET  # only where prune.low_rank asks for it
