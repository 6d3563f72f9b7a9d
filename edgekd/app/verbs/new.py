"""`edgekd new`."""

from __future__ import annotations

from pathlib import Path

from edgekd.app.arguments import DEFAULT_PROFILE
from edgekd.app.commands import NewCommand
from edgekd.core import files
from edgekd.core.errors import RecipeError
from edgekd.settings import presets, recipe, recipe_toml

NOTE = f"""\
# {" and ".join(family.key for family in presets.FAMILIES)} choose the values behind "# ".
# To choose one yourself, take its "# " away.
"""


def run(command: NewCommand) -> int:
    """Write a recipe. Raises RecipeError for a file that exists or cannot be written."""
    path = Path(command.folder) / "recipe.toml"
    if files.exists(path, "DIR"):
        raise RecipeError(f"{path} exists already", "name another folder, or delete it first")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_text(), encoding="utf-8")
    except OSError as error:
        raise RecipeError(
            f"{path}: {files.reason(error)}", "name a folder that you may write to"
        ) from None
    print(f"{path}\nnext: edgekd build {path} --profile {DEFAULT_PROFILE}")
    return 0


def _text() -> str:
    """A recipe with every setting. Those of presets are comments, so that a preset may set them."""
    return NOTE + recipe_toml.with_comments(recipe.to_toml(recipe.Recipe()), presets.KEYS)
