"""The house rules: who imports whom, what stays light, one vocabulary. A new module must find its floor."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edgekd import pipeline
from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "edgekd"
MODULES = {".".join(p.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): p
           for p in PACKAGE.rglob("*.py") if "_data" not in p.parts}
HEAVY = {"torch", "torchvision", "torchao", "timm", "onnx", "onnx2tf", "onnxruntime", "onnxscript", "tensorflow",
         "ai_edge_litert", "tflite_runtime", "jinja2", "rich", "numpy", "PIL", "torch_pruning",
         "accelerate"}


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    """Dotted names that a module imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def own(path: Path, top_level_only: bool = False) -> set[str]:
    return {name for name in imports(path, top_level_only) if name in MODULES and name != "edgekd"}


def libraries(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def test_no_circle() -> None:
    """Imports at the top of modules form no circle."""
    graph = {name: own(path, top_level_only=True) for name, path in MODULES.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name not in done:
            for other in graph[name]:
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_stages_stand_alone() -> None:
    """A stage imports no other stage, not the store, the pipeline or anything above it."""
    above = {"edgekd.store", "edgekd.pipeline", "edgekd.building", "edgekd.cli", "edgekd.console", "edgekd.report"}
    for name, path in MODULES.items():
        if name.startswith("edgekd.stages."):
            wrong = {other for other in own(path) if other in above or other.startswith("edgekd.stages.")}
            assert not wrong, f"{name} imports {sorted(wrong)}"


def test_ground_floor_is_standard_library() -> None:
    """What is said in settings, the store, and all that reaches devices need nothing installed."""
    for name in (*pipeline.SAID_IN_SETTINGS, "store", "transports", "ssh", "adb", "benchmark_model", "android", "emulate",
                 "places", "bench", "runs"):
        found = libraries(MODULES[f"edgekd.{name}"]) - set(sys.stdlib_module_names) - {"edgekd", "__future__"}
        assert not found, f"edgekd.{name} imports {sorted(found)}"


def test_a_report_is_read_and_judged_without_torch() -> None:
    """The verdict, the page and what reads an out folder need numpy at most; only --why itself runs a network."""
    for name in ("waterfall", "metrics", "report", "published", "explaining", "html_report", "charts", "console"):
        found = {other.split(".")[0] for other in imports(MODULES[f"edgekd.{name}"], top_level_only=True)}
        assert not found & {"torch", "torchao", "timm", "onnx"}, name


def test_the_sensitivity_run_knows_no_store() -> None:
    """sensitivity, remedies and clipping compute; explaining.py alone reads and writes what they need."""
    above = {"edgekd.store", "edgekd.pipeline", "edgekd.report", "edgekd.published", "edgekd.explaining"}
    for name in ("sensitivity", "remedies", "clipping", "waterfall"):
        wrong = {other for other in own(MODULES[f"edgekd.{name}"]) if other in above or ".stages" in other}
        assert not wrong, f"edgekd.{name} imports {sorted(wrong)}"


@pytest.mark.parametrize(("library", "allowed"), [
    ("timm", {"edgekd.networks"}),
    ("torch_pruning", {"edgekd.coupling"}),
    ("accelerate", {"edgekd.processes"}),
    ("onnx2tf", {"edgekd.onnx2tf_runner", "edgekd.stages.convert"}),
    ("PIL", {"edgekd.images", "edgekd.examples", "edgekd.providers"}),
    ("rich", {"edgekd.console"}),
    ("jinja2", {"edgekd.html_report"}),
])
def test_one_door_for_each_library(library: str, allowed: set[str]) -> None:
    """A library with a narrow job is imported in its own room only."""
    users = {name for name, path in MODULES.items() if library in libraries(path)}
    assert users <= allowed, f"{library} is imported by {sorted(users - allowed)}"


def test_the_runner_is_whole_by_itself() -> None:
    """edgebench.py is copied to boards alone: nothing of edgekd, nothing but numpy and a runtime."""
    found = libraries(MODULES["edgekd.edgebench"]) - set(sys.stdlib_module_names) - {"__future__"}
    assert found <= {"numpy", "ai_edge_litert", "tflite_runtime", "tensorflow"}


def test_what_a_check_needs() -> None:
    """The rules, the arena and the latency model look at graphs: no torch, no runtime, no network."""
    for name in ("workload", "latency", "verdicts", "edgetpu_rules", "nnapi_rules", "edgetpu_cost", "edgetpu_file",
                 "edgetpu_compiler", "mapping", "advice", "check", "refit"):
        found = libraries(MODULES[f"edgekd.{name}"]) - set(sys.stdlib_module_names) - {"edgekd", "__future__", "numpy"}
        assert not found, f"edgekd.{name} imports {sorted(found)}"
        assert not own(MODULES[f"edgekd.{name}"]) & {"edgekd.networks", "edgekd.lite", "edgekd.pipeline", "edgekd.cli"}


def test_the_agent_is_whole_by_itself() -> None:
    """agent.py is sent to devices as text: the standard library alone, in the syntax of the oldest Python there."""
    path = MODULES["edgekd.agent"]
    assert libraries(path) <= set(sys.stdlib_module_names) | {"__future__"}
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))


