"""The int8 training stage's own steps around the shared training loop: prepare, calibrate, freeze on time, finish."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgekd.artifacts import QuantNetwork
from edgekd.quantnet import QatNetwork, calibrate, finish, predict, prepare, restore, set_phase

__all__ = ["QatNetwork", "calibrate", "finish", "predict", "prepare", "quant_network", "restore", "set_phase", "step_hook"]

# Share of the steps in which ranges still follow the training. Ranges that move until the end leave the last weights
# tuned to ranges that are gone; torchvision's recipe freezes observers after half of its 8 epochs, from calibrated
# starts the ranges settle sooner.
OBSERVE_SHARE = 0.3


def step_hook(network: QatNetwork, total_steps: int, observe_share: float = OBSERVE_SHARE) -> Callable[[int], None]:
    """A callback for the training loop: called with the number of each step (0 first), it freezes the ranges on time."""
    last = int(total_steps * observe_share)

    def on_step(step: int) -> None:
        if step == last:
            set_phase(network, "frozen")

    return on_step


def quant_network(network: QatNetwork, *, arch: str, options: dict[str, Any], history: list[dict[str, Any]],
                  facts: dict[str, Any] | None = None) -> QuantNetwork:
    """The artifact of a trained network: ranges frozen, weight scales observed once more. `arch`, `options`: what
    rebuilds the float network that `prepare` was given."""
    done = finish(network)
    return QuantNetwork(arch=arch, options=options, px=network.px, mean=network.mean, std=network.std, history=history,
                        rules=network.rules.to_dict(), ranges=done.ranges, layers=done.layers, facts=facts or {},
                        state=done.state)
