"""The .tflite that a student will become, made from random weights and random images.

It takes the route of a build without training, and without torch.export
(`edgekd.quantization.recording`), which would take half of the time. Shapes and operators do not
depend on the weights, so what `edgekd check` says about this file holds for the trained one.
"""

from __future__ import annotations

import torch
from torch import nn

from edgekd.core.artifacts import Json, Network, QuantNetwork
from edgekd.core.errors import EdgeKDError, UnsupportedNetwork
from edgekd.core.frames import Frame
from edgekd.export.onnx_export import float_form
from edgekd.export.tflite_convert import convert
from edgekd.networks import builders
from edgekd.quantization import qat_network, recording
from edgekd.settings.model_specs import ModelSpec
from edgekd.tflite.int8_rules import Int8Rules
from edgekd.training import threads

SEED = 0  # of the random weights and images; shapes do not depend on it


def untrained_tflite(
    spec: ModelSpec, px: int, classes: int, rules: Int8Rules, frame: Frame | None = None
) -> bytes:
    """The int8 .tflite of an untrained student at px x px, or behind a frame. Leaves torch's random
    state as it was.

    Raises UnsupportedNetwork, naming the network, the operator and the module, for a student
    without an int8 form, and UnknownName or RecipeError for one that cannot be built.
    """
    try:
        return _untrained_tflite(spec, px, classes, rules, frame)
    except UnsupportedNetwork as error:
        raise UnsupportedNetwork(f"{spec.name}: {error.what}", error.next_step) from error
    except (EdgeKDError, MemoryError):
        raise
    except Exception as error:  # a network's own code, and the graph of it, may raise anything
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        raise UnsupportedNetwork(
            f"{spec.name} cannot be converted to int8: {type(error).__name__}: {reason}",
            "take a student of the models that `edgekd models` lists",
        ) from error


def _untrained_tflite(
    spec: ModelSpec, px: int, classes: int, rules: Int8Rules, frame: Frame | None
) -> bytes:
    with torch.random.fork_rng(devices=[]), threads.alone():
        torch.manual_seed(SEED)
        options = {**spec.options, "num_classes": classes}
        model = builders.create(spec.arch, options)
        mean, std = builders.normalisation(spec, model)
        return _calibrated_on_noise(model, spec.arch, options, px, (mean, std), rules, frame)


def given_tflite(network: Network, rules: Int8Rules, frame: Frame | None = None) -> bytes:
    """The int8 .tflite of a network that a user gave, with ranges that one random image sets.

    Raises UnsupportedNetwork.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = builders.restore(network)
        grids = (network.mean, network.std)
        return _calibrated_on_noise(
            model, network.arch, network.options, network.px, grids, rules, frame
        )


def _calibrated_on_noise(
    model: nn.Module,
    arch: str,
    options: dict[str, Json],
    px: int,
    normalisation: tuple[list[float], list[float]],
    rules: Int8Rules,
    frame: Frame | None,
) -> bytes:
    mean, std = normalisation
    sides = [px, px] if frame is None else frame.sides
    network = qat_network.prepare(model, px, mean, std, rules, recording.record, frame)
    qat_network.calibrate(network, [torch.rand(1, len(mean), *sides) * 2 - 1])
    done = qat_network.finish(network)
    qnet = QuantNetwork(
        arch=arch,
        options=options,
        px=px,
        mean=mean,
        std=std,
        history=[],
        rules=rules.to_dict(),
        ranges=done.ranges,
        layers=done.layers,
        facts={},
        state=done.state,
    )
    return bytes(convert(float_form(qnet, network)).tflite)
