"""Device profile TOML -> DeviceProfile: what a device is and what may run on it, as data with a source a figure.

In the file every figure is `{ value = ..., source = "..." }`. Users add a device by writing such a file and giving
its path: `--profile ./my_board.toml`. With `extends = "pi4"` a file needs to say only what differs from that profile.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekd.core.errors import ProfileError, UnknownName, nearest
from edgekd.core.resources import folder
from edgekd.settings.recipe import EditsConfig

AUTO = "auto"  # as a value: counted on the machine that reads the profile


@dataclass(frozen=True)
class DeviceProfile:
    """One device. Every figure's origin is in `sources`, by field name.

    `runtime`: the package that runs models there. `machine`: what `uname -m` says there, "" for any. `board`: text that
    the device's own name holds, "" for any. `clock_mhz`: MHz, 0 when not known. `cores`, `threads`: how many it has and
    how many a run uses. `cpu_flags`: of /proc/cpuinfo, those that choose int8 kernels. `memory_mib`: MiB, of the
    smallest board sold. `io_dtype`: "int8" or "uint8". `classifier_weights`: "per-channel" or "per-tensor", of the last
    FULLY_CONNECTED. `pooling`: "mean" or "average_pool", the global one. `channel_multiple`: widths that waste no
    kernel lanes. `mapper`: whose rules decide where an op runs: "kernels" (`ops`), "edgetpu" or "nnapi". `api_level`:
    Android's, 0 elsewhere. `accelerator`: the name handed to NNAPI, "" for none. `fallback_cpu`: the profile that prices
    ops left on the CPU, "" where they cost the same. `compiler`: what edgetpu_compiler is told beyond its defaults, by
    `COMPILER_OPTIONS`. `parameter_cache_mib`: MiB of an accelerator's own memory, 0 for
    none. `link_mb_s`: MB/s of each way that weights can be streamed, the usual one first. `latency`: path of the fitted
    model, "" for none. `min_mapped`: share of the MACs that must run where they should. `max_memory_share`: of
    `memory_mib`, for file and arena together. `ops`: TFLite op -> why it may be used. `deprecated`: what to use
    instead, or "".
    `measured_on_hardware`: whether EdgeKD itself was ever run on such a device.
    """

    name: str
    title: str
    runtime: str
    machine: str
    board: str
    cpu: str
    clock_mhz: int
    cores: int
    threads: int
    cpu_flags: tuple[str, ...]
    memory_mib: int
    io_dtype: str
    classifier_weights: str
    pooling: str
    softmax: str
    hard_swish: str
    squeeze_excite: str
    channel_multiple: int
    mapper: str
    api_level: int
    accelerator: str
    fallback_cpu: str
    compiler: Mapping[str, Any]
    parameter_cache_mib: int
    link_mb_s: Mapping[str, float]
    latency: str
    min_mapped: float
    max_memory_share: float
    ops: Mapping[str, str]
    notes: tuple[str, ...]
    deprecated: str
    measured_on_hardware: bool
    sources: Mapping[str, str]

    @property
    def rules(self) -> dict[str, Any]:
        """What training must know of the device, as `int8.Int8Rules` takes it: the file computes what QAT trained."""
        return {
            "io_dtype": self.io_dtype,
            "classifier": self.classifier_weights.replace("-", "_"),
            "pooling": self.pooling,
            "softmax": self.softmax,
        }

    @property
    def edits(self) -> dict[str, str]:
        """What training must change in the student, as `edgekd.networks.student_edits.apply` takes it; empty when it may stay as it is."""
        wanted = {"hard_swish": self.hard_swish, "squeeze_excite": self.squeeze_excite}
        return {name: value for name, value in wanted.items() if value != "keep"}

    def with_edits(self, edits: EditsConfig) -> DeviceProfile:
        """The profile with what a recipe asks for in place of its own."""
        asked = {name: value for name, value in vars(edits).items() if value}
        return replace(
            self, **asked, sources={**self.sources, **dict.fromkeys(asked, "the recipe's [edits]")}
        )

    def to_json(self) -> dict[str, Any]:
        """Every field as plain JSON, for `edgekd profiles NAME --json`."""
        return {
            key: dict(value)
            if isinstance(value, Mapping)
            else list(value)
            if isinstance(value, tuple)
            else value
            for key, value in vars(self).items()
        }


# What a profile file holds: key -> what its value must be. A figure stands with its source.
Check = Callable[[Any], bool]


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _count(value: Any) -> bool:
    return type(value) is int and value >= 1


def _count_or_auto(value: Any) -> bool:
    return _count(value) or value == AUTO


def _whole(value: Any) -> bool:
    return type(value) is int and value >= 0


def _share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _options(value: Any) -> bool:
    return isinstance(value, dict) and all(
        key in COMPILER_OPTIONS and type(said) is COMPILER_OPTIONS[key] and int(said) > 0
        for key, said in value.items()
    )


def _speeds(value: Any) -> bool:
    return isinstance(value, dict) and all(
        type(speed) in (int, float) and speed > 0 for speed in value.values()
    )


# Of edgetpu_compiler: -m, the oldest libedgetpu runtime that must run the file; -a, several parts on the accelerator; -d; -t.
COMPILER_OPTIONS: dict[str, type[int]] = {
    "runtime": int,
    "many_subgraphs": bool,
    "search": bool,
    "timeout_s": int,
}


def _one_of(*names: str) -> Check:
    return lambda value: value in names


PLAIN: dict[str, tuple[Check, str]] = {
    "name": (_text, "text"),
    "title": (_text, "text"),
    "notes": (_texts, "a list of texts"),
    "deprecated": (_text, "text"),
    "measured_on_hardware": (lambda value: isinstance(value, bool), "true or false"),
}
FIGURES: dict[str, tuple[Check, str]] = {
    "runtime": (_text, "text"),
    "machine": (_text, "text"),
    "board": (_text, "text"),
    "cpu": (_text, "text"),
    "clock_mhz": (_whole, "a whole number of MHz, 0 when not known"),
    "cores": (_count_or_auto, 'a whole number above 0, or "auto"'),
    "threads": (_count_or_auto, 'a whole number above 0, or "auto"'),
    "cpu_flags": (_texts, "a list of texts"),
    "memory_mib": (_count_or_auto, 'a whole number of MiB above 0, or "auto"'),
    "io_dtype": (_one_of("int8", "uint8"), '"int8" or "uint8"'),
    "classifier_weights": (_one_of("per-channel", "per-tensor"), '"per-channel" or "per-tensor"'),
    "pooling": (_one_of("mean", "average_pool"), '"mean" or "average_pool"'),
    "softmax": (_one_of("none", "append"), '"none" or "append"'),
    "hard_swish": (_one_of("keep", "relu6"), '"keep" or "relu6"'),
    "squeeze_excite": (_one_of("keep", "remove", "hard_gate"), '"keep", "remove" or "hard_gate"'),
    "channel_multiple": (_count, "a whole number above 0"),
    "mapper": (_one_of("kernels", "edgetpu", "nnapi"), '"kernels", "edgetpu" or "nnapi"'),
    "api_level": (_whole, "an Android API level, 0 elsewhere"),
    "accelerator": (_text, "text"),
    "fallback_cpu": (_text, "the name of a profile, or empty"),
    "compiler": (
        _options,
        "a table of "
        + ", ".join(
            f"{key} ({'true' if kind is bool else 'a whole number'})"
            for key, kind in COMPILER_OPTIONS.items()
        )
        + ", or an empty one",
    ),
    "parameter_cache_mib": (_whole, "a whole number of MiB, 0 for none"),
    "link_mb_s": (_speeds, "a table of LINK = MB/s above 0"),
    "latency": (_text, "a file beside the profile, or empty"),
    "min_mapped": (_share, "a share from 0 to 1"),
    "max_memory_share": (_share, "a share from 0 to 1"),
}
OWN = (
    "name",
    "title",
    "measured_on_hardware",
)  # never inherited: each file says these of its own device
COUNTED: dict[str, Callable[[], int]] = {
    "cores": lambda: os.cpu_count() or 1,
    "threads": lambda: (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    ),
    "memory_mib": lambda: os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
}


def profile_names() -> list[str]:
    """The names of the profiles that come with EdgeKD, sorted."""
    return sorted(path.stem for path in folder("device_profiles").glob("*.toml"))


def load_profile(name_or_path: str) -> DeviceProfile:
    """A profile by name ("pi4"), or from a file ("./my_board.toml"). Raises UnknownName or ProfileError."""
    if name_or_path.endswith(".toml") or os.sep in name_or_path:
        return read_profile(Path(name_or_path))
    names = profile_names()
    if name_or_path not in names:
        raise UnknownName(
            "device profile",
            name_or_path,
            names,
            f"EdgeKD has {', '.join(names)}; --profile ./my_board.toml reads a file of your own",
        )
    return read_profile(folder("device_profiles") / f"{name_or_path}.toml")


def read_profile(path: Path) -> DeviceProfile:
    """A profile from its file. Raises ProfileError that names the file and the key."""
    body = _body(path)
    _keys(path, "", body, (*PLAIN, *FIGURES, "ops"))
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for key, (check, expected) in PLAIN.items():
        values[key] = _checked(path, key, body[key], check, expected)
    for key, (check, expected) in FIGURES.items():
        figure = _table(path, key, body[key], ("value", "source"))
        values[key] = _checked(path, f"{key}.value", figure["value"], check, expected)
        sources[key] = _source(path, f"{key}.source", figure["source"])
        if values[key] == AUTO and key in COUNTED:
            values[key] = COUNTED[key]()
    ops = _table(path, "ops", body["ops"], ("source", "legal"))
    sources["ops"] = _source(path, "ops.source", ops["source"])
    legal = _checked(
        path,
        "ops.legal",
        ops["legal"],
        lambda value: isinstance(value, dict),
        "a table of OP = reason",
    )
    values["ops"] = {
        op: _checked(path, f"ops.legal.{op}", reason, _text, "text") for op, reason in legal.items()
    }
    fields: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
    }
    return DeviceProfile(**fields, sources=sources)


def _body(path: Path, came_from: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The file's top-level keys over those of the profile it extends, whole keys at a time."""
    if path in came_from:
        raise ProfileError(
            f"{path}: extends leads back to this file", "let it extend another profile, or none"
        )
    try:
        with path.open("rb") as file:
            own = tomllib.load(file)
    except OSError as error:
        raise ProfileError(
            f"{path} cannot be read: {error.strerror}",
            "`edgekd profiles` lists the profiles that come with EdgeKD",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path} is not TOML: {error}", "correct that line") from error
    latency = own.get("latency")
    if isinstance(latency, dict) and isinstance(latency.get("value"), str) and latency["value"]:
        latency["value"] = str(
            path.parent / latency["value"]
        )  # found beside the file that names it, also when inherited
    if "extends" not in own:
        return own
    base, names = own.pop("extends"), profile_names()
    if base not in names:
        raise ProfileError(
            f"{path}: extends is {base!r}, which is not a profile that comes with EdgeKD",
            f"known: {', '.join(names)}",
        )
    inherited = _body(folder("device_profiles") / f"{base}.toml", (*came_from, path))
    return {**{key: value for key, value in inherited.items() if key not in OWN}, **own}


