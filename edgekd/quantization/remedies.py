"""Tries what could bring an int8 network nearer to its float student, and measures each remedy.

Ranges are changed one operator at a time and all together; training goes on for a few steps; and
the worst operators are left in float, which shows the most that replacing them could bring. All
remedies are measured on the same images. The build keeps none of them: each names the setting that
applies it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edgekd.core.context import Progress, silent
from edgekd.quantization import range_pinning
from edgekd.quantization.fakequant import PerChannelWeightFakeQuant
from edgekd.quantization.qat_network import QatNetwork, predict, set_phase
from edgekd.quantization.range_pinning import Seen
from edgekd.quantization.rerun import Floats, Rerun, Unit, affected
from edgekd.quantization.sensitivity import BATCH
from edgekd.quantization.sensitivity_record import RemedyKind
from edgekd.settings import range_pins
from edgekd.settings.recipe import QatConfig
from edgekd.tflite.int8_rules import Range
from edgekd.training.losses import label_losses

# Percentiles that are tried as ranges. 100 is minimum and maximum, where training moved the range.
PERCENTILES = (100.0, 99.99, 99.9, 99.0)
# Steps of further training: enough to see a direction, and a minute at 224 px on two cores.
TRIAL_STEPS = 20
# Significant digits of a percentile in a setting.
SHOWN_DIGITS = 4
ALL_OPS = "all ops"  # what a remedy changes that changes every operator


@dataclasses.dataclass(frozen=True)
class Case:
    """What remedies are tried on.

    `images`: uint8 [n, px, px, channels], not trained on. `calibration`: the normalized batches
    that the ranges started from; `more`: batches of other training images, may be empty. `config`:
    how the network was trained.
    """

    network: QatNetwork
    student: nn.Module
    images: npt.NDArray[np.uint8]
    calibration: Sequence[Tensor]
    more: Sequence[Tensor]
    config: QatConfig
    progress: Progress = silent
    seed: int = 0

    def pinned(self, name: str, percentile: float) -> str:
        """The setting that pins an edge and keeps what the recipe pins already."""
        wanted = range_pins.parse(self.config.pin) | {name: percentile}
        pins = ", ".join(f"{edge}={value:.{SHOWN_DIGITS}g}" for edge, value in wanted.items())
        return f'--set "qat.pin={pins}"'


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A remedy that was tried.

    `what`: the operator, or ALL_OPS. `text`: the remedy in words; `next_step`: the setting that
    applies it. `logits`: its answers on the measuring images, float32 [n, k]. `bound`: not a
    remedy, but the most that one of its kind could bring.
    """

    kind: RemedyKind
    what: str
    text: str
    next_step: str
    logits: Floats
    bound: bool = False


def candidates(case: Case, worst: Sequence[Unit], without: Mapping[str, Floats]) -> list[Candidate]:
    """Try every remedy. `without`: the answers with each of the worst operators in float.

    Changes the network: the last remedy trains it.
    """
    set_phase(case.network, "frozen")
    seen = range_pinning.observe(case.network, case.calibration, case.seed)
    count = sum(len(batch) for batch in case.calibration)
    found = ranges(case, worst, seen)
    text = f"Set all ranges anew from the {count} calibration images"
    found += every_range(case, seen, RemedyKind.CALIBRATE_AGAIN, text)
    if case.more:
        twice = count + sum(len(batch) for batch in case.more)
        wider = range_pinning.observe(case.network, [*case.calibration, *case.more], case.seed)
        text = f"Set all ranges anew from {twice} images"
        setting = f"--set data.calibration={twice} "
        found += every_range(case, wider, RemedyKind.MORE_CALIBRATION, text, setting)
    found += per_channel(case)
    found += replaced(worst, without)
    found.append(more_training(case))
    return found


def ranges(case: Case, worst: Sequence[Unit], seen: Mapping[str, Seen]) -> list[Candidate]:
    """Other ranges for each of the worst operators: percentiles on the calibration images."""
    trials = list(_trials(case.network, worst, seen))
    answers = _answers(case, trials)
    found = []
    for (unit, percentile, wanted), logits in zip(trials, answers, strict=True):
        ratio = wanted.scale / case.network.edge(unit.name).range.scale
        text = (
            f"Give {unit.op} {unit.name} a range {ratio:.2f} times as wide: "
            f"{_percentile(percentile)} of its values on the calibration images."
        )
        kind = RemedyKind.TIGHTER_RANGE if ratio < 1 else RemedyKind.WIDER_RANGE
        setting = case.pinned(unit.name, percentile)
        found.append(Candidate(kind, unit.name, text, setting, logits))
    return found


Trial = tuple[Unit, float, Range]  # the unit, the percentile, and the range that it gives


def _trials(
    network: QatNetwork, worst: Sequence[Unit], seen: Mapping[str, Seen]
) -> Iterator[Trial]:
    """Each range that differs from the present one and from those before it."""
    for unit in worst:
        known = {network.edge(unit.name).range}
        for percentile in () if unit.fixed else PERCENTILES:
            wanted = seen[unit.name].range(percentile)
            if wanted not in known:
                known.add(wanted)
                yield unit, percentile, wanted


