"""The command line: every line that an earlier version understood means the same today."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgekd.app import argument_parser, cli, commands
from edgekd.app.command_options import KEY

# Command lines of version 0.1.0, and the arguments that differ from the defaults.
OLD: dict[str, dict[str, object]] = {
    "build": {},
    "build my/recipe.toml --profile coral-usb --data photos/ --out here --json": {
        "recipe": "my/recipe.toml",
        "profile": "coral-usb",
        "data": "photos/",
        "out": "here",
        "json": True,
    },
    "build --teacher vit@w.safetensors --teacher-frozen --student mobilenetv2_050 --seed 3": {
        "teacher": "vit@w.safetensors",
        "teacher_frozen": True,
        "student": "mobilenetv2_050",
        "seed": 3,
    },
    "build --store s --until qat --set distil.epochs=3 --set=qat.pin=output=99 --fix": {
        "store": "s",
        "until": "qat",
        "settings": ["distil.epochs=3", "qat.pin=output=99"],
        "fix": True,
    },
    "check mobilenetv2_050": {"model": "mobilenetv2_050"},
    "check m.tflite --profile pi5 --set data.input_px=64 --fix --json": {
        "model": "m.tflite",
        "profile": "pi5",
        "settings": ["data.input_px=64"],
        "fix": True,
        "json": True,
    },
    "bench out": {"model": "out"},
    "bench m.tflite --profile pi4,pi5 --local --runs 5 --threads 2": {
        "model": "m.tflite",
        "profile": "pi4,pi5",
        "local": True,
        "runs": 5,
        "threads": 2,
    },
    "bench out --ssh pi@host:22 --python /usr/bin/python3.11 --ssh-config cfg --soak 2.5": {
        "model": "out",
        "ssh": "pi@host:22",
        "python": "/usr/bin/python3.11",
        "ssh_config": "cfg",
        "soak": 2.5,
    },
    "bench out --adb": {"model": "out", "adb": ""},
    "bench out --adb emulator-5554 --benchmark-model tool --delegate gpu --cores 4-7": {
        "model": "out",
        "adb": "emulator-5554",
        "benchmark_model": "tool",
        "delegate": "gpu",
        "cores": "4-7",
    },
    "bench out --emulate --timeout 30": {"model": "out", "emulate": True, "timeout": 30.0},
    "bench out --emit board": {"model": "out", "emit": "board"},
    "bench out --brought result.json --out kept --json": {
        "model": "out",
        "brought": "result.json",
        "out": "kept",
        "json": True,
    },
    "verify out": {"folder": "out"},
    "verify bundle.zip --json": {"folder": "bundle.zip", "json": True},
    "report a": {"folders": ["a"]},
    "report a b --html": {"folders": ["a", "b"], "html": True},
    "report a --why --store s --json": {"folders": ["a"], "why": True, "store": "s", "json": True},
    "report --why-slow a": {"folders": ["a"], "why_slow": True},
    "profiles": {},
    "profiles pi4 --json": {"names": ["pi4"], "json": True},
    "profiles fit pi4 a.json b.json --models m --models n --out o": {
        "names": ["fit", "pi4", "a.json", "b.json"],
        "models": ["m", "n"],
        "out": "o",
    },
    "models": {},
    "models resnet18 --json": {"name": "resnet18", "json": True},
    "new folder": {"folder": "folder"},
    "doctor --json": {"json": True},
}


def test_old_command_lines_mean_the_same() -> None:
    for line, expected in OLD.items():
        namespace = cli.make_parser().parse_args(line.split())
        verb = next(verb for verb in cli.VERBS if verb.name == namespace.verb)
        found = argument_parser.parsed(verb.arguments, namespace)
        changed = {
            field.name: getattr(found, field.name)
            for field in dataclasses.fields(verb.arguments)
            if KEY in field.metadata and getattr(found, field.name) not in (field.default, [])
        }
        assert changed == expected, line


@pytest.mark.parametrize(
    "line",
    [
        "report a --json --html",
        "bench m --local --emulate",
        "bench m --ssh a --adb",
        "verify",
        "report",
        "build a b",
        "build --seed three",
        "nonsense",
    ],
)
def test_old_mistakes_end_with_exit_code_2(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(line.split())
    assert ended.value.code == 2
    assert "usage: edgekd" in capsys.readouterr().err


def test_without_a_command_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    text = capsys.readouterr().out
    assert all(verb.name in text and verb.help.split()[0] in text for verb in cli.VERBS)


def test_every_argument_is_explained() -> None:
    """Each argument has a help text, and each verb a module with the function `run`."""
    for verb in cli.VERBS:
        for field in dataclasses.fields(verb.arguments):
            if KEY in field.metadata:
                assert len(field.metadata[KEY].help) > 5, field.name
        assert (Path(cli.__file__).parent / "verbs" / f"{verb.name}.py").is_file()


def test_commands_extend_the_arguments_of_the_python_api() -> None:
    """The command line adds how a result is shown, edits of the user's files, and processes."""
    for command in (
        commands.BuildCommand,
        commands.CheckCommand,
        commands.BenchCommand,
        commands.VerifyCommand,
        commands.ReportCommand,
    ):
        own = {field.name for field in dataclasses.fields(command)}
        shared = {field.name for field in dataclasses.fields(command.__mro__[1])}
        assert own - shared <= {"json", "html", "fix", "processes"}


@pytest.mark.parametrize("line", ["profiles --json", "models --json", "doctor --json"])
def test_lists_as_json(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(line.split())
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) > 5
    assert all(isinstance(row, dict) for row in rows)


def test_one_of_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["profiles", "pi4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "pi4"
    assert cli.main(["models", "resnet18"]) == 0
    assert "resnet18" in capsys.readouterr().out
    assert cli.main(["models", "resnet19"]) == 2
    assert "resnet18" in capsys.readouterr().err


def test_python_m_edgekd_is_the_command_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgekd", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("edgekd ")
