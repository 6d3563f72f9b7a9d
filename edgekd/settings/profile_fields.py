"""What a device profile holds: one field per figure, with its type, its bounds and its meaning."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edgekd.core.artifacts import Json
from edgekd.core.number_formats import NumberFormat
from edgekd.core.records import UNSET, Record, UnsetType
from edgekd.settings.compression_settings import EditsConfig
from edgekd.settings.setting_types import Share

MOST = 1_000_000  # MB/s, above any link
Count = Annotated[int, Meta(ge=1, le=2**31)]
# A whole number stays one, so that the JSON says what the file says.
Megabytes = Annotated[int, Meta(ge=1, le=MOST)] | Annotated[float, Meta(ge=0.001, le=MOST)]
Mebibytes = Count | Annotated[float, Meta(ge=0.01, le=2**31)]
Kibibytes = Annotated[int, Meta(ge=0, le=2**31)]


class CompilerOptions(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of edgetpu_compiler that differ from its defaults.

    `runtime`: the oldest libedgetpu runtime that must run the file (-m). `many_subgraphs`: several
    parts may run on the accelerator (-a). `search`: search for a split of the graph that compiles
    (-d). `timeout_s`: of the compiler (-t).
    """

    runtime: Annotated[int, Meta(ge=1, le=1000)] | UnsetType = UNSET
    many_subgraphs: Literal[True] | UnsetType = UNSET
    search: Literal[True] | UnsetType = UNSET
    timeout_s: Annotated[int, Meta(ge=1, le=86_400)] | UnsetType = UNSET


