"""Any input: the exit code is 0, 1, 2 or 130, and no error comes as a surprise.

Each test draws settings, tables, folders or models, and gives them to the command line, in this
process. An error that EdgeKD did not expect would end in the last resort of `main`, with exit code
2 and a log; that counts as a failure here.

`EDGEKD_EXAMPLES=10` draws ten times as many, and other ones at each run.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import re
import sys
import tempfile
from pathlib import Path

import hypothesis.configuration
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from edgekd.app import cli
from edgekd.settings import device_profiles, loss_catalogue, recipe
from tests.tiny_tflite import tiny

# Nothing is written into the checkout.
hypothesis.configuration.set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "edgekd-hypothesis")

MORE = int(os.environ.get("EDGEKD_EXAMPLES", "0"))
CODES = (0, 1, 2, 130)
NUMBER = itertools.count()  # names each example's files, so that none sees those of another
PROFILES = ("pi4", "coral-usb", "android-nnapi", "host", "android-gpu")


def examples(count: int) -> settings:
    """The settings of a test of `count` examples."""
    return settings(
        max_examples=count * (MORE or 1),
        derandomize=not MORE,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the commands run in: `pics`, a small set of pictures, and nothing else."""
    folder = tmp_path_factory.mktemp("any")
    for number, (split, name) in enumerate(itertools.product(("train", "test"), ("cat", "dog"))):
        for one in range(14 if split == "train" else 5):
            path = folder / "pics" / split / name / f"{one}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(100 * number + one))
    before = Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


def png(seed: int) -> bytes:
    """A picture of 4 x 4 pixels."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4), np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def ends_well(*words: str) -> None:
    """Run a command, and fail unless it ends as a command should."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = cli.main(list(words))
        except SystemExit as exit_:  # argparse leaves in this way
            code = int(str(exit_.code))
    said = err.getvalue()
    assert code in CODES, (words, code)
    assert "Traceback" not in said, (words, said)
    assert "edgekd-error-" not in said, (words, said)
    assert "EDGEKD_DEBUG" not in said, (words, said)
    if code == 2:
        assert len(re.findall("^edgekd[ a-z]*: error: ", said, re.MULTILINE)) == 1, (words, said)


def new_name(suffix: str = "") -> str:
    return f"given{next(NUMBER)}{suffix}"


# Texts --------------------------------------------------------------------------------------------


def stays_here(text: str) -> bool:
    """Whether a text that is taken for a path stays below the working folder: no walk of a disk."""
    return not text.startswith(("/", "~", ".")) and "\\" not in text and ".." not in text


TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["pics", "pics/train", "x" * 300, "none", "a\u2028b", "é", "\udcff", "\0"]),
).filter(stays_here)
NUMBERS = st.one_of(
    st.integers(-3, 400),
    st.floats(0, 1),
    st.floats(),
    st.sampled_from([2**31, 2**64, 10**400, -(10**400), 1e308, 0.5, 1]),
).map(lambda value: repr(value) if isinstance(value, float) else str(value))
QUOTED = TEXTS.map(lambda text: json.dumps(text, ensure_ascii=False))
SCALARS = st.one_of(
    NUMBERS, QUOTED, st.sampled_from(["true", "false", "2026-01-01", "0x" + "f" * 5000])
)
VALUES = st.one_of(
    SCALARS,
    TEXTS,
    st.lists(SCALARS, max_size=3).map(lambda parts: f"[{', '.join(parts)}]"),
    st.dictionaries(st.sampled_from(["a", "weight", "ramp"]), SCALARS, max_size=2).map(
        lambda table: "{" + ", ".join(f"{key} = {value}" for key, value in table.items()) + "}"
    ),
    st.integers(1, 600).map(lambda depth: "[" * depth),
)
KEYS = st.one_of(
    st.sampled_from(sorted(recipe.SETTINGS)),
    st.sampled_from(sorted(loss_catalogue.METHODS)).map(lambda name: f"distil.losses.{name}"),
    st.sampled_from(sorted(recipe.SECTIONS)),
    st.text(max_size=8),
)


@st.composite
def assignments(draw: st.DrawFn) -> str:
    """A text for --set: most often of a known key, and often with a value of its type."""
    key = draw(KEYS)
    setting = recipe.SETTINGS.get(key)
    if setting and setting.choices and draw(st.booleans()):
        return f"{key}={draw(st.sampled_from(setting.choices))}"
    if setting and setting.bounds and draw(st.booleans()):
        low, high = setting.bounds
        whole = isinstance(setting.default, int)
        numbers = st.integers(int(low), int(high)) if whole else st.floats(low, high)
        return f"{key}={draw(numbers)}"
    return f"{key}{draw(st.sampled_from(['=', '=', '=', '']))}{draw(VALUES)}"


@examples(400)
@given(sets=st.lists(assignments(), min_size=1, max_size=3), profile=st.sampled_from(PROFILES))
def test_settings(here: Path, sets: list[str], profile: str) -> None:
    words = ["build", "--data", "pics", "--until", "data", "--out", "out", "--profile", profile]
    ends_well(*words, *itertools.chain.from_iterable(("--set", text) for text in sets))


