"""The arguments of `edgekd bench`, on the command line and in Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field

from edgekd.app.arguments import Arguments, PathLike
from edgekd.app.command_options import MAY_BE_EMPTY, option, positional
from edgekd.app.progress import Progress


@dataclass(frozen=True)
class Bench(Arguments):
    """Measure latency, memory and agreement with the golden set on a device."""

    model: PathLike = field(
        metadata=positional(
            "a .tflite file (OUT/formats holds other formats), an out folder, or a bundle",
            "MODEL.tflite|DIR|BUNDLE",
        )
    )
    _: KW_ONLY
    profile: str | None = field(
        default=None,
        metadata=option(
            "device profile, or several: pi4,pi5 (default: host; for a kit's result, the kit's)"
        ),
    )
    local: bool = field(
        default=False, metadata=option("on this machine (default)", exclusive="where")
    )
    ssh: str | None = field(
        default=None,
        metadata=option(
            "over OpenSSH, with your keys, agent and known hosts",
            "[USER@]HOST[:PORT]",
            exclusive="where",
        ),
    )
    adb: str | None = field(
        default=None,
        metadata=option(
            "on an Android device, with benchmark_model; without SERIAL, on the only one attached",
            "SERIAL",
            nargs=MAY_BE_EMPTY,
            const="",
            exclusive="where",
        ),
    )
    emulate: bool = field(
        default=False,
        metadata=option(
            "on the emulated Pi 4 of tools/pi_emulator.py: compares its output bytes with this "
            "machine's; its times are void",
            exclusive="where",
        ),
    )
    emit: PathLike | None = field(
        default=None,
        metadata=option(
            "write runner, model and command for a board without network", "DIR", exclusive="where"
        ),
    )
    kit: PathLike | None = field(
        default=None,
        metadata=option(
            "write a folder that a person with a board runs without knowing Python, and that gives "
            "one file back; NAME.zip packs it",
            "DIR|NAME.zip",
            exclusive="where",
        ),
    )
    brought: PathLike | None = field(
        default=None,
        metadata=option(
            "the result that a board wrote in the folder of --emit or --kit",
            "RESULT.json",
            exclusive="where",
        ),
    )
    also: PathLike | Sequence[PathLike] = field(
        default=(),
        metadata=option(
            "--kit: another model, as MODEL, or an untrained network such as mobilenetv2_035@160; "
            "may be repeated",
            "MODEL|NAME@PX",
            repeated=True,
        ),
    )
    wheels: bool = field(
        default=False,
        metadata=option(
            "--kit: with numpy and ai-edge-litert for Python 3.11 and 3.13 on the board, for a "
            "board without a network; pip fetches them"
        ),
    )
    format: str | None = field(
        default=None,
        metadata=option(
            "which file of an out folder or a bundle: float16, float32, dynamic, int16x8 or mixed "
            "(default: int8; --kit and its result: all)",
            "NAME",
        ),
    )
    python: str = field(
        default="python3",
        metadata=option("--ssh: Python on the device (default: %(default)s)", "PATH"),
    )
    ssh_config: PathLike | None = field(
        default=None, metadata=option("--ssh: configuration file, as for ssh -F", "FILE")
    )
    benchmark_model: PathLike | None = field(
        default=None, metadata=option("--adb: LiteRT's tool, built for the device", "FILE")
    )
    delegate: str = field(
        default="auto",
        metadata=option(
            "auto, xnnpack, none, edgetpu[:DEVICE], external:LIBRARY[,KEY=VALUE...]; "
            "--adb: xnnpack, none, gpu, npu, nnapi[:ACCELERATOR]",
            "NAME",
        ),
    )
    npu_libraries: PathLike | None = field(
        default=None,
        metadata=option(
            "--adb --delegate npu: the vendor's libraries for the phone (libLiteRtDispatch_*.so "
            "and others)",
            "DIR",
        ),
    )
    threads: int | None = field(
        default=None, metadata=option("number of threads (default: the profile's)", parse=int)
    )
    cores: str | None = field(
        default=None, metadata=option("run on these cores only, such as 4-7", "LIST")
    )
    runs: int = field(default=50, metadata=option("timed runs (default: %(default)s)", parse=int))
    soak: float | None = field(
        default=None,
        metadata=option("keep running for this long, to see throttling", "MINUTES", parse=float),
    )
    timeout: float = field(
        default=600.0,
        metadata=option(
            "limit for everything but the soak (default: %(default)s)", "SECONDS", parse=float
        ),
    )
    out: PathLike | None = field(
        default=None,
        metadata=option(
            "keep the result in DIR/bench (default: MODEL, if it is a folder; beside it, in "
            "MODEL_measured, if it is a bundle)",
            "DIR",
        ),
    )
    progress: Progress | None = None
