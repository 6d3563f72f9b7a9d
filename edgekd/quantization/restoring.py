"""A trained int8 network, made again from its artifact: learned ranges and weights, no pickle."""

from __future__ import annotations

import copy

import safetensors.torch
import torch
from torch import nn

from edgekd.core.artifacts import QuantNetwork, canonical_json
from edgekd.core.errors import WeightsError
from edgekd.core.frames import Frame
from edgekd.networks import builders
from edgekd.quantization import graphs
from edgekd.quantization.qat_network import BEFORE, QatNetwork, prepare, set_phase
from edgekd.tflite.int8_rules import Int8Rules, Range


def restore(qnet: QuantNetwork, model: nn.Module) -> QatNetwork:
    """The network of a QuantNetwork, in phase "frozen".

    `model`: the float network that its builder makes, with any weights. Raises WeightsError when
    the artifact belongs to another network.
    """
    rules = Int8Rules.from_dict(qnet.rules)
    frame = Frame.of(qnet.frame, qnet.px)
    return _loaded(prepare(model, qnet.px, qnet.mean, qnet.std, rules, frame=frame), qnet)


def rebuild(qnet: QuantNetwork) -> QatNetwork:
    """`restore`, with the network that the artifact's own builder makes.

    Capturing a network takes seconds, and several stages of a build restore the same one. The
    prepared network is therefore kept, and each caller gets a copy of its own.
    """
    about = _about(qnet)
    if about not in _PREPARED:
        rules = Int8Rules.from_dict(qnet.rules)
        model = builders.create(qnet.arch, qnet.options)
        frame = Frame.of(qnet.frame, qnet.px)
        _keep(about, prepare(model, qnet.px, qnet.mean, qnet.std, rules, frame=frame))
    return _loaded(copy.deepcopy(_PREPARED[about]), qnet)


def remember(network: QatNetwork, qnet: QuantNetwork) -> None:
    """Let `rebuild` take copies of a network that was just trained, instead of capturing it again.

    `qnet`: its artifact.
    """
    network.zero_grad(set_to_none=True)
    _keep(_about(qnet), network)


# Prepared networks, by what decides them as canonical JSON, the newest last. A build restores one
# network; two allow for a comparison.
_PREPARED: dict[bytes, QatNetwork] = {}
KEPT = 2


def _about(qnet: QuantNetwork) -> bytes:
    return canonical_json(
        {
            "arch": qnet.arch,
            "options": qnet.options,
            "px": qnet.px,
            "mean": qnet.mean,
            "std": qnet.std,
            "rules": qnet.rules,
            "frame": qnet.frame,
        }
    )


def _keep(about: bytes, network: QatNetwork) -> None:
    _PREPARED[about] = network
    for oldest in list(_PREPARED)[:-KEPT]:
        del _PREPARED[oldest]


def _loaded(network: QatNetwork, qnet: QuantNetwork) -> QatNetwork:
    """Put the learned ranges and weights into a prepared network. Raises WeightsError."""
    state = safetensors.torch.load(bytes(qnet.state))
    learned = {row["edge"]: Range(row["scale"], row["zero_point"]) for row in qnet.ranges}
    names = [layer.name for layer in network.layers]
    expected = {f"{name}.{part}" for name in names for part in ("weight", "bias", "scale")}
    expected |= {f"{edge}.constant" for edge in network.constants}
    known = {name for name in state if not name.endswith(BEFORE)}
    if learned.keys() != network.edges.keys() or known != expected:
        odd = sorted((learned.keys() ^ network.edges.keys()) | (known ^ expected))
        raise WeightsError(
            f"the trained int8 network of {qnet.arch!r} does not fit the network that is built "
            f"now; they differ in {odd[:4]}",
            "build again from the qat stage: the student's builder or its options have changed",
        )
    for name, value in learned.items():
        network.edge(name).set_range(value)
    held = {f"{edge}.constant": path for edge, path in network.constants.items()}
    for layer in network.layers:
        own = {f"{layer.name}.weight": layer.weight, f"{layer.name}.bias": layer.bias}
        held |= own
        for name, path in own.items():
            if f"{name}{BEFORE}" in state:
                network.before[path] = state[f"{name}{BEFORE}"]
    for key, path in held.items():
        parameter, trained = graphs.getattr_path(network.graph, path), state[key]
        if parameter.shape != trained.shape:
            raise WeightsError(
                f"{key} is {list(trained.shape)} in the artifact and {list(parameter.shape)} in "
                "the network",
                "build again from the qat stage",
            )
        with torch.no_grad():
            parameter.copy_(trained)
    set_phase(network, "frozen")
    return network.eval()
