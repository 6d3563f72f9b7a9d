"""Mappers: every profile's is registered, and a package's is found by its name and checked."""

from __future__ import annotations

import dataclasses

import pytest

from edgekd.assessment.graph_check import check_graph
from edgekd.assessment.mappers import registry
from edgekd.assessment.mappers.mapper import Mapper
from edgekd.assessment.op_placement import OpPlacement, place_each
from edgekd.core import plugins
from edgekd.core.errors import PluginError, UnknownName
from edgekd.core.plugins import Plugin
from edgekd.settings.device_profiles import (
    BUILT_IN_RULES,
    DeviceProfile,
    load_profile,
    profile_names,
)
from edgekd.tflite.flatbuffer import LiteGraph
from tests.lite_graphs import separable


class OnlyConvolutions(Mapper):
    """The least that a package has to write."""

    def consumer(self, profile: DeviceProfile) -> str:
        return f"my accelerator of {profile.name}"

    def place(self, graph: LiteGraph, profile: DeviceProfile) -> list[OpPlacement]:
        return place_each(
            graph, lambda _, op: None if "CONV" in op.name else ("no", "too hard"), "on it"
        )


class Needy(OnlyConvolutions):
    def __init__(self, wanted: str) -> None:
        self.wanted = wanted


NO_MAPPER = 3


def install(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Make an object of this module the mapper "mine" of an installed package."""
    plugin = Plugin("edgekd.device_rules", "mine", "my-package", "1.0", f"{__name__}:{name}")
    monkeypatch.setattr(plugins, "installed", lambda _group: {"mine": plugin})


def board() -> DeviceProfile:
    return dataclasses.replace(load_profile("pi4"), mapper="mine")


def test_profiles_may_name_every_registered_mapper() -> None:
    assert set(BUILT_IN_RULES) == registry.MAPPERS.keys()


@pytest.mark.parametrize("profile", profile_names())
def test_every_profile_has_a_registered_mapper(profile: str) -> None:
    mapper = registry.mapper_for(load_profile(profile))
    assert mapper in registry.MAPPERS.values()
    assert mapper.consumer(load_profile(profile))


def test_the_mapper_of_a_package_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "OnlyConvolutions")
    found = check_graph(separable().read(), board(), "x")
    assert found.mapped.consumer == "my accelerator of pi4"
    assert found.mapped.fallback
    assert not [row.op for row in found.mapped.fallback if "CONV" in row.op]
    assert {row.status for row in found.mapped.fallback} == {"no"}
    assert found.predicted.latency_ms is not None


@pytest.mark.parametrize(
    ("name", "words"),
    [("NO_MAPPER", "not a subclass"), ("Needy", "raises TypeError"), ("Gone", "does not load")],
)
def test_a_package_whose_mapper_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    install(monkeypatch, name)
    with pytest.raises(PluginError, match=words) as caught:
        registry.mapper_for(board())
    assert "my-package 1.0" in str(caught.value)


def test_an_unknown_mapper_lists_the_known(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "OnlyConvolutions")
    with pytest.raises(UnknownName, match="kernels, edgetpu, nnapi, npu, tflite-micro, mine"):
        registry.mapper_named("nnap")