def test_lean_import() -> None:
    """`import edgekd` and the command line load none of the heavy libraries."""
    code = "import sys, edgekd, edgekd.cli; edgekd.cli._parser(); print(*sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())
    assert not loaded & HEAVY


def test_the_proof_stands_by_itself() -> None:
    """The checks share no code with the converter, and `edgekd verify` needs no torch."""
    for name in ("claims", "file_checks", "edge_local", "op_local", "answers", "binding", "canonical", "requantize"):
        wrong = own(MODULES[f"edgekd.{name}"]) & {"edgekd.lowering", "edgekd.model_builder", "edgekd.onnx_writer",
                                                   "edgekd.quantnet"}
        assert not wrong, f"edgekd.{name} imports {sorted(wrong)}"
    code = "import sys, edgekd.verifying; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_every_module_says_what_it_is() -> None:
    """Line 1 of each module is its docstring, and the map in CONTRIBUTING.md names it."""
    readme = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for name, path in MODULES.items():
        assert path.read_text(encoding="utf-8").startswith('"""'), f"{name} does not start with its docstring"
        if name != "edgekd":
            assert path.name in readme or path.name == "__init__.py", f"CONTRIBUTING.md does not mention {path.name}"


def test_imports_follow_the_map() -> None:
    """A module imports, when it is loaded, only from its own row of the map in CONTRIBUTING.md and from rows above."""
    rows = [line for line in (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()
            if line.startswith("| ") and ".py`" in line]
    floor = {("edgekd.stages." if "`edgekd/stages/`" in row else "edgekd.") + name: number
             for number, row in enumerate(rows) for name in re.findall(r"`(\w+)\.py`", row)}
    assert len(floor) > 50
    for name, path in MODULES.items():
        if name in floor:
            below = {other for other in own(path, top_level_only=True) if floor.get(other, 0) > floor[name]}
            assert not below, f"{name} stands above {sorted(below)} in the map in CONTRIBUTING.md and imports it"


def test_a_stages_key_covers_all_the_code_that_it_runs() -> None:
    """What a stage imports, at any depth, is in its key, but for what reaches it in its settings."""
    for stage in (*pipeline.STAGES, pipeline.LOGS):
        module = stage.function.partition(":")[0]
        reached, waiting = set(), {module}
        while waiting:
            reached |= waiting
            waiting = {other for name in waiting for other in own(MODULES[name])
                       if other.removeprefix("edgekd.") not in pipeline.SAID_IN_SETTINGS} - reached
        assert {f"edgekd.{name}" for name in pipeline.code(module.removeprefix("edgekd."))} == reached
    modules = ", ".join(sorted({stage.function.partition(":")[0] for stage in pipeline.STAGES}))
    loaded = subprocess.run([sys.executable, "-c", f"import sys, {modules}; print(*sys.modules)"], capture_output=True,
                            text=True, check=True).stdout.split()
    keyed = {name for module in modules.split(", ") for name in pipeline.code(module.removeprefix("edgekd."))}
    found = {name.removeprefix("edgekd.") for name in loaded if name.startswith("edgekd.") and name != "edgekd.stages"}
    assert found <= keyed | pipeline.SAID_IN_SETTINGS


def test_no_drawer_for_everything() -> None:
    """No utils, helpers, common or misc."""
    assert not {name.split(".")[-1] for name in MODULES} & {"utils", "helpers", "common", "misc", "tools"}


def test_exit_only_at_the_door() -> None:
    """Only the command line and the runner end the process."""
    for name, path in MODULES.items():
        if name not in ("edgekd.cli", "edgekd.edgebench", "edgekd.__main__"):
            assert "sys.exit" not in path.read_text(encoding="utf-8").replace("calls `sys.exit`", ""), name