@dataclasses.dataclass(frozen=True)
class DeviceProfile:
    """One device. The origin of every figure is in `sources`, by the name of the field."""

    name: Annotated[str, Meta(description="The name for --profile.")]
    title: Annotated[str, Meta(description="The device's full name.")]
    runtime: Annotated[
        str,
        Meta(
            description="The package that runs models on the device, with its version where that "
            'is not the newest: "tflite-runtime 2.7.0".'
        ),
    ]
    machine: Annotated[str, Meta(description="What `uname -m` prints there; empty for any.")]
    board: Annotated[
        str, Meta(description="Text that the device's own name contains; empty for any.")
    ]
    cpu: Annotated[str, Meta(description="The processor.")]
    clock_mhz: Annotated[int, Meta(ge=0, le=100_000, description="Clock in MHz; 0 if unknown.")]
    cores: Annotated[Count, Meta(description="Number of cores.")]
    threads: Annotated[Count, Meta(description="Number of threads that a run uses.")]
    cpu_flags: Annotated[
        tuple[str, ...],
        Meta(description="Flags in /proc/cpuinfo on which the choice of int8 kernels depends."),
    ]
    memory_mib: Annotated[Mebibytes, Meta(description="Memory of the smallest board sold, in MiB.")]
    io_dtype: Annotated[
        Literal["int8", "uint8"], Meta(description="Type of the model's input and output.")
    ]
    classifier_weights: Annotated[
        Literal["per-channel", "per-tensor"],
        Meta(description="Granularity of the weight scales of the last FULLY_CONNECTED."),
    ]
    formats: Annotated[
        tuple[NumberFormat, ...],
        Meta(
            description="Number formats that a build makes beside int8 where its recipe names "
            "none. May be left out of a profile's file."
        ),
    ]
    pooling: Annotated[
        Literal["mean", "average_pool"], Meta(description="The operator of the global pooling.")
    ]
    softmax: Annotated[
        Literal["none", "append"], Meta(description="Whether the model ends with a SOFTMAX.")
    ]
    hard_swish: Annotated[
        Literal["keep", "relu6"], Meta(description="What replaces hard-swish activations.")
    ]
    squeeze_excite: Annotated[
        Literal["keep", "remove", "hard_gate"],
        Meta(description="What becomes of squeeze-and-excite blocks."),
    ]
    gelu: Annotated[
        Literal["keep", "relu6"],
        Meta(
            description="What replaces GELU activations. May be left out of a profile's file: "
            '"keep".'
        ),
    ]
    channel_multiple: Annotated[
        Count, Meta(description="Channel counts that are a multiple of this waste no kernel lanes.")
    ]
    mapper: Annotated[
        str,
        Meta(
            description="Whose rules decide where an operator runs: "
            '"kernels" (the table [ops]), "edgetpu", "nnapi", "npu", "tflite-micro", or the name '
            "of a plug-in."
        ),
    ]
    api_level: Annotated[int, Meta(ge=0, le=1000, description="Android API level; 0 elsewhere.")]
    accelerator: Annotated[
        str,
        Meta(
            description="The name of the accelerator for NNAPI, or the vendor of an NPU; empty "
            "for none."
        ),
    ]
    fallback_cpu: Annotated[
        str,
        Meta(
            description="The profile that prices operators left on the CPU; empty if they cost the "
            "same."
        ),
    ]
    compiler: Annotated[
        CompilerOptions,
        Meta(description="Options of edgetpu_compiler that differ from its defaults."),
    ]
    parameter_cache_mib: Annotated[
        int, Meta(ge=0, le=2**31, description="The accelerator's own memory in MiB; 0 for none.")
    ]
    link_mb_s: Annotated[
        dict[str, Megabytes],
        Meta(description="Speed in MB/s of each link over which weights are streamed."),
    ]
    latency: Annotated[
        str,
        Meta(description="The fitted latency model, a file beside the profile; empty for none."),
    ]
    min_mapped: Annotated[
        Share, Meta(description="Share of the MACs that must run where they should.")
    ]
    max_memory_share: Annotated[
        Share,
        Meta(
            description="Share of memory_mib that file and arena may take together; on a "
            "microcontroller, the share of flash_kib that the model may take."
        ),
    ]
    arena_kib: Annotated[
        Kibibytes,
        Meta(
            description="The largest tensor arena of a microcontroller, in KiB of RAM; 0 "
            "elsewhere. May be left out of a profile's file."
        ),
    ]
    flash_kib: Annotated[
        Kibibytes,
        Meta(
            description="Flash of a microcontroller, in KiB; 0 elsewhere. May be left out of a "
            "profile's file."
        ),
    ]
    micro_kernels: Annotated[
        Literal["", "reference", "cmsis-nn", "esp-nn"],
        Meta(
            description="The library of kernels that the firmware of a microcontroller is built "
            "with; empty elsewhere. May be left out of a profile's file."
        ),
    ]
    ops: Annotated[
        dict[str, str],
        Meta(description="The TFLite operators that may be used, each with the reason."),
    ]
    notes: Annotated[tuple[str, ...], Meta(description="What users of the device should know.")]
    deprecated: Annotated[
        str, Meta(description="What to use instead; empty unless the device is out of date.")
    ]
    measured_on_hardware: Annotated[
        bool, Meta(description="Whether EdgeKD has been run on such a device.")
    ]
    sources: Annotated[dict[str, str], Meta(description="Where each figure comes from.")]

    @property
    def rules(self) -> dict[str, str]:
        """What QAT must know of the device, as the arguments of `int8_rules.Int8Rules`."""
        return {
            "io_dtype": self.io_dtype,
            "classifier": self.classifier_weights.replace("-", "_"),
            "pooling": self.pooling,
            "softmax": self.softmax,
        }

    @property
    def edits(self) -> dict[str, str]:
        """What to change in the student, as the argument of `student_edits.apply`. Often empty."""
        wanted = {
            "hard_swish": self.hard_swish,
            "squeeze_excite": self.squeeze_excite,
            "gelu": self.gelu,
        }
        return {name: value for name, value in wanted.items() if value != "keep"}

    def with_edits(self, edits: EditsConfig) -> DeviceProfile:
        """The profile with the edits of a recipe in place of its own."""
        asked = {name: value for name, value in vars(edits).items() if value}
        return dataclasses.replace(
            self, **asked, sources={**self.sources, **dict.fromkeys(asked, "the recipe's [edits]")}
        )

    def to_json(self) -> Json:
        """Every field as plain JSON, for `edgekd profiles NAME --json`."""
        return msgspec.json.decode(msgspec.json.encode(self))
