"""Reads device profiles: TOML files that say what a device is and what may run on it.

In the file every figure is `{ value = ..., source = "..." }`. Users add a device by writing such a
file and giving its path: `--profile ./my_board.toml`. With `extends = "pi4"` a file says only what
differs from that profile.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from edgekd.core import files, plugins
from edgekd.core.errors import ProfileError, UnknownName, nearest
from edgekd.core.resources import folder
from edgekd.settings.profile_fields import CompilerOptions, DeviceProfile
from edgekd.settings.setting_types import Setting, Toml, settings_of, spoken

__all__ = [
    "BUILT_IN_RULES",
    "FIELDS",
    "FIGURES",
    "CompilerOptions",
    "DeviceProfile",
    "load_profile",
    "profile_names",
    "read_profile",
]

AUTO: Final = "auto"  # as a value: counted on the machine that reads the profile
BUILT_IN_RULES = (
    "kernels",
    "edgetpu",
    "nnapi",
    "npu",
    "tflite-micro",
)  # the values of `mapper` that need no plug-in

FIELDS: dict[str, Setting] = settings_of(DeviceProfile)
# Each file states these for its own device: they are never inherited.
OWN = ("name", "title", "measured_on_hardware")
PLAIN = (*OWN, "notes", "deprecated")  # stated without a source
FIGURES = tuple(name for name in FIELDS if name not in (*PLAIN, "ops", "sources"))
# A file may leave these out.
DEFAULTS: dict[str, Toml] = {
    "formats": {"value": [], "source": "EdgeKD's default: int8 alone"},
    "gelu": {"value": "keep", "source": "EdgeKD's default: GELU is trained as it is"},
    "arena_kib": {"value": 0, "source": "not a microcontroller"},
    "flash_kib": {"value": 0, "source": "not a microcontroller"},
    "micro_kernels": {"value": "", "source": "not a microcontroller"},
}
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
    """A profile by its name ("pi4"), or from a file ("./my_board.toml").

    Raises UnknownName, ProfileError, and PluginError for rules of a package that does not load.
    """
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
    body = {**DEFAULTS, **_tables(path)}
    _check_keys(path, "", body, (*PLAIN, *FIGURES, "ops"))
    # One value per field, each checked against the type of its field.
    values: dict[str, Any] = {key: _checked(path, key, FIELDS[key], body[key]) for key in PLAIN}
    sources = {}
    for key in FIGURES:
        figure = _table(path, key, body[key], ("value", "source"))
        sources[key] = _source(path, f"{key}.source", figure["source"])
        value = figure["value"]
        counted = value == AUTO and key in COUNTED
        values[key] = (
            COUNTED[key]() if counted else _checked(path, f"{key}.value", FIELDS[key], value)
        )
    ops = _table(path, "ops", body["ops"], ("source", "legal"))
    sources["ops"] = _source(path, "ops.source", ops["source"])
    values["ops"] = _reasons(path, "ops.legal", ops["legal"])
    _check_rules(path, values["mapper"])
    return DeviceProfile(**values, sources=sources)


def _tables(path: Path, came_from: tuple[Path, ...] = ()) -> dict[str, Toml]:
    """The keys of the file over those of the profile that it extends. Whole keys are replaced."""
    if path in came_from:
        raise ProfileError(
            f"{path}: extends leads back to this file", "let it extend another profile, or none"
        )
    try:
        own: dict[str, Toml] = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ProfileError(
            f"{path} cannot be read: {files.reason(error)}",
            "`edgekd profiles` lists the profiles that come with EdgeKD",
        ) from error
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"{path} is not TOML: {error}", "correct that line") from error
    # The latency model lies beside the file that names it, also when another file inherits it.
    latency = own.get("latency")
    if isinstance(latency, dict) and isinstance(latency.get("value"), str) and latency["value"]:
        latency["value"] = str(path.parent / str(latency["value"]))
    if "extends" not in own:
        return own
    base, names = own.pop("extends"), profile_names()
    if base not in names:
        raise ProfileError(
            f"{path}: extends is {base!r}, which is not a profile that comes with EdgeKD",
            f"known: {', '.join(names)}",
        )
    inherited = _tables(folder("device_profiles") / f"{base}.toml", (*came_from, path))
    return {**{key: value for key, value in inherited.items() if key not in OWN}, **own}


def _check_keys(path: Path, within: str, keys: Iterable[str], known: Iterable[str]) -> None:
    """Raise ProfileError for an unknown or a missing key."""
    found, expected = list(keys), list(known)
    for key in found:
        if key not in expected:
            near = nearest(key, [*expected, "extends"])
            raise ProfileError(
                f"{path}: unknown key {within}{key}",
                f"did you mean {within}{near}?" if near else f"known keys: {', '.join(expected)}",
            )
    missing = [key for key in expected if key not in found]
    if missing:
        raise ProfileError(
            f"{path}: the key {within}{missing[0]} is missing",
            f"add it; {folder('device_profiles') / 'pi4.toml'} is an example",
        )


def _table(path: Path, key: str, value: Toml, known: Iterable[str]) -> dict[str, Toml]:
    expected = list(known)
    if not isinstance(value, dict):
        raise ProfileError(
            f"{path}: {key} is {spoken(value)}, expected a table of {' and '.join(expected)}",
            f'write {key} = {{ value = ..., source = "where the figure comes from" }}',
        )
    _check_keys(path, f"{key}.", value, expected)
    return value


def _checked(path: Path, key: str, field: Setting, value: Toml) -> Any:
    """The value as the field's type. Raises ProfileError that says what was expected."""
    try:
        return field.check(value)
    except msgspec.ValidationError:
        auto = f', or "{AUTO}"' if field.key in COUNTED else ""
        raise ProfileError(
            f"{path}: {key} is {spoken(value)}, expected {field.expected}{auto}", f"correct {key}"
        ) from None


def _reasons(path: Path, key: str, value: Toml) -> dict[str, str]:
    """The table of operators that may be used, each with the reason."""
    if not isinstance(value, dict):
        raise ProfileError(
            f"{path}: {key} is {value!r}, expected a table of operators",
            f'write a table [{key}] with lines such as CONV_2D = "why it may be used"',
        )
    reasons = {}
    for op, reason in value.items():
        if not isinstance(reason, str):
            raise ProfileError(
                f"{path}: {key}.{op} is {reason!r}, expected a text", "say why it may be used"
            )
        reasons[op] = reason
    return reasons


def _source(path: Path, key: str, value: Toml) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ProfileError(
            f"{path}: {key} is empty",
            "say where the figure comes from, even if you measured it yourself",
        )
    return value


def _check_rules(path: Path, mapper: str) -> None:
    """Raise ProfileError for rules that neither EdgeKD nor an installed package has."""
    if mapper in BUILT_IN_RULES or plugins.find("edgekd.device_rules", mapper):
        return
    known = [*BUILT_IN_RULES, *plugins.installed("edgekd.device_rules")]
    near = nearest(mapper, known)
    raise ProfileError(
        f"{path}: mapper.value is {mapper!r}, expected one of {', '.join(known)}",
        f"did you mean {near!r}?" if near else "correct mapper.value",
    )
