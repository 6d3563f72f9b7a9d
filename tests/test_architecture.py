"""The rules of the house: which room may import which, what stays light, how long a file may be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest

from edgekd.pipeline import knowledge_stages, stage_keys, stage_table
from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "edgekd"
MODULES = {
    ".".join(p.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): p
    for p in PACKAGE.rglob("*.py")
    if "_data" not in p.parts and p.parent != PACKAGE
}
# A room imports from itself and from rooms before it in this list, also inside functions.
ROOMS = (
    "core",
    "settings",
    "data",
    "tflite",
    "networks",
    "evaluation",
    "training",
    "quantization",
    "export",
    "proof",
    "device",
    "assessment",
    "bundle",
    "pipeline",
    "reporting",
    "search",
    "app",
)
HEAVY = {
    "torch",
    "torchvision",
    "torchao",
    "timm",
    "onnx",
    "onnx2tf",
    "onnxruntime",
    "onnxscript",
    "tensorflow",
    "ai_edge_litert",
    "tflite_runtime",
    "jinja2",
    "rich",
    "numpy",
    "PIL",
    "torch_pruning",
    "accelerate",
    "optuna",
    "mlflow",
    "wandb",
}
RUNTIMES = {"ai_edge_litert", "tflite_runtime", "tensorflow"}
TERMINAL = {
    f"app.terminal.{name}"
    for name in (
        "build",
        "builds",
        "check",
        "comparison",
        "formats",
        "search",
        "slow",
        "teachers",
        "text",
        "why",
    )
}
LONGEST_FILE, LONGEST_FUNCTION = 350, 60  # lines
RUNNER = "device.edgebench"  # one file by its nature: it is copied to boards alone


def own(name: str) -> set[str]:
    """The package's modules that a module imports anywhere. Names are without "edgekd."."""
    return set(stage_keys.imports(name)[0])


def libraries(name: str) -> set[str]:
    """Libraries outside the standard library that a module imports anywhere."""
    return set(stage_keys.imports(name)[1])


def room(name: str) -> str:
    return name.partition(".")[0]


def below(folder: str) -> list[str]:
    return [name for name in MODULES if name.startswith(f"{folder}.")]


def test_every_module_lives_in_a_room() -> None:
    """edgekd/ holds packages, and beside them only __init__.py and __main__.py."""
    assert {room(name) for name in MODULES} == set(ROOMS)
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py"}
    for folder in {path.parent for path in MODULES.values()}:
        assert (folder / "__init__.py").is_file(), folder


def test_imports_go_one_way() -> None:
    """A room imports only from rooms before it, counting the imports inside functions."""
    for name in MODULES:
        above = {other for other in own(name) if ROOMS.index(room(other)) > ROOMS.index(room(name))}
        assert not above, f"{name} imports {sorted(above)}, which stand above it"


def test_no_circle() -> None:
    """Imports form no circle, counting the imports inside functions."""
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name not in done:
            for other in own(name):
                visit(other, (*trail, name))
            done.add(name)

    for name in MODULES:
        visit(name, ())


def test_the_proof_trusts_nobody() -> None:
    """The certificate shares no code with the converter, at any depth of imports."""
    for name in below("proof"):
        wrong = {
            other for other in own(name) if room(other) not in ("core", "data", "tflite", "proof")
        }
        assert not wrong, f"{name} imports {sorted(wrong)}"
        assert not {room(other) for other in stage_keys.code(name)} & {
            "export",
            "quantization",
            "networks",
            "training",
        }


def test_stages_stand_alone() -> None:
    """A stage imports no other stage, not the store, and nothing of the command line."""
    for name in below("pipeline.stages"):
        wrong = {
            other
            for other in own(name)
            if other == "core.store"
            or room(other) in ("app", "reporting")
            or other.startswith("pipeline.stages.")
        }
        assert not wrong, f"{name} imports {sorted(wrong)}"


def test_torch_stays_where_networks_are() -> None:
    """Rooms that train or run networks import torch, and so do their stages; no other room does."""
    places = ("networks", "training", "quantization", "export", "pipeline.stages")
    users = {name for name in MODULES if "torch" in libraries(name) and not name.startswith(places)}
    assert not users, sorted(users)


def test_a_runtime_is_imported_in_three_places() -> None:
    """tflite, which also reads the format by LiteRT's schema; proof; and the runner."""
    users = {name for name in MODULES if libraries(name) & RUNTIMES}
    assert users <= {RUNNER, *below("tflite"), *below("proof")}, sorted(users)


def test_what_reaches_devices_is_light() -> None:
    """core, settings and device need the standard library, msgspec and tomlkit alone."""
    for name in [*below("core"), *below("settings"), *below("device")]:
        allowed = {"numpy", *RUNTIMES} if name == RUNNER else {"msgspec", "tomlkit"}
        assert libraries(name) <= allowed, f"{name} imports {sorted(libraries(name) - allowed)}"


