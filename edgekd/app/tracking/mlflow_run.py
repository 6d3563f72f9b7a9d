"""A run in MLflow.

MLflow's own environment variables say where it goes: MLFLOW_TRACKING_URI names a server, a folder
or a database, and MLFLOW_EXPERIMENT_NAME the experiment. Without them it is mlflow.db in the folder
of the command. The calls are those of MlflowClient, which leaves MLflow's active run alone.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgekd.app.tracking.tracker import PROJECT, Start

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

BATCH = 100  # parameters in one call, mlflow.utils.validation.MAX_PARAMS_TAGS_PER_BATCH

# MLflow reports its own use to its authors unless this is set. By itself it tries a server that is
# not there 7 times, with 2 minutes for each.
DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


def begin(start: Start) -> MlflowRun:
    """Begin a run. Raises what MLflow raises."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    from mlflow.entities import Param
    from mlflow.tracking import MlflowClient

    for chatty in ("mlflow", "alembic"):  # they announce each table of a new database
        logging.getLogger(chatty).setLevel(logging.WARNING)
    client = MlflowClient()
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
    known = client.get_experiment_by_name(name)
    experiment = known.experiment_id if known else client.create_experiment(name)
    tags = {"mlflow.parentRunId": start.parent} if start.parent else {}
    identity = client.create_run(experiment, run_name=start.name, tags=tags).info.run_id
    parameters = [Param(key, value) for key, value in start.settings.items()]
    for first in range(0, len(parameters), BATCH):
        client.log_batch(identity, params=parameters[first : first + BATCH], synchronous=True)
    return MlflowRun(client, identity)


class MlflowRun:
    """A Run in MLflow."""

    def __init__(self, client: MlflowClient, identity: str) -> None:
        self._client, self._identity = client, identity

    @property
    def identity(self) -> str:
        """The run's id."""
        return self._identity

    def point(self, curve: str, value: float, step: int) -> None:
        """A metric with its step."""
        now = int(time.time() * 1000)
        self._client.log_metric(self._identity, curve, value, now, step, synchronous=True)

    def final(self, figures: Mapping[str, float]) -> None:
        """Metrics without a step."""
        for name, value in figures.items():
            self.point(name, value, 0)

    def file(self, path: Path) -> None:
        """An artifact."""
        self._client.log_artifact(self._identity, str(path))

    def finish(self, failed: bool) -> None:
        """Set the run's status."""
        self._client.set_terminated(self._identity, "FAILED" if failed else "FINISHED")
