"""A run in Weights & Biases.

The environment says where it goes: WANDB_MODE as always. Without it, a key (WANDB_API_KEY, or a
login that is stored in netrc) means online, and no key means offline: a folder in wandb/, which
`wandb sync` uploads. It never asks anything.
"""

from __future__ import annotations

import netrc
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from edgekd.app.tracking.tracker import PROJECT, Start

if TYPE_CHECKING:
    import wandb

INIT_TIMEOUT = 20.0  # seconds that a server has to answer; wandb waits 90 by itself
NO_UPLOAD = ("offline", "disabled", "dryrun")


def begin(start: Start) -> WandbRun:
    """Begin a run. Raises what wandb raises, and RuntimeError for online without a key."""
    # wandb reports its own errors to its authors unless this is set.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    key = _has_key()
    mode = os.environ.get("WANDB_MODE") or ("online" if key else "offline")
    if mode not in NO_UPLOAD and not key:
        raise RuntimeError(f"WANDB_MODE is {mode}, and no API key is set: type wandb login")
    settings = wandb.Settings(
        mode=mode,
        silent=True,
        console="off",  # the terminal is EdgeKD's
        # The command line, the git remote and the machine may hold secrets, and nobody asked.
        disable_git=True,
        disable_code=True,
        x_disable_meta=True,
        x_disable_stats=True,
        init_timeout=INIT_TIMEOUT,
    )
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        name=start.name,
        group=start.parent or None,
        config=dict(start.settings),
        settings=settings,
        reinit="create_new",  # leaves other runs of the process alone
    )
    return WandbRun(run)


def _has_key() -> bool:
    """Whether the environment can log in. wandb itself would ask in a terminal."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    named = os.environ.get("NETRC")
    for path in [Path(named)] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]:
        try:
            if host in netrc.netrc(path).hosts:
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


class WandbRun:
    """A Run in Weights & Biases. The parts of a run are in a group with its id."""

    def __init__(self, run: wandb.Run) -> None:
        self._run = run

    @property
    def identity(self) -> str:
        """The run's id."""
        return str(self._run.id)

    def point(self, curve: str, value: float, step: int) -> None:
        """A row of the history; its step is a figure of its own.

        wandb's own step may not go back, and each task of a build starts anew.
        """
        task = curve.partition("/")[0]
        self._run.define_metric(f"{task}/*", step_metric=f"{task}/step")
        self._run.log({curve: value, f"{task}/step": step})

    def final(self, figures: Mapping[str, float]) -> None:
        """Entries of the summary."""
        self._run.summary.update(dict(figures))

    def file(self, path: Path) -> None:
        """A copy in the run's folder."""
        copy = Path(self._run.dir) / path.name
        shutil.copy(path, copy)
        self._run.save(str(copy), base_path=self._run.dir, policy="now")

    def finish(self, failed: bool) -> None:
        """Close the run."""
        self._run.finish(exit_code=1 if failed else 0)