@examples(400)
@given(
    sections=st.lists(
        st.tuples(st.sampled_from([*recipe.SECTIONS, "x", "distil.losses"]), KEYS, VALUES),
        max_size=3,
    ),
    raw=st.one_of(st.none(), st.none(), st.binary(max_size=40)),
    mark=st.sampled_from(["", "\ufeff", "\0"]),
    encoding=st.sampled_from(["utf-8", "utf-8", "utf-16", "latin-1"]),
)
def test_recipes(
    here: Path,
    sections: list[tuple[str, str, str]],
    raw: bytes | None,
    mark: str,
    encoding: str,
) -> None:
    name = new_name(".toml")
    lines = [f"[{section}]\n{key.rpartition('.')[2]} = {value}" for section, key, value in sections]
    text = (mark + "\n".join(lines)).encode(encoding, errors="replace")
    Path(name).write_bytes(raw if raw is not None else text)
    ends_well("build", name, "--data", "pics", "--until", "data", "--out", "out")


@examples(150)
@given(
    verb=st.sampled_from(["build", "check", "bench", "verify", "report", "new", "profiles"]),
    words=st.lists(
        st.one_of(
            TEXTS,
            st.sampled_from(
                [
                    *("--out", "--store", "--until", "--seed", "--profile", "--data", "--json"),
                    *("--emit", "--brought", "--threads", "--runs", "--cores", "--delegate"),
                    *("--set", "--teacher", "--student", "--fix", "--why", "--html", "--models"),
                    *("pics", "pi4,pi5", "none@", "a@b", "0-3", "xnnpack", "", "fit", "--soak"),
                ]
            ),
        ),
        max_size=4,
    ),
)
def test_command_lines(here: Path, verb: str, words: list[str]) -> None:
    stop = ["--until", "data", "--data", "pics"] if verb == "build" else []
    ends_well(verb, *words, *stop)


# Tables -------------------------------------------------------------------------------------------

