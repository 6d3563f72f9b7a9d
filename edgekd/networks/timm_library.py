"""timm, imported in a quarter of the time that `import timm` takes (`light_imports`)."""

from __future__ import annotations

from edgekd.networks import light_imports

with light_imports.kept_out():
    import timm

__all__ = ["timm"]
