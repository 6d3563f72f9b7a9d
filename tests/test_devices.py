"""Device profiles: EdgeKD's are complete and sourced, and mistakes in a user's are named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgekd.core import resources
from edgekd.core.errors import EdgeKDError, ProfileError, UnknownName
from edgekd.settings.device_profiles import FIGURES, load_profile, profile_names, read_profile

NAMES = ["host", "pi-zero-2w", "pi3", "pi4", "pi5"]


def test_the_first_profiles_are_there():
    assert set(NAMES) <= set(profile_names())


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_is_whole_and_every_figure_has_a_source(name):
    profile = load_profile(name)
    assert profile.name == name
    assert profile.sources.keys() == {*FIGURES, "ops"}
    assert all(source.strip() for source in profile.sources.values())
    assert all(reason.strip() for reason in profile.ops.values())
    assert {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "MEAN"} <= profile.ops.keys()
    assert 1 <= profile.threads <= profile.cores
    assert profile.rules.keys() == {"io_dtype", "classifier", "pooling", "softmax"}
    assert profile.edits == {}, "no board at hand asks for another student"
    assert isinstance(profile.to_json()["cpu_flags"], list)


@pytest.mark.parametrize("name", [name for name in profile_names() if name != "host"])
def test_no_board_is_said_to_have_been_measured(name):
    assert load_profile(name).measured_on_hardware is False


def test_the_host_is_counted():
    assert load_profile("host").cores == os.cpu_count()
    assert load_profile("host").memory_mib > 100


def test_figures_of_the_boards():
    pi4, zero = load_profile("pi4"), load_profile("pi-zero-2w")
    assert (pi4.clock_mhz, pi4.cores, pi4.memory_mib, pi4.channel_multiple) == (1500, 4, 1024, 8)
    assert (zero.clock_mhz, zero.memory_mib) == (1000, 512)
    assert "asimddp" in load_profile("pi5").cpu_flags
    assert "asimddp" not in pi4.cpu_flags


def test_an_unknown_profile_is_answered_with_the_nearest():
    with pytest.raises(UnknownName) as caught:
        load_profile("pi44")
    assert "did you mean 'pi4'?" in str(caught.value)
    assert "my_board.toml" in str(caught.value)


def test_a_user_adds_a_board_by_a_file(tmp_path: Path):
    path = tmp_path / "my board.toml"
    path.write_text(
        'extends = "pi4"\nname = "my-board"\ntitle = "My board"\nmeasured_on_hardware = false\n'
        'memory_mib = { value = 8192, source = "the label" }\n'
    )
    profile = load_profile(str(path))
    assert (profile.name, profile.memory_mib, profile.cores) == ("my-board", 8192, 4)
    assert profile.sources["memory_mib"] == "the label"
    assert profile.sources["cores"] == load_profile("pi4").sources["cores"]


HEAD = 'extends = "pi4"\nname = "x"\ntitle = "X"\nmeasured_on_hardware = false\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name = ", ["is not TOML"]),
        ('name = "x"\n', ["key title is missing", "pi4.toml"]),
        ('extends = "pi4"\nname = "x"\ntitle = "X"\n', ["key measured_on_hardware is missing"]),
        (
            HEAD + 'memory_mb = { value = 1, source = "s" }',
            ["unknown key memory_mb", "did you mean memory_mib?"],
        ),
        (HEAD + 'extend = "pi4"', ["unknown key extend", "did you mean extends?"]),
        (HEAD + "cores = 4", ["cores is 4", "value and source"]),
        (
            HEAD + 'cores = { value = 4, sources = "s" }',
            ["unknown key cores.sources", "did you mean cores.source?"],
        ),
        (HEAD + "cores = { value = 4 }", ["key cores.source is missing"]),
        (HEAD + 'cores = { value = 4, source = " " }', ["cores.source is empty"]),
        (HEAD + 'cores = { value = true, source = "s" }', ["cores.value is True"]),
        (HEAD + 'cores = { value = 0, source = "s" }', ["cores.value is 0"]),
        (
            HEAD + 'pooling = { value = "max", source = "s" }',
            ["pooling.value is 'max'", "average_pool"],
        ),
        (
            HEAD + 'compiler = { value = { runtimes = 13 }, source = "s" }',
            ["compiler.value is {'runtimes': 13}", "many_subgraphs"],
        ),
        (
            HEAD + 'compiler = { value = { timeout_s = -1 }, source = "s" }',
            ["compiler.value is {'timeout_s': -1}"],
        ),
        (HEAD + '[ops]\nsource = "s"\nlegal = ["ADD"]', ["ops.legal is ['ADD']"]),
        (HEAD + '[ops]\nsource = "s"\n[ops.legal]\nADD = 1', ["ops.legal.ADD is 1"]),
        (HEAD + "ops = 3", ["ops is 3"]),
        ('extends = "pi9"\n', ["extends is 'pi9'", "pi4"]),
        ("extends = 4\n", ["extends is 4"]),
    ],
)
def test_mistakes_name_the_file_the_key_and_the_next_step(
    tmp_path: Path, text: str, words: list[str]
):
    path = tmp_path / "board.toml"
    path.write_text(text)
    with pytest.raises(ProfileError) as caught:
        read_profile(path)
    for word in [*words, str(path), "next:"]:
        assert word in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path):
    with pytest.raises(ProfileError, match="cannot be read"):
        load_profile(str(tmp_path / "none.toml"))
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    with pytest.raises(ProfileError, match="is not TOML"):
        load_profile(str(tmp_path / "latin.toml"))


def test_data_folders_are_found_in_a_wheel_and_in_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    package = tmp_path / "edgekd"
    (tmp_path / "models").mkdir()
    (package / "_data" / "device_profiles").mkdir(parents=True)
    monkeypatch.setattr(resources, "__file__", str(package / "core" / "resources.py"))
    assert resources.folder("device_profiles") == package / "_data" / "device_profiles"
    assert resources.folder("models") == tmp_path / "models"
    with pytest.raises(EdgeKDError, match="calib_data"):
        resources.folder("calib_data")
