"""`edgekd profiles`."""

from __future__ import annotations

from pathlib import Path

from edgekd.app.commands import ProfilesCommand
from edgekd.app.printing import print_json, print_keys, print_titles
from edgekd.bundle import bundle_paths
from edgekd.core.errors import RecipeError
from edgekd.settings import device_profiles


def run(command: ProfilesCommand) -> int:
    """List the device profiles, show one, or refit one."""
    names = command.names
    if names and names[0] == "fit":
        return _fit(command)
    if len(names) > 1:
        raise RecipeError(
            f"edgekd profiles takes one name, found {len(names)}",
            "edgekd profiles fit NAME BENCH.json... refits one",
        )
    if names:
        profile = device_profiles.load_profile(names[0])
        (print_json if command.json else print_keys)(profile.to_json())
        return 0
    profiles = [device_profiles.load_profile(name) for name in device_profiles.profile_names()]
    if command.json:
        print_json([profile.to_json() for profile in profiles])
    else:
        print_titles([(profile.name, profile.title) for profile in profiles])
    return 0


def _fit(command: ProfilesCommand) -> int:
    from edgekd.assessment import refit  # numpy: the other uses do without it

    if len(command.names) < 3:
        raise RecipeError(
            "edgekd profiles fit needs a profile and measurements",
            "edgekd profiles fit pi4 bench/*.json",
        )
    bundle_paths.check_outside("--out", Path(command.out))
    made = refit.refit(
        command.names[1],
        [Path(name) for name in command.names[2:]],
        [Path(name) for name in command.models],
        Path(command.out),
    )
    if command.json:
        print_json(made.record())
    else:
        print("\n".join(made.lines()))
    return 0
