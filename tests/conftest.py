"""What all tests share: paths, the environment, and the fixture for the optional X-ray images."""

from __future__ import annotations

import atexit
import gc
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekd.core.allocator import keep_freed_memory
from tests.forking import Forking
from tests.once import once

# Tests must not read or write the caches of the user who runs them.
# Workers inherit the folder of the process that starts them, and share what is in it.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["EDGEKD_SKETCHES"] = tempfile.mkdtemp(prefix="edgekd-sketches-")
    os.environ["EDGEKD_CODE_CACHE"] = tempfile.mkdtemp(prefix="edgekd-code-")
    for folder in ("EDGEKD_SKETCHES", "EDGEKD_CODE_CACHE"):
        atexit.register(shutil.rmtree, os.environ[folder], ignore_errors=True)
# A name without weights takes those of timm's hub where it is reachable. Tests take none.
os.environ["HF_HUB_OFFLINE"] = "1"
# torch reads this when it is imported. More threads than cores slow the tests down.
os.environ.setdefault("OMP_NUM_THREADS", "2")
# Without bytecode files, each process that a test starts compiles the whole package, which takes
# 1 s, and each worker rewrites the assertions of all test files, which takes 5 s.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# jsonschema imports it, if it is installed, to check the format "iri". No schema of EdgeKD has it,
# and the import takes 2 s.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
keep_freed_memory()  # as builds do, for tests that train without one

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"


# The files that take longest start first, so that no worker is left with one of them at the end.
SLOW_FIRST = (
    "test_build.py",
    "test_processes.py",
    "test_subgroup_damage.py",
    "test_examples_folder.py",
    "test_recording.py",
    "test_stage_keys.py",
    "test_plugins.py",
    "test_bundle.py",
    "test_pruning.py",
    "test_modes.py",
    "test_how_to.py",
    "test_route.py",
    "test_certificate.py",
    "test_rules.py",
    "test_edgebench.py",
    "test_api.py",
    "test_several_labels.py",
    "test_lesson.py",
    "test_check.py",
    "test_grey.py",
    "test_several_teachers.py",
    "test_waterfall.py",
    "test_federated.py",
)


# A machine that is lent for its GPU may have torch and timm alone. It runs the tests of the GPU.
if any(importlib.util.find_spec(name) is None for name in ("msgspec", "ai_edge_litert")):
    collect_ignore = [
        path.name for path in Path(__file__).parent.glob("test_*.py") if path.name != "test_gpu.py"
    ]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "gpu: needs an NVIDIA GPU, and is skipped elsewhere")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the tests that were skipped for want of a GPU."""
    skipped = [
        report.nodeid.rpartition("::")[2]
        for report in terminalreporter.stats.get("skipped", [])
        if "gpu" in report.keywords
    ]
    if skipped:
        names = sorted({name.partition("[")[0] for name in skipped})
        told = f"{len(skipped)} tests were skipped, for want of an NVIDIA GPU: {', '.join(names)}"
        terminalreporter.write_line(told)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests by file: SLOW_FIRST, then all others in their own order."""
    rank = {name: number for number, name in enumerate(SLOW_FIRST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


def pytest_collection_finish() -> None:
    """Let the garbage collector ignore what the imports made, which stays until the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def xrays() -> Path:
    """The folder of real chest X-rays. Skips the test if the folder does not exist."""
    folder = SHARED / "data" / "chest-xray"
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist: the real X-rays are not part of the repository")
    return folder


@pytest.fixture(scope="module")
def forking() -> Iterator[Forking]:
    """A process for commands that need an environment of their own."""
    with Forking() as process:
        yield process


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The out folder of a small real build with a bundle. Tests leave it as it is."""
    from tests.small_bundle import build  # torch: only for tests that ask for a build

    return once(tmp_path_factory, "small_bundle", build)