def _answers(case: Case, trials: Sequence[Trial]) -> list[Floats]:
    """The logits [n, k] of each trial. Ranges are as before when it returns."""
    network, images = case.network, case.images
    rows: list[list[Floats]] = [[] for _ in trials]
    dirty = {unit.name: affected(network, _touched(network, unit)) for unit, _, _ in trials}
    for start in range(0, len(images) if trials else 0, BATCH):
        run = Rerun(network, images[start : start + BATCH])
        for number, (unit, _, wanted) in enumerate(trials):
            edge = network.edge(unit.name)
            before = edge.range
            edge.set_range(wanted)
            rows[number].append(run.after(dirty[unit.name]))
            edge.set_range(before)
        case.progress("other ranges", min(start + BATCH, len(images)), len(images))
    return [np.concatenate(parts) for parts in rows]


def _percentile(percentile: float) -> str:
    return "all" if percentile >= 100 else f"{percentile:.{SHOWN_DIGITS}g} %"


def _touched(network: QatNetwork, unit: Unit) -> list[str]:
    """The fake-quantizers that another range changes.

    These are the unit's own, and the weights of the layers on either side: the range bounds their
    scales.
    """
    edges = {unit.name, *unit.others}
    near = [
        layer.quantizer
        for layer in network.layers
        if layer.source in edges or layer.target in edges
    ]
    return [unit.range_path, *near]


@contextmanager
def _ranges_kept(network: QatNetwork) -> Iterator[None]:
    """Put every range back as it was when the block ends."""
    edges = [network.edge(name) for name in network.edges]
    before = [(edge.range, edge.fixed) for edge in edges]
    try:
        yield
    finally:
        for edge, (value, fixed) in zip(edges, before, strict=True):
            edge.set_range(value)
            edge.fixed = fixed


def every_range(
    case: Case, seen: Mapping[str, Seen], kind: RemedyKind, text: str, setting: str = ""
) -> list[Candidate]:
    """All learned ranges at each percentile of what was seen. The network is left as it was.

    `setting`: what the next step has to set before the pin.
    """
    found = []
    for number, percentile in enumerate(PERCENTILES, 1):
        with _ranges_kept(case.network):
            range_pinning.pin(case.network, {range_pins.EVERY: percentile}, seen)
            answers = predict(case.network, case.images)
        words = f"{text}: they hold {_percentile(percentile)} of the values."
        step = setting + case.pinned(range_pins.EVERY, percentile)
        found.append(Candidate(kind, ALL_OPS, words, step, answers))
        case.progress(kind, number, len(PERCENTILES))
    return found


def per_channel(case: Case) -> list[Candidate]:
    """Each layer whose weights share one scale, with a scale for each output channel."""
    found = []
    for layer in case.network.layers:
        quantizer = case.network.graph.get_submodule(layer.quantizer)
        assert isinstance(quantizer, PerChannelWeightFakeQuant)
        if quantizer.granularity != "per_tensor":
            continue
        quantizer.granularity = "per_channel"
        found.append(
            Candidate(
                RemedyKind.PER_CHANNEL_WEIGHTS,
                layer.name,
                f"Give each output channel of {layer.op} {layer.name} a scale of its own.",
                'classifier = "per_channel" under [rules] in the device profile, if the device '
                "takes it",
                predict(case.network, case.images),
            )
        )
        quantizer.granularity = "per_tensor"
    return found


def more_training(case: Case) -> Candidate:
    """Some more steps of the same training with frozen ranges. Changes the network."""
    network, batches = case.network, [*case.calibration, *case.more]
    optimiser = torch.optim.SGD(
        [p for p in network.parameters() if p.requires_grad],
        lr=case.config.lr,
        momentum=0.9,
        nesterov=True,
    )
    for step in range(TRIAL_STEPS):
        batch = batches[step % len(batches)]
        with torch.no_grad():
            taught = case.student(batch)
        optimiser.zero_grad()
        label_losses.kd(network(batch), taught, case.config.temperature).backward()
        optimiser.step()
        case.progress("trial steps of QAT", step + 1, TRIAL_STEPS)
    return Candidate(
        RemedyKind.MORE_QAT,
        ALL_OPS,
        f"Train on with int8 in the loop: {TRIAL_STEPS} more steps were tried.",
        f"--set qat.epochs={max(case.config.epochs * 2, 1)}",  # a conversion has trained for none
        predict(network, case.images),
    )


def replaced(worst: Sequence[Unit], without: Mapping[str, Floats]) -> list[Candidate]:
    """The worst operators left in float: the most that replacing them can bring."""
    return [
        Candidate(
            RemedyKind.ANOTHER_OP,
            unit.name,
            f"Replacing {unit.op} {unit.name} brings at most this: the int8 network without the "
            "rounding of this operator.",
            "take a student with another operator at this place (`edgekd models`), or a larger "
            "input_px or width",
            without[unit.name],
            bound=True,
        )
        for unit in worst
    ]
