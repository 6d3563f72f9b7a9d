"""Measures what unstructured sparsity saves on a device that runs dense int8 kernels, and costs.

    python -m tools.measure_sparsity --data DIR --teacher NAME@FILE --teacher-frozen \
        --shares 0.5 0.8 0.9

Builds a student whole, and once more with a share of its channels pruned, as tools/measure_pruning
does. Then the smallest weights of every 1x1 convolution and of the classifier of the distilled
student are set to zero, in as many steps as channels are cut, and trained on after each step for as
many epochs, with the zeros kept (Zhu and Gupta 2017, arXiv 1710.01878, but with uniform steps). The
first convolution and the depthwise ones stay dense, as in Elsen et al. 2019, arXiv 1911.09723.

A row's accuracy is that of the float student. Its file is the whole student's int8 file in which
the same share of the same layers' smallest weights is zero: size, deflated size, latency and memory
of a file depend on how many weights are zero, and not on how they were trained. The files are
measured on this machine in turn, with one thread, each in a process of its own.
"""

from __future__ import annotations

import dataclasses
import statistics
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from edgekd.bundle.archive import LEVEL
from edgekd.core.artifacts import Dataset, Knowledge, Network
from edgekd.core.context import MemoryCheckpoint, silent
from edgekd.core.store import Store
from edgekd.data import datasets
from edgekd.device.bench import bench
from edgekd.device.bench_settings import BenchSettings
from edgekd.device.transports import LocalTransport
from edgekd.evaluation.accuracy_record import Figures
from edgekd.networks import builders, weight_files
from edgekd.pipeline.jobs import Job, load
from edgekd.pipeline.runner import run
from edgekd.settings import device_profiles
from edgekd.tflite.flatbuffer import LiteGraph, LiteTensor, read, write
from edgekd.training import network_figures, views
from edgekd.training.lesson import Lesson, lesson
from edgekd.training.teacher_answers import TeacherAnswers
from tools import measure_pruning
from tools.compare_table import interval
from tools.measure_pruning import told


@dataclasses.dataclass(frozen=True)
class Taught:
    """A distilled student of one seed, and what it learned from."""

    job: Job
    dataset: Dataset
    student: Network
    lesson: Lesson

    def figures(self, net: nn.Module) -> Figures:
        """How well a network of the student's shape answers the test images."""
        network = dataclasses.replace(self.student, state=weight_files.to_bytes(net.state_dict()))
        hardware, source = self.job.hardware, self.job.source
        return network_figures.of_split(network, self.dataset, source, "test", hardware)


@dataclasses.dataclass(frozen=True)
class Measured:
    """What running a file takes: milliseconds (p50 of each round) and the process's peak in MiB."""

    p50: list[float]
    peak: list[float]


