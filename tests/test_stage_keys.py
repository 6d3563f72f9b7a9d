"""What makes a cached build run again: code, library versions and the machine do; comments and
docstrings do not.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import shutil
import typing
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekd.app import cli
from edgekd.device import edgebench
from edgekd.pipeline import stage_keys
from edgekd.pipeline.hashed_only import HashedOnly
from edgekd.pipeline.jobs import weights_content
from edgekd.pipeline.knowledge_stages import CLIENTS, LOGS
from edgekd.pipeline.stage_settings import StageSettings
from edgekd.pipeline.stage_table import STAGES, Stage
from edgekd.settings import model_specs
from tests.conftest import REPOSITORY
from tests.small_build import STUDENT, STUDENT_OPTIONS

SMALL = [
    "build",
    "--profile",
    "pi4",
    "--data",
    "phantom:100@40",
    "--teacher",
    "none",
    "--student",
    STUDENT,
    *(
        part
        for text in (
            STUDENT_OPTIONS,
            "data.input_px=32",
            "distil.epochs=1",
            "qat.epochs=0",
            "views.per_image=1",
            "bench.runs=5",
            "bench.min_seconds=0.05",
            "data.golden=8",
            "data.calibration=16",
            "certify.max_drop=1",
            "certify.min_agreement=0",
        )
        for part in ("--set", text)
    ),
]
EVERY = (*STAGES, CLIENTS, LOGS)


def ran(out: Path) -> list[str]:
    """The stages that the last build of a folder did not find in the store."""
    report = json.loads((out / "report.json").read_text())
    return [row["stage"] for row in report["stages"] if not row["cached"]]


@dataclasses.dataclass(frozen=True)
class Copy:
    """A copy of the package's source that may be edited, and the out folder of a build by it.

    Keys are made from the copy's source. What runs is the package itself.
    """

    package: Path
    out: Path

    def build(self) -> list[str]:
        """Build, and return the stages that ran."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stage_keys, "PACKAGE", self.package)
            read_sources_again()
            assert cli.main([*SMALL, "--out", str(self.out)]) == 0
        read_sources_again()
        return ran(self.out)

    def edit(self, module: str, change: Callable[[str], str]) -> None:
        """Replace the text of a module of the copy."""
        path = self.package / module
        text = path.read_text(encoding="utf-8")
        assert change(text) != text
        path.write_text(change(text), encoding="utf-8")


def read_sources_again() -> None:
    """Forget what was read of the package's source, as a new process has not read it yet."""
    for found in vars(stage_keys).values():
        if hasattr(found, "cache_clear"):
            found.cache_clear()


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    root = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "edgekd", root / "edgekd", ignore=ignored)
    made = Copy(root / "edgekd", root / "out")
    assert len(made.build()) == 12
    return made


@pytest.fixture
def out(copy: Copy, tmp_path: Path) -> Path:
    """The out folder of the finished build, which builds of the package itself may go on from."""
    return Path(shutil.copytree(copy.out, tmp_path / "out"))


def test_comments_and_docstrings_leave_a_build_cached(copy: Copy) -> None:
    """In stages' own modules and in a module that all of them import."""
    for module in ("pipeline/stages/distil.py", "pipeline/stages/certify.py", "data/datasets.py"):
        copy.edit(module, lambda text: text.replace('"""', '"""Reworded. ', 1))
        copy.edit(module, lambda text: text + "\n# A new comment.\n")
    copy.edit("pipeline/stages/distil.py", lambda text: text.replace("\n\n\n", "\n\n\n\n", 1))
    assert copy.build() == []


def test_changed_code_runs_its_stage_again(copy: Copy) -> None:
    """Only this stage: what it makes is the same, and so are the keys of the stages after it."""
    module = "pipeline/stages/confidence.py"
    before = (copy.package / module).read_text()
    copy.edit(module, lambda text: text + "\nUNUSED = 1\n")
    assert copy.build() == ["confidence"]
    copy.edit(module, lambda _text: before)
    assert copy.build() == []


