"""The network that `convert.model` names: loaded, normalised, recorded, and kept for this process.

A job needs to know the network before its first stage (its size, its outputs, its digest), and a
stage needs it again.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import torch
from torch import nn

from edgekd.core.artifacts import Json, Network
from edgekd.core.errors import RecipeError, UnsupportedNetwork
from edgekd.networks import recorded_graph, weight_files
from edgekd.networks.foreign import loader, outputs
from edgekd.networks.foreign.forms import split_weights
from edgekd.networks.foreign.model import CONVERT, Asked, Foreign, Layout, Options
from edgekd.networks.foreign.preprocessings import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    INSIDE,
    Inside,
    Way,
    likely,
)
from edgekd.quantization import foreign_graph
from edgekd.settings.recipe import ConvertConfig

type FileState = tuple[int, int]  # time of the last change in ns, and size

# In the artifact's facts: the names of the outputs, and what stands for the model's contents.
NAMES, DIGEST = "classes", "digest"


def foreign(config: ConvertConfig, options: Options = CONVERT) -> Foreign:
    """The user's network as its form gives it. `options`: how the user writes what `config` says of
    it.
    """
    return _foreign(_alone(config), options, state(config.model))


def _alone(config: ConvertConfig) -> ConvertConfig:
    """The config without what does not change the network: what its images are measured against,
    and what else is made of it.
    """
    return dataclasses.replace(config, labels="auto", formats=())


@functools.lru_cache(maxsize=2)
def _foreign(config: ConvertConfig, options: Options, _state: FileState | None) -> Foreign:
    asked = Asked(config.px, Layout(config.layout), config.trust, options)
    return outputs.with_answers_alone(loader.load(config.model, asked), config.outputs, options)


def state(model: str) -> FileState | None:
    """What changes when the file that a model lies in, or its weights, is written again; None for a
    model that is no file. A process may load the same path twice, and not the same network.
    """
    name, weights = split_weights(model)
    try:
        found = Path(weights or name).expanduser().stat()
    except (OSError, RuntimeError):
        return None
    return found.st_mtime_ns, found.st_size


def states_normalisation(config: ConvertConfig, options: Options = CONVERT) -> bool:
    """Whether the user or the model says how pixels are normalised."""
    return bool(config.mean or config.std or foreign(config, options).mean)


def pixels(
    config: ConvertConfig,
    channels: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    options: Options = CONVERT,
) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel in RGB order, for pixels in 0..1: the user's,
    else the model's (`mean`, `std`), else ImageNet's.

    Raises RecipeError for another number of values than the network has channels.
    """
    default: tuple[tuple[float, ...], tuple[float, ...]] = (IMAGENET_MEAN, IMAGENET_STD)
    if channels == 1:
        default = ((sum(IMAGENET_MEAN) / 3,), (sum(IMAGENET_STD) / 3,))
    found = {"mean": config.mean or mean or default[0], "std": config.std or std or default[1]}
    for key, values in found.items():
        if len(values) not in (1, channels) or (key == "std" and min(values) <= 0):
            option = getattr(options, key)
            raise RecipeError(
                f"{option.format(','.join(f'{value:g}' for value in values))}: expected {channels} "
                f"numbers{' above 0' if key == 'std' else ''}, one for each channel of "
                f"{config.model}",
                f"for example {option.format(','.join(['0.5'] * channels))}",
            )
    mean, std = (values * (channels // len(values)) for values in found.values())
    if config.order == "bgr":
        mean, std = mean[::-1], std[::-1]
    return list(mean), list(std)


def network(config: ConvertConfig, options: Options = CONVERT) -> Network:
    """The user's network as an artifact. `options`: as in `foreign`.

    Raises what loading it raises, and UnsupportedNetwork for one that cannot be recorded.
    """
    return _network(_alone(config), options, state(config.model))


@functools.lru_cache(maxsize=2)
def _network(config: ConvertConfig, options: Options, _state: FileState | None) -> Network:
    found = foreign(config, options)
    mean, std = pixels(config, found.channels, found.mean, found.std, options)
    side = found.px
    graph = _recorded(found, config)
    did = _taken_out(graph, found, config, Way(tuple(mean), tuple(std)), options)
    if did is not None:
        mean, std = [*did.joined.mean], [*did.joined.std]
    count = _classes(found, graph, side)
    names: list[Json] = [*found.classes] if len(found.classes) == count else []
    return Network(
        arch=recorded_graph.ARCH,
        options={recorded_graph.GRAPH: recorded_graph.to_json(graph), "num_classes": count},
        px=side,
        mean=mean,
        std=std,
        history=[],
        facts={
            "name": found.name,
            "weights": found.origin,
            "licence": found.licence,
            DIGEST: found.digest,
            NAMES: names or [str(number) for number in range(count)],
            "params": sum(value.numel() for value in graph.parameters()),
            "macs": foreign_graph.macs(graph),
            **({} if did is None else {INSIDE: did.fact()}),
        },
        state=weight_files.to_bytes(graph.state_dict()),
    )


def _recorded(found: Foreign, config: ConvertConfig) -> torch.fx.GraphModule:
    """The network's graph. Raises UnsupportedNetwork that names the model."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        example = torch.randn(2, found.channels, found.px, found.px)
    try:
        graph = foreign_graph.recorded(found.module, example)
    except UnsupportedNetwork as error:
        what = error.what.removeprefix(type(found.module).__name__).strip()
        raise UnsupportedNetwork(
            f"{config.model}: {what}",
            "check that it runs as it is on such an image, and export it again; or give it in "
            "another form: .onnx, .pt2 or a Python function",
        ) from error
    return graph


def _taken_out(
    graph: torch.fx.GraphModule, found: Foreign, config: ConvertConfig, asked: Way, options: Options
) -> Inside | None:
    """Let the graph read RGB images without a normalisation of its own; the one that it had.

    Raises RecipeError where that does not fit what was asked for, and UnsupportedNetwork where the
    order of colours cannot be reversed.
    """
    taken = foreign_graph.take_out_normalisation(graph)
    if config.order == "bgr":
        try:
            foreign_graph.reverse_channels(graph)
        except UnsupportedNetwork as error:
            raise UnsupportedNetwork(f"{config.model}: {error.what}", error.next_step) from error
    if taken is None:
        return None
    gain, offset = (
        tuple((value.flip(0) if config.order == "bgr" else value).tolist()) for value in taken
    )
    if not (config.mean or config.std or found.mean):
        asked = likely(gain, offset)
    did = Inside(asked, gain, offset)
    if not did.plausible:
        raise RecipeError(
            f"{config.model} normalises its pixels itself, and behind "
            f"{asked.flags(options, config.order)} no pixel value would be zero to its first layer",
            f"use {likely(gain, offset).flags(options, config.order)}, which fits what it does",
        )
    return did


@torch.inference_mode()
def _classes(found: Foreign, graph: nn.Module, px: int) -> int:
    """The number of the network's classes. Raises UnsupportedNetwork for what is no classifier."""
    answer = graph(torch.zeros(1, found.channels, px, px))
    if answer.ndim != 2 or answer.shape[1] < 2:
        raise UnsupportedNetwork(
            f"{found.name} gives {list(answer.shape)} for one image; logits [1, classes] of two or "
            "more classes are expected",
            "give a classifier: for another network, export its part up to the logits",
        )
    if not bool(answer.isfinite().all()):
        raise UnsupportedNetwork(
            f"{found.name} answers a grey image with numbers that are not finite",
            "check its weights: one of them is probably NaN or infinite",
        )
    return int(answer.shape[1])


def classes(student: Network) -> list[str]:
    """The names of the outputs of a network that was given."""
    return [str(name) for name in student.facts[NAMES]]