def _keys(path: Path, within: str, body: Mapping[str, Any], known: Iterable[str]) -> None:
    """Refuse unknown and missing keys."""
    expected = list(known)
    for key in body:
        if key not in expected:
            near = nearest(key, [*expected, "extends"])
            raise ProfileError(
                f"{path}: unknown key {within}{key}",
                f"did you mean {within}{near}?" if near else f"known keys: {', '.join(expected)}",
            )
    missing = [key for key in expected if key not in body]
    if missing:
        raise ProfileError(
            f"{path}: the key {within}{missing[0]} is missing",
            f"write it; {folder('device_profiles') / 'pi4.toml'} is an example",
        )


def _table(path: Path, key: str, value: Any, known: Iterable[str]) -> Mapping[str, Any]:
    expected = list(known)
    if not isinstance(value, dict):
        raise ProfileError(
            f"{path}: {key} is {value!r}, not a table of {' and '.join(expected)}",
            f'write {key} = {{ value = ..., source = "where the figure comes from" }}',
        )
    _keys(path, f"{key}.", value, expected)
    return value


def _checked(path: Path, key: str, value: Any, check: Check, expected: str) -> Any:
    if not check(value):
        raise ProfileError(f"{path}: {key} is {value!r}, not {expected}", f"correct {key}")
    return value


def _source(path: Path, key: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ProfileError(
            f"{path}: {key} is empty",
            "say where the figure comes from, were it your own measurement",
        )
    return value