# Library: the stages of this build that use it, at any depth. A changed version runs these again
# and no others.
USED_BY = {
    # Stages that look at pixels decode images themselves with data.cache = "none".
    "pillow": ["data", "inputs", "distil", "qat", "evaluate", "app_inputs", "saliency"],
    "onnxruntime": ["evaluate", "certify"],
    "ai-edge-litert": [
        "convert",
        "evaluate",
        "certify",
        "confidence",
        "app_inputs",
        "saliency",
        "bench",
    ],
    "torch-pruning": [],  # only the stage "prune" uses it, which this build does not have
}


@pytest.mark.parametrize("library", USED_BY)
def test_a_changed_library_runs_the_stages_that_use_it(
    out: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    installed = stage_keys.version
    monkeypatch.setattr(
        stage_keys, "version", lambda name: "999.0" if name == library else installed(name)
    )
    assert cli.main([*SMALL, "--out", str(out)]) == 0
    assert ran(out) == USED_BY[library]
    monkeypatch.undo()
    assert cli.main([*SMALL, "--out", str(out)]) == 0
    assert ran(out) == []


def test_another_machine_measures_its_own_latency(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that two machines share does not give one of them the other's latency."""
    here = edgebench.machine()
    monkeypatch.setattr(edgebench, "machine", lambda: {**here, "node": "another"})
    assert cli.main([*SMALL, "--out", str(out)]) == 0
    assert ran(out) == ["bench"]


def test_torch_is_a_library_of_each_stage_that_trains() -> None:
    for stage in EVERY:
        trains = stage.shared or stage is CLIENTS
        assert not trains or {"torch", "timm"} <= stage_keys.libraries(stage.module), stage.name


def test_libraries_imported_by_name_are_listed() -> None:
    """A library that `importlib` imports is not seen in the source. Weights of packages are in the
    settings instead.
    """
    used = frozenset[str]().union(*(stage_keys.code(stage.module) for stage in EVERY))
    dynamic = {name for name in used if "importlib.import_module(" in source(name)}
    assert {name for name in dynamic if not name.startswith("networks.")} <= set(
        stage_keys.IMPORTED_BY_NAME
    )
    decoders = {name for name in used if "import pydicom" in source(name)}  # pydicom loads them
    assert set(stage_keys.IMPORTED_BY_NAME) <= dynamic | decoders


def test_a_package_of_weights_is_in_the_key(tmp_path: Path) -> None:
    student = dataclasses.replace(model_specs.spec("mobilenetv2_035"), package="numpy")
    assert weights_content(student, "") == f"numpy {stage_keys.version('numpy')}"
    assert weights_content(student, "none") == ""
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"w")
    assert len(weights_content(student, str(file))) == 64


# What a stage's settings declare -----------------------------------------------------------------


def source(module: str) -> str:
    return stage_keys._path(module).read_text(encoding="utf-8")


def attributes_of_settings(stage: Stage) -> set[str]:
    """The names X of all `settings.X`, `self.settings.X` in the stage's module."""
    found = set()
    for node in ast.walk(ast.parse(source(stage.module))):
        if isinstance(node, ast.Attribute):
            owner = node.value
            name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
            if name == "settings":
                found.add(node.attr)
    return found


def settings_of(stage: Stage) -> type:
    """The settings' class, by the annotation of the function that makes them."""
    make = typing.cast(Callable[..., StageSettings], stage.settings)
    return typing.get_type_hints(make)["return"]


@pytest.mark.parametrize("stage", [row for row in EVERY if row.settings], ids=lambda row: row.name)
def test_a_stage_reads_all_its_settings_but_those_that_are_hashed_only(stage: Stage) -> None:
    hints = typing.get_type_hints(settings_of(stage), include_extras=True)
    hashed = {name for name, hint in hints.items() if typing.get_origin(hint) is HashedOnly}
    read = attributes_of_settings(stage)
    assert not read & hashed
    assert set(hints) - hashed <= read