class Masked(nn.Module):
    """A parametrization that keeps the zeros of a weight."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


# --- the student ----------------------------------------------------------------------------------


def taught(job: Job, store: Store) -> Taught:
    """Distil the student, or take it from the store."""
    done = run(job, store, "distil")
    dataset, student = load(done, "data"), load(done, "distil")
    known: Knowledge | None = load(done, "knowledge") if "knowledge" in done else None
    answers = TeacherAnswers.of(dataset, known, job.recipe.views, job.recipe.seed)
    render = views.Renderer(datasets.pixels(dataset), student.px, student.mean, student.std)
    taps = builders.taps(job.student, builders.restore(student))
    return Taught(job, dataset, student, lesson(dataset, answers, job.recipe.distil, taps, render))


def is_wide(module: nn.Module) -> bool:
    """Whether a layer gets zeros: a 1x1 convolution over all channels, or the classifier."""
    if isinstance(module, nn.Conv2d):
        return module.kernel_size == (1, 1) and module.groups == 1
    return isinstance(module, nn.Linear)


def smallest(weight: Tensor, share: float) -> Tensor:
    """1.0 for the weights that stay, 0.0 for `share` of them with the smallest magnitude."""
    mask = torch.ones(weight.numel())
    mask[weight.abs().flatten().argsort()[: round(share * weight.numel())]] = 0
    return mask.view_as(weight)


def sparse(at: Taught, share: float) -> Figures:
    """Set weights to zero in the steps of `[prune]`, train after each, and judge the student.

    Training lasts as long as it does for a student whose channels are cut.
    """
    config, net = at.job.recipe.prune, builders.restore(at.student)
    layers = [module for module in net.modules() if is_wide(module)]
    for step in range(config.steps):
        for layer in layers:
            weight: Tensor = layer.weight.detach()  # type: ignore[assignment,operator]
            mask = smallest(weight, share * (step + 1) / config.steps)
            parametrize.register_parametrization(layer, "weight", Masked(mask))
        torch.manual_seed(at.lesson.seed + step)
        at.lesson.teach(
            net,
            at.lesson.fit_plan(config.epochs, config.lr),
            f"sparse {share:.0%}, {step + 1}/{config.steps}",
            MemoryCheckpoint(),
            silent,
            at.lesson.config.epochs + step * config.epochs,
        )
        for layer in layers:
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    return at.figures(net)


# --- the file -------------------------------------------------------------------------------------


def zeroed(file: bytes, share: float) -> bytes:
    """The file with `share` of the smallest int8 weights of each wide layer set to zero."""
    graph = read(file)
    for tensor in wide_weights(graph):
        assert tensor.data is not None  # a constant
        weights = tensor.data.astype(np.int8).ravel()
        order = np.argsort(np.abs(weights.astype(int)), kind="stable")
        weights[order[: round(share * weights.size)]] = 0
        buffer = graph.model.subgraphs[0].tensors[tensor.index].buffer
        graph.model.buffers[buffer].data = weights.tobytes()
    return write(graph.model)


def wide_weights(graph: LiteGraph) -> list[LiteTensor]:
    """The weights of 1x1 convolutions and of FULLY_CONNECTED, which are symmetric in int8."""
    found = []
    for op in graph.ops:
        if op.name in ("CONV_2D", "FULLY_CONNECTED"):
            weights = graph.tensors[op.inputs[1]]
            if len(weights.shape) == 2 or weights.shape[1:3] == (1, 1):
                found.append(weights)
    return found


def zeros(file: bytes) -> float:
    """The share of all int8 weights of convolutions and of the classifier that are zero."""
    graph = read(file)
    named = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    weights = [graph.tensors[op.inputs[1]].data for op in graph.ops if op.name in named]
    parts = [each for each in weights if each is not None]
    return sum(int((each == 0).sum()) for each in parts) / sum(each.size for each in parts)


def measured(files: Mapping[str, bytes], rounds: int, runs: int) -> dict[str, Measured]:
    """Measure files in turn. Each round goes through them in the other direction."""
    settings, profile = BenchSettings(threads=1, runs=runs), device_profiles.load_profile("host")
    found = {name: Measured([], []) for name in files}
    for number in range(rounds):
        for name in list(files)[:: -1 if number % 2 else 1]:
            result = bench(files[name], profile, LocalTransport(), settings=settings)
            p50, peak = result.latency_ms.p50, result.memory_kib.peak
            assert p50 is not None  # the runner always reports both here
            assert peak is not None
            found[name].p50.append(p50)
            found[name].peak.append(peak / 1024)
    return found


# --- the table ------------------------------------------------------------------------------------

HEAD = (
    "| | float top-1 | against whole | float AUC | zeros in the file | KiB | deflated, KiB "
    "| host p50, ms | against whole | peak MiB |\n|---|---|---|---|---|---|---|---|---|---|"
)


def table(
    figures: Mapping[str, Sequence[Figures]],
    files: Mapping[str, bytes],
    costs: Mapping[str, Measured],
) -> str:
    """The Markdown table, whose first row is the whole student."""
    whole = next(iter(figures))
    lines = [HEAD]
    for name, each in figures.items():
        file, cost = files[name], costs[name]
        gained = [a.top1 - b.top1 for a, b in zip(each, figures[whole], strict=True)]
        ratio = statistics.median(a / b for a, b in zip(cost.p50, costs[whole].p50, strict=True))
        auc = [one.auc for one in each if one.auc is not None]
        cells = (
            told([one.top1 for one in each], ".3f"),
            "" if name == whole else interval(gained),
            f"{statistics.mean(auc):.3f}" if auc else "",
            f"{zeros(file):.0%}",
            f"{len(file) / 1024:.0f}",
            f"{len(zlib.compress(file, LEVEL)) / 1024:.0f}",
            f"{statistics.median(cost.p50):.3f}",
            "" if name == whole else f"{ratio - 1:+.1%}",
            f"{statistics.median(cost.peak):.1f}",
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


WHOLE, LONGER, CHANNELS = "whole", "whole, trained on", "channels pruned"


def main() -> None:
    parser = measure_pruning.parser()
    parser.description = __doc__.partition("\n")[0] if __doc__ else None
    parser.add_argument("--shares", type=float, nargs="+", default=[0.5, 0.8, 0.9])
    asked = parser.parse_args()
    store, cuts = Store(asked.out / "store"), [f"prune.target_macs={asked.target_macs}"]
    sparse_rows = {f"{share:.0%} of the weights": share for share in asked.shares}
    figures: dict[str, list[Figures]] = {WHOLE: [], LONGER: []}
    figures |= {name: [] for name in sparse_rows} | {CHANNELS: []}
    for seed in asked.seeds:
        at = taught(measure_pruning.opened(asked, seed, []), store)
        figures[WHOLE].append(at.figures(builders.restore(at.student)))
        for name, share in {LONGER: 0.0, **sparse_rows}.items():
            figures[name].append(sparse(at, share))
        cut = load(run(measure_pruning.opened(asked, seed, cuts), store, "prune"), "prune")
        source, hardware = at.job.source, at.job.hardware
        figures[CHANNELS].append(
            network_figures.of_split(cut, at.dataset, source, "test", hardware)
        )
    first = asked.seeds[0]
    whole = measure_pruning.build(asked, "whole", first, []).tflite
    files = {WHOLE: whole, LONGER: whole}
    files |= {name: zeroed(whole, share) for name, share in sparse_rows.items()}
    files[CHANNELS] = measure_pruning.build(asked, "pruned", first, cuts).tflite
    costs = measured(
        {name: files[name] for name in files if name != LONGER}, asked.rounds, asked.runs
    )
    costs[LONGER] = costs[WHOLE]
    print(
        f"{asked.student} at {asked.px} px, seeds {asked.seeds}, {figures[WHOLE][0].n} test images"
    )
    print(table(figures, files, costs))


if __name__ == "__main__":
    main()
