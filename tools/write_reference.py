"""Writes docs/reference/ from the code: settings, presets, losses, device profiles, models, errors,
the terms of providers, and the lines of device tools.

    python tools/write_reference.py

Run it after a change to a setting, a loss, a profile, a model file or an error class. A test fails
when the files differ from what the code says.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from edgekd.bundle import provider_terms
from edgekd.core import errors
from edgekd.core.errors import EdgeKDError
from edgekd.core.resources import folder
from edgekd.device.log_lines.line import Tool
from edgekd.device.log_lines.table import TABLE
from edgekd.settings import device_profiles, model_specs, presets, recipe
from edgekd.settings.loss_catalogue import RAMP, WEIGHT
from edgekd.settings.loss_methods import METHODS, Method, Parameter
from edgekd.settings.presets import Choice, EpochShare, Where
from edgekd.settings.recipe_tables import value
from edgekd.settings.setting_types import Setting, number

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"
NOTE = "`tools/write_reference.py` writes this page from the code."


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table. Cells may hold vertical bars."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in lines
    )


def code(value: object) -> str:
    """A value as it is written in TOML."""
    if isinstance(value, tuple):
        return f"`[{', '.join(json.dumps(each) for each in value)}]`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def first_paragraph(thing: object) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def settings() -> str:
    """Every setting of a recipe."""
    parts = [
        "# Settings",
        NOTE,
        (
            "A recipe is a TOML file with one table per section. All settings have defaults.\n"
            "`--set data.input_px=64` on the command line overrides the recipe. `edgekd new DIR`\n"
            "writes a recipe with every setting in it; those that a preset sets are comments."
        ),
        table(["setting", "default", "value", "meaning"], [_row(recipe.SETTINGS["seed"])]),
    ]
    for section, cls in recipe.SECTIONS.items():
        rows = [
            _row(setting)
            for setting in recipe.SETTINGS.values()
            if setting.key.startswith(f"{section}.") and setting.key != recipe.LOSSES
        ]
        parts += [f"## {section}", _wrapped(first_paragraph(cls))]
        parts.append(table(["setting", "default", "value", "meaning"], rows))
    parts += [
        "## distil.losses",
        (
            "The table `[distil.losses]` adds losses: `NAME = weight`, or\n"
            "`NAME = {weight = 1.0, ramp = 0.2, PARAMETER = 2.0}`. They are in\n"
            "[losses.md](losses.md)."
        ),
    ]
    return page(parts)


def _row(setting: Setting) -> list[str]:
    return [f"`{setting.key}`", code(setting.default), setting.expected, setting.description]


def preset_values() -> str:
    """Every value of the presets, with its reason."""
    parts = [
        "# Presets",
        NOTE,
        (
            "`distil.preset` and `prune.preset` fill in the settings that nobody gave: see\n"
            "[choose_a_preset.md](../how_to/choose_a_preset.md). `prune.preset` wins where both\n"
            "set the same one."
        ),
    ]
    for family in presets.FAMILIES:
        parts.append(f"## {family.key}")
        for name, choices in family.presets.items():
            rows = [
                [
                    f"`{choice.key}`",
                    code(value(recipe.Recipe(), choice.key)),
                    _preset_value(choice),
                    "" if choice.where is Where.ALWAYS else choice.where.value,
                    choice.reason,
                ]
                for choice in choices
            ]
            parts.append(f"### {name}")
            heads = ["setting", "default", "here", "only", "why"]
            nothing = "The defaults of all settings." if name == "standard" else "Sets nothing."
            parts.append(table(heads, rows) if rows else nothing)
    return page(parts)


def _preset_value(choice: Choice) -> str:
    """A value as it stands in a table; a share of the epochs as a product."""
    found = choice.value
    return f"`{found}`" if isinstance(found, EpochShare) else code(found)


def losses() -> str:
    """Every loss of the table [distil.losses]."""
    parts = [
        "# Losses",
        NOTE,
        (
            "The recipe's table `[distil.losses]` names losses that are added to the loss on the\n"
            "labels and to plain KD. Each loss also takes `weight` and `ramp`:"
        ),
        table(
            ["parameter", "value", "meaning"], [_bounds("weight", WEIGHT), _bounds("ramp", RAMP)]
        ),
    ]
    for name, method in METHODS.items():
        parts += [f"## {name}", _wrapped(f"{_sentence(method.title)} {method.paper}.")]
        parts.append("\n".join(_facts(method)))
        rows = [
            [f"`{key}`", f"`{each.default:.6g}`", *_bounds(key, each)[1:]]
            for key, each in method.parameters.items()
        ]
        if rows:
            parts.append(table(["parameter", "default", "value", "meaning"], rows))
    return page(parts)


def _facts(method: Method) -> list[str]:
    reads = ", ".join(f"`{need}`" for need in method.needs) or "nothing: it works without a teacher"
    ramp = "grows over `distil.ramp`" if method.grows else "full from the first step"
    facts = [
        f"* default weight: `{method.weight:.6g}`, {ramp}",
        f"* reads of the teacher: {reads}",
    ]
    for what, why in (("2 classes", method.not_two), ("several labels", method.not_many)):
        if why:
            facts.append(_wrapped(f"* not for {what}: {why}").replace("\n", "\n  "))
    return facts


def _bounds(name: str, parameter: Parameter) -> list[str]:
    kind = "a whole number" if parameter.whole else "a number"
    value = f"{kind} from {number(parameter.low)} to {number(parameter.high)}"
    return [f"`{name}`", value, _sentence(parameter.meaning)]


def profiles() -> str:
    """The device profiles that come with EdgeKD, and the fields of a profile."""
    known = [device_profiles.load_profile(name) for name in device_profiles.profile_names()]
    fields = [
        [f"`{field.key}`", field.expected, field.description]
        for field in device_profiles.FIELDS.values()
        if field.key != "sources"
    ]
    plain = ", ".join(f"`{key}`" for key in device_profiles.PLAIN)
    return page(
        [
            "# Device profiles",
            NOTE,
            table(
                ["profile", "device", "processor", "input and output", "rules", "operators", "run"],
                [
                    [
                        f"`{profile.name}`",
                        profile.title,
                        profile.cpu,
                        profile.io_dtype,
                        profile.mapper,
                        str(len(profile.ops)),
                        "on hardware" if profile.measured_on_hardware else "not yet on hardware",
                    ]
                    for profile in known
                ],
            ),
            "`edgekd profiles NAME` prints a profile with the source of each figure.",
            "## Fields",
            (
                "A profile of your own is a TOML file: `--profile ./my_board.toml`. With\n"
                '`extends = "pi4"` it states only what differs. Each figure comes with its source:'
            ),
            '    memory_mib = { value = 8192, source = "the label on the board" }',
            _wrapped(
                f"{plain} are plain values. `cores`, `threads` and `memory_mib` may be `auto`, "
                "which counts them on the machine that reads the profile. The table `[ops]` has a "
                "`source` and the table `[ops.legal]` of operators with reasons."
            ),
            table(["field", "value", "meaning"], fields),
        ]
    )


def models() -> str:
    """The networks in models/, and the keys of a model file."""
    specs = [model_specs.read(path) for path in sorted(folder("models").glob("*.toml"))]
    rows = [
        [f"`{spec.name}`", spec.title, ", ".join(spec.roles), spec.licence, spec.source, spec.notes]
        for spec in specs
    ]
    keys = [[f"`{key.key}`", key.expected, key.description] for key in model_specs.KEYS.values()]
    required = ", ".join(f"`{key}`" for key in model_specs.REQUIRED)
    return page(
        [
            "# Models",
            NOTE,
            (
                "Any network of timm can be a teacher, many can be students. These have a file\n"
                "in `models/`, which says more about them:"
            ),
            table(["name", "title", "role", "licence", "source", "notes"], rows),
            "## Keys of a model file",
            f"{required} are required; `name` is the name of the file.",
            table(["key", "value", "meaning"], keys),
        ]
    )


def providers() -> str:
    """The table of providers' terms for the outputs of their models."""
    rows = [
        [row.provider, row.use, row.clause, f"[{row.terms}]({row.source})", row.read, row.basis]
        for row in provider_terms.TABLE
    ]
    return page(
        [
            "# Terms of providers",
            NOTE,
            _wrapped(
                "What well-known providers say about training another model on the outputs of "
                "theirs. The model's name in a log of answers decides which row counts, the first "
                "that matches. A row that could not be verified may forbid a use, but allows none. "
                "This is a reading of texts and no legal advice: read the document before you rely "
                "on a row, and declare with `teacher.terms` what you have agreed."
            ),
            table(
                ["provider", "allowed use", "what it says", "document", "looked up", "read as"],
                rows,
            ),
        ]
    )


