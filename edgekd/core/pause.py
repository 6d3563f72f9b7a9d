"""A training that pauses after some epochs and is continued by a later run.

A pause changes no stage's key and no result: the checkpoint stays in the store, and the next run
of the same job goes on from there.
"""

from __future__ import annotations

import dataclasses

from edgekd.core.artifacts import Network


@dataclasses.dataclass(frozen=True)
class Pause:
    """Where a run pauses: in the stage of this name, once `epochs` epochs of it are done in all."""

    stage: str
    epochs: int


class Paused(Exception):
    """A training has paused as asked. It is no error: its checkpoint is saved.

    `network`: the network as it is. Its weights are not the averaged ones that a finished training
    keeps: early in a training the average still holds much of the first weights, and says little
    (docs/measured/search.md). Its history has a row for each epoch so far, with figures of the
    averaged weights.
    """

    def __init__(self, network: Network) -> None:
        super().__init__(f"paused after {len(network.history)} epochs")
        self.network = network
