"""The mappers by the name that a profile's `mapper` gives, those of plug-in packages included."""

from __future__ import annotations

import functools

from edgekd.assessment.mappers.edge_tpu import EdgeTpu
from edgekd.assessment.mappers.kernels import KernelList
from edgekd.assessment.mappers.mapper import Mapper
from edgekd.assessment.mappers.nnapi import Nnapi
from edgekd.assessment.mappers.npu import Npu
from edgekd.assessment.mappers.tflite_micro import TfliteMicro
from edgekd.core import plugins
from edgekd.core.errors import PluginError, UnknownName
from edgekd.core.plugins import Plugin
from edgekd.settings.device_profiles import DeviceProfile

MAPPERS: dict[str, Mapper] = {
    "kernels": KernelList(),
    "edgetpu": EdgeTpu(),
    "nnapi": Nnapi(),
    "npu": Npu(),
    "tflite-micro": TfliteMicro(),
}


def mapper_for(profile: DeviceProfile) -> Mapper:
    """The rules of a profile's device. Raises what `mapper_named` raises."""
    return mapper_named(profile.mapper)


def mapper_named(name: str) -> Mapper:
    """The mapper with this name, from EdgeKD or from an installed package.

    Raises UnknownName, and PluginError for a package whose mapper cannot be used.
    """
    if name in MAPPERS:
        return MAPPERS[name]
    plugin = plugins.find("edgekd.device_rules", name)
    if plugin is None:
        known = [*MAPPERS, *plugins.installed("edgekd.device_rules")]
        raise UnknownName("mapper", name, known, f"known mappers: {', '.join(known)}")
    return _loaded(plugin)


@functools.cache
def _loaded(plugin: Plugin) -> Mapper:
    """The mapper of a package. Its entry point names a subclass of Mapper."""
    found = plugin.load()
    if not (isinstance(found, type) and issubclass(found, Mapper)):
        raise PluginError(
            f"{plugin.group} {plugin.name!r} of the package {plugin.package} is {found!r}, not a "
            "subclass of edgekd.assessment.mappers.mapper.Mapper",
            f"correct {plugin.target}, or remove the package: pip uninstall {plugin.distribution}",
        )
    try:
        return found()
    except Exception as error:  # a package's code may raise anything
        raise PluginError(
            f"{plugin.group} {plugin.name!r} of the package {plugin.package}: "
            f"{plugin.target}() raises {type(error).__name__}: {error}",
            "the class must take no arguments; correct it, or remove the package",
        ) from error