def messages() -> str:
    """Every class of error."""
    classes = [
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, EdgeKDError)
    ]
    rows = [[f"`{each.__name__}`", str(each.exit_code), first_paragraph(each)] for each in classes]
    return page(
        [
            "# Messages and exit codes",
            NOTE,
            (
                "Each error is one message: what was found, what was expected, and after `next:`\n"
                "what to do about it."
            ),
            table(
                ["exit code", "meaning"],
                [
                    ["0", "Done."],
                    ["1", "A gate failed: the work was done, and the result is not good enough."],
                    ["2", "Wrong usage or bad input. The message names the file or the key."],
                    ["130", "Interrupted. The same command continues where it stopped."],
                ],
            ),
            "The errors in Python are in `edgekd.core.errors`:",
            table(["error", "exit code", "meaning"], rows),
        ]
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _wrapped(text: str, width: int = 95) -> str:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def page(parts: Iterable[str]) -> str:
    """A page of paragraphs."""
    return "\n\n".join(parts) + "\n"


def device_logs() -> str:
    """Every line of a device's tool that EdgeKD reads."""
    parts = [
        "# Lines of device tools",
        NOTE,
        (
            "`edgekd bench` and `edgekd check` read these lines of the tools that they run. Other\n"
            "lines are kept for messages, and ignored otherwise. Prefixes of loggers (`INFO: `,\n"
            "logcat's, absl's) are taken off first.\n\n"
            "Errors come as a chain: the first line that tells why something failed is reported."
        ),
    ]
    for tool in Tool:
        rows = [row for row in TABLE if row.tool == tool]
        parts += [
            f"## {tool}",
            table(
                ["line", "versions", "it tells", "meaning", "source"],
                [
                    [f"`{row.example}`", row.versions, row.says.value, row.meaning, row.source]
                    for row in rows
                ],
            ),
        ]
    return page(parts)


PAGES = {
    "settings.md": settings,
    "presets.md": preset_values,
    "losses.md": losses,
    "profiles.md": profiles,
    "models.md": models,
    "messages.md": messages,
    "providers.md": providers,
    "device_logs.md": device_logs,
}


def main() -> None:
    """Write all pages."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, make in PAGES.items():
        (FOLDER / name).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