@pytest.mark.parametrize(
    ("library", "allowed"),
    [
        ("timm", {"networks.timm_library"}),
        ("torch_pruning", {"networks.channel_groups"}),
        ("accelerate", {"training.processes"}),
        ("onnx2tf", {"export.float_conversion"}),
        ("ai_edge_quantizer", {"export.float_conversion"}),
        ("PIL", {"data.images", "evaluation.examples"}),
        ("rich", {"app.console", *TERMINAL}),
        ("jinja2", {"reporting.html_report"}),
    ],
)
def test_one_door_for_each_library(library: str, allowed: set[str]) -> None:
    """A library with a narrow job is imported in its own place only."""
    users = {name for name in MODULES if library in libraries(name)}
    assert users == allowed, f"{library} is imported by {sorted(users)}"


def test_files_that_travel_are_whole_by_themselves() -> None:
    """The programs that are copied to devices alone, in the syntax of Python 3.9."""
    for name in (RUNNER, "device.agent", "device.kit.run"):
        assert not own(name)
        ast.parse(MODULES[name].read_text(encoding="utf-8"), feature_version=(3, 9))


def test_lean_import() -> None:
    """`import edgekd` and the command line load none of the heavy libraries."""
    code = (
        "import sys, edgekd, edgekd.app.cli as c; c.make_parser(); "
        "print(*sorted({m.split('.')[0] for m in sys.modules}))"
    )
    loaded = set(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
    )
    assert not loaded & HEAVY


@pytest.mark.parametrize(
    "module",
    [
        "app.verify",
        "assessment.assess",
        "assessment.refit",
        "evaluation.waterfall",
        "reporting.html_report",
        "reporting.out_folder",
        "app.console",
    ],
)
def test_verifying_checking_and_reporting_need_no_torch(module: str) -> None:
    code = f"import sys, edgekd.{module}; print('torch' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "False\n"
    )


GENERATED = "# automatically generated by the FlatBuffers compiler"  # flatc writes no docstrings


def test_every_module_says_what_it_is() -> None:
    """Line 1 of each module is its docstring, and CONTRIBUTING.md names each room."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for name, path in MODULES.items():
        if path.read_text(encoding="utf-8").startswith(GENERATED):
            continue
        assert path.read_text(encoding="utf-8").startswith('"""'), (
            f"{name} does not start with its docstring"
        )
    for name in ROOMS:
        assert f"`{name}`" in text, f"CONTRIBUTING.md does not mention the room {name}"


def test_no_file_and_no_function_is_too_long() -> None:
    """edgebench.py is one file by its nature, and its functions are short all the same."""
    for name, path in MODULES.items():
        text = path.read_text(encoding="utf-8")
        lines = len(text.splitlines())
        assert lines <= LONGEST_FILE or name == RUNNER, f"{name} has {lines} lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert (node.end_lineno or 0) - node.lineno < LONGEST_FUNCTION, (
                    f"{name}.{node.name}"
                )


def test_a_stages_key_covers_all_the_code_that_it_runs() -> None:
    """Every module that loading a stage loads is in the stage's key.

    The exception are modules whose effect reaches the stage in its settings.
    """
    modules = sorted(
        {stage.function.partition(":")[0] for stage in (*stage_table.STAGES, knowledge_stages.LOGS)}
    )
    loaded = subprocess.run(
        [sys.executable, "-c", f"import sys, {', '.join(modules)}; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    keyed = {name for module in modules for name in stage_keys.code(module.removeprefix("edgekd."))}
    found = {name.removeprefix("edgekd.") for name in loaded if name.startswith("edgekd.")}
    packages = {name for name in found if MODULES[name].name == "__init__.py"}  # docstrings alone
    left_out = {name for name in found if room(name) in stage_keys.NOT_HASHED}
    assert found - packages <= keyed | left_out


def test_no_drawer_for_everything() -> None:
    """No utils, helpers, common or misc."""
    assert not {name.split(".")[-1] for name in MODULES} & {
        "utils",
        "helpers",
        "common",
        "misc",
        "tools",
    }


def test_exit_only_at_the_door() -> None:
    """Only the command line and the runner end the process."""
    for name, path in MODULES.items():
        if name not in ("app.cli", RUNNER, "device.kit.run"):
            assert "sys.exit" not in re.sub(
                r"calls `sys\.exit`", "", path.read_text(encoding="utf-8")
            ), name


def test_test_files_do_not_import_test_files() -> None:
    """What tests share lies in a module whose name says what it is."""
    for path in sorted((REPOSITORY / "tests").rglob("*.py")):
        found = re.findall(
            r"(?:from|import) (?:tests\.)?(test_\w+)", path.read_text(encoding="utf-8")
        )
        assert not found, f"{path.name} imports {found}"
