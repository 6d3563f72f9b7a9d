"""What other packages add: data sources, losses, device rules and students, by entry points.

A package names its additions in its pyproject.toml:

    [project.entry-points."edgekd.losses"]
    logit_l1 = "my_package.losses:LOGIT_L1"

EdgeKD looks for packages when a name is none of its own, and never while edgekd is imported. It
imports the module of a plug-in when the plug-in is used.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from edgekd.core.errors import PluginError

Group = Literal["edgekd.data_sources", "edgekd.losses", "edgekd.device_rules", "edgekd.students"]


@dataclasses.dataclass(frozen=True)
class Plugin:
    """An entry point of an installed package. `version` is the package's."""

    group: Group
    name: str
    distribution: str
    version: str
    target: str  # "MODULE:OBJECT"

    def load(self) -> Any:
        """The object that the entry point names. Raises PluginError that names the package."""
        return load(self.target, f"{self.group} {self.name!r}", self.package)

    @property
    def package(self) -> str:
        """Name and version of the package: "my-package 1.0"."""
        return f"{self.distribution} {self.version}"

    @property
    def identity(self) -> str:
        """The package's name and version, and the hash of its Python files.

        It is part of the key of every stage that uses the plug-in.
        """
        self.load()
        module = importlib.import_module(self.target.partition(":")[0].partition(".")[0])
        return f"{self.distribution}=={self.version} {_source_digest(module.__file__)}"


def load(target: str, what: str, package: str) -> Any:
    """The object "MODULE:OBJECT". Raises PluginError that names the package and the reason."""
    module, _, attribute = target.partition(":")
    try:
        return functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
    except Exception as error:  # a package's module may raise anything while it is imported
        raise PluginError(
            f"{what} of the package {package} does not load from {target}: "
            f"{type(error).__name__}: {error}",
            f"upgrade the package, or remove it: pip uninstall {package.partition(' ')[0]}",
        ) from error


@functools.cache
def installed(group: Group) -> Mapping[str, Plugin]:
    """The plug-ins of a group by name. Raises PluginError when two packages use the same name."""
    import importlib.metadata  # slow to import, and often no plug-in is asked for

    found: dict[str, Plugin] = {}
    for entry in importlib.metadata.entry_points(group=group):
        owner = entry.dist
        plugin = Plugin(
            group,
            entry.name,
            owner.name if owner else "unknown",
            owner.version if owner else "",
            entry.value,
        )
        other = found.setdefault(entry.name, plugin)
        if other != plugin:
            raise PluginError(
                f"{group} {entry.name!r} is in two packages: {other.package} and {plugin.package}",
                f"remove one of them: pip uninstall {plugin.distribution}",
            )
    return found


def find(group: Group, name: str) -> Plugin | None:
    """The plug-in of this name, or None when no installed package has it."""
    return installed(group).get(name)


@functools.cache
def _source_digest(file: str | None) -> str:
    """Hex sha256 over the Python files of a package or of a module; "" without a file."""
    if file is None:
        return ""
    path = Path(file)
    files = sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
    digest = hashlib.sha256()
    for each in files:
        digest.update(f"{each.relative_to(path.parent).as_posix()}\0".encode())
        digest.update(each.read_bytes())
    return digest.hexdigest()