COLUMNS = st.one_of(
    st.sampled_from(
        [
            *("image", "label", "labels", "split", "group", "path", "Path", "patient_id", "time"),
            *("Image Index", "Finding Labels", "Patient ID", "Edema", "Pneumonia", "Sex", "Age"),
            *("p:cat", "p:dog", "class_1", "p_1", "sha256", "model", " label", "image_id"),
        ]
    ),
    st.text(max_size=6),
)
CELLS = st.one_of(
    st.sampled_from(
        [
            *("train/cat/0.png", "train/dog/1.png", "test/cat/0.png", "../x.png", "/x.png"),
            *("cat", "dog", "0", "1", "-1", "0.9", "nan", "1e999", "train", "test", "", "A|B"),
            *("No Finding", "2026-01-01", '"', "a" * 300, "\0"),
        ]
    ),
    st.text(max_size=8),
)


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """A CSV: mostly well formed, with odd names and cells, and sometimes any bytes."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=60))
    header = draw(st.lists(COLUMNS, min_size=1, max_size=5))
    rows = draw(st.lists(st.lists(CELLS, min_size=1, max_size=5), max_size=6))
    if draw(st.booleans()):  # every image once, so that reading goes on
        cells = draw(st.lists(CELLS, min_size=len(header), max_size=len(header)))
        rows = [
            [name, *cells[1:]]
            for name in (f"train/{kind}/{one}.png" for kind in ("cat", "dog") for one in range(14))
        ]
    comma = draw(st.sampled_from([",", ",", ",", ";", "\t"]))
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    text = end.join(comma.join(row) for row in [header, *rows])
    return text.encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])), "replace")


@examples(300)
@given(table=tables(), sets=st.lists(assignments(), max_size=1))
def test_labels(here: Path, table: bytes, sets: list[str]) -> None:
    name = new_name(".csv")
    Path(name).write_bytes(table)
    words = ["build", "--data", name, "--set", "data.images=pics", "--until", "data"]
    ends_well(*words, "--out", "out", *itertools.chain(*(("--set", text) for text in sets)))


@examples(150)
@given(
    table=tables(),
    key=st.sampled_from(["distil.groups", "distil.logs", "federated.parts"]),
    column=st.one_of(st.none(), COLUMNS),
)
def test_tables_beside_the_images(here: Path, table: bytes, key: str, column: str | None) -> None:
    name = new_name(".csv")
    Path(name).write_bytes(table)
    words = ["build", "--data", "pics", "--set", f"{key}={name}", "--until", "data"]
    more = [] if column is None else ["--set", f"subgroups.column={json.dumps(column)}"]
    ends_well(*words, "--out", "out", *more)


# Folders ------------------------------------------------------------------------------------------

NAMES = st.one_of(
    st.sampled_from(
        [
            *("train", "test", "val", "cat", "dog", "Cat", "cat ", "manifest.csv", "a.png"),
            *("b.png", "c.jpg", "d.dcm", "e.heic", ".hidden", "__MACOSX", "report.json"),
            *("certificate.json", "model.tflite", "recipe.toml", "manifest.json", "golden.npz"),
            *("labels.txt", "lineage.json", "bench", "bundle", "x.zip", "x.tar", "caf\udce9"),
        ]
    ),
    st.text(
        st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=5
    ),
).filter(lambda name: name not in (".", ".."))
JSONS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["schema", "passed", "stages", "data", "files", "bound", "bench"]),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=6,
)
SCHEMAS = st.sampled_from(
    ["edgekd.report/1", "edgekd.certificate/1", "edgekd.bundle/1", "edgekd.bench/1"]
)
CONTENTS = st.one_of(
    st.integers(0, 40).map(png),
    st.integers(0, 40).map(lambda seed: png(seed)[:50]),
    st.binary(max_size=60),
    st.just(b"path,patient_key\ntrain/cat/a.png,x\n"),
    st.just(tiny().model),
    st.just(b"\0" * 128 + b"DICM" + b"\0" * 20),
    JSONS.map(lambda body: json.dumps(body).encode()),
    st.tuples(SCHEMAS, JSONS).map(
        lambda both: json.dumps(
            {**(both[1] if isinstance(both[1], dict) else {}), "schema": both[0]}
        ).encode()
    ),
    st.integers(1, 3000).map(lambda depth: b"[" * depth),
)


@st.composite
def trees(draw: st.DrawFn) -> dict[tuple[str, ...], bytes | None]:
    """Files by their path; None stands for an empty folder, and b"-> X" for a link to X."""
    made: dict[tuple[str, ...], bytes | None] = {}
    for _ in range(draw(st.integers(0, 8))):
        path = tuple(draw(st.lists(NAMES, min_size=1, max_size=3)))
        made[path] = draw(st.one_of(st.none(), CONTENTS, CONTENTS, st.just(b"-> ..")))
    if draw(st.booleans()):  # a data set, in which something is odd
        made |= {
            (split, kind, f"{one}.png"): png(50 * number + one)
            for number, (split, kind) in enumerate(
                itertools.product(("train", "test"), ("cat", "dog"))
            )
            for one in range(8)
        }
    return made


def write(root: Path, tree: dict[tuple[str, ...], bytes | None]) -> None:
    root.mkdir()
    for path, content in tree.items():
        file = root.joinpath(*path)
        with contextlib.suppress(OSError):  # a file where another path needs a folder
            (file if content is None else file.parent).mkdir(parents=True, exist_ok=True)
            if content == b"-> ..":
                file.symlink_to("..")
            elif content is not None:
                file.write_bytes(content)


@examples(80)
@given(tree=trees(), sets=st.lists(assignments(), max_size=1))
def test_folders_of_images(
    here: Path, tree: dict[tuple[str, ...], bytes | None], sets: list[str]
) -> None:
    name = new_name()
    write(Path(name), tree)
    words = ["build", "--data", name, "--until", "data", "--out", "out"]
    ends_well(*words, *itertools.chain(*(("--set", text) for text in sets)))


@examples(220)
@given(
    tree=trees(),
    command=st.sampled_from(
        [("verify",), ("report",), ("report", "--why"), ("report", "--why-slow"), ("check",)]
    ),
)
def test_folders_of_builds(
    here: Path, tree: dict[tuple[str, ...], bytes | None], command: tuple[str, ...]
) -> None:
    name = new_name()
    write(Path(name), tree)
    ends_well(*command, name)


# Models -------------------------------------------------------------------------------------------

MODEL = tiny().model


@st.composite
def models(draw: st.DrawFn) -> bytes:
    """A .tflite with some bytes changed, taken out or put in; or any bytes."""
    if draw(st.integers(0, 19)) == 0:
        return draw(st.binary(max_size=80))
    data = bytearray(MODEL)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data) - 1)) if data else 0
        kind = draw(st.integers(0, 5))
        if kind <= 2:
            data[place : place + 1] = bytes([draw(st.integers(0, 255))])
        elif kind == 3:
            data[place : place + 4] = draw(st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\0\0\0\x7f"]))
        elif kind == 4:
            del data[place:]
        else:
            data[place:place] = draw(st.binary(max_size=8))
    return bytes(data)


@examples(300)
@given(
    model=models(),
    profile=st.sampled_from(PROFILES),
    command=st.sampled_from(["check", "check", "emit"]),
)
def test_models(here: Path, model: bytes, profile: str, command: str) -> None:
    name = new_name(".tflite")
    Path(name).write_bytes(model)
    # The interpreter that allocates a file runs in a process of its own, which takes half a second.
    # Where none can be started, everything else is checked.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", "/none")
        if command == "emit":
            ends_well("bench", name, "--emit", new_name(), "--profile", profile)
        else:
            ends_well("check", name, "--profile", profile, "--json")


def test_the_profiles_of_these_tests_exist() -> None:
    assert set(PROFILES) <= set(device_profiles.profile_names())
