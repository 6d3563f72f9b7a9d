"""What would bring an int8 network nearer to its float student: candidates, each tried and measured on the same images.

Ranges are changed one op at a time and all together, training goes on for a few steps, and the worst ops are left in
float to tell what replacing them could bring at most. Nothing here is kept: a remedy names the setting that does it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edgekd.core.context import Progress, silent
from edgekd.evaluation import metrics
from edgekd.quantization import range_pinning
from edgekd.quantization.qat_network import QatNetwork, predict, set_phase
from edgekd.quantization.range_pinning import Seen
from edgekd.quantization.sensitivity import BATCH, Floats, Rerun, Unit, affected
from edgekd.settings.recipe import QatConfig
from edgekd.tflite.int8_rules import Range
from edgekd.training.losses import label_losses

PERCENTILES = (
    100.0,
    99.99,
    99.9,
    99.0,
)  # 100: minimum and maximum, where training had moved the range
TRIAL_STEPS = 20  # of further training: enough to see a direction, a minute at 224 px on two cores
MOST = 3  # remedies told
SHOWN_DIGITS = 4  # significant digits of a percentile in a setting


@dataclasses.dataclass(frozen=True)
class Case:
    """What remedies are tried on.

    `images`: uint8 [n, px, px, channels], not trained on; `calibration` and `more`: normalised batches of training images,
    those that the ranges started from and others; `config`: how the network was trained.
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
        """The setting that pins an edge, beside what the recipe pins already."""
        wanted = range_pinning.parse(self.config.pin) | {name: percentile}
        return f'--set "qat.pin={", ".join(f"{edge}={value:.{SHOWN_DIGITS}g}" for edge, value in wanted.items())}"'


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A remedy that was tried: its answers on the measuring images, and what a person does to have it."""

    kind: str
    what: str  # the op, or "all ops"; one remedy of a kind and a what is told, the best
    text: str
    next_step: str
    logits: Floats
    bound: bool = False  # not a remedy itself but the most that one could bring


def ranges(case: Case, worst: Sequence[Unit], seen: Mapping[str, Seen]) -> list[Candidate]:
    """Another range for each of the worst ops in turn: percentiles of what passes it on the calibration images."""
    network, images = case.network, case.images
    trials: list[tuple[Unit, float, Range]] = []
    for unit in worst:
        known = {network.edge(unit.name).range}
        for percentile in () if unit.fixed else PERCENTILES:
            wanted = seen[unit.name].range(percentile)
            if wanted not in known:
                known.add(wanted)
                trials.append((unit, percentile, wanted))
    answers: list[list[Floats]] = [[] for _ in trials]
    dirty = {unit.name: affected(network, _touched(network, unit)) for unit in worst}
    for start in range(0, len(images) if trials else 0, BATCH):
        run = Rerun(network, images[start : start + BATCH])
        for number, (unit, _, wanted) in enumerate(trials):
            edge = network.edge(unit.name)
            before = edge.range
            edge.set_range(wanted)
            answers[number].append(run.after(dirty[unit.name]))
            edge.set_range(before)
        case.progress("other ranges", min(start + BATCH, len(images)), len(images))
    found = []
    for (unit, percentile, wanted), rows in zip(trials, answers, strict=True):
        ratio = wanted.scale / network.edge(unit.name).range.scale
        text = (
            f"Give {unit.op} {unit.name} a range {ratio:.2f} times as wide: {_percentile(percentile)} of its values on "
            "the calibration images."
        )
        found.append(
            Candidate(
                "tighter range" if ratio < 1 else "wider range",
                unit.name,
                text,
                case.pinned(unit.name, percentile),
                np.concatenate(rows),
            )
        )
    return found


def _percentile(percentile: float) -> str:
    return "all" if percentile >= 100 else f"{percentile:.{SHOWN_DIGITS}g} %"


def _touched(network: QatNetwork, unit: Unit) -> list[str]:
    """Fake-quantisers that a new range changes: its own, and weights of the layers on either side (bounds of scales)."""
    edges = {unit.name, *unit.others}
    return [
        unit.range_path,
        *(
            layer.quantiser
            for layer in network.layers
            if layer.source in edges or layer.target in edges
        ),
    ]


@contextmanager
def _ranges_kept(network: QatNetwork) -> Iterator[None]:
    """Whatever the block does to the ranges, they are as before when it ends."""
    edges = [network.edge(name) for name in network.edges]
    before = [(edge.range, edge.fixed) for edge in edges]
    try:
        yield
    finally:
        for edge, (value, fixed) in zip(edges, before, strict=True):
            edge.set_range(value)
            edge.fixed = fixed


def every_range(
    case: Case, seen: Mapping[str, Seen], kind: str, text: str, extra: str = ""
) -> list[Candidate]:
    """All learned ranges from the calibration images, at each percentile. The network is left as it was."""
    found = []
    for number, percentile in enumerate(PERCENTILES, 1):
        with _ranges_kept(case.network):
            range_pinning.pin(case.network, {range_pinning.EVERY: percentile}, seen)
            answers = predict(case.network, case.images)
        found.append(
            Candidate(
                kind,
                "all ops",
                f"{text}: they hold {_percentile(percentile)} of the values.",
                extra + case.pinned(range_pinning.EVERY, percentile),
                answers,
            )
        )
        case.progress(kind, number, len(PERCENTILES))
    return found


def per_channel(case: Case) -> list[Candidate]:
    """Each layer whose weights share one scale, with a scale a channel."""
    found = []
    for layer in case.network.layers:
        quantiser: Any = case.network.graph.get_submodule(layer.quantiser)
        if quantiser.granularity != "per_tensor":
            continue
        quantiser.granularity = "per_channel"
        found.append(
            Candidate(
                "per-channel weights",
                layer.name,
                f"Give each output channel of {layer.op} {layer.name} a scale of its own.",
                'classifier = "per_channel" under [rules] in the device profile, if the device takes it',
                predict(case.network, case.images),
            )
        )
        quantiser.granularity = "per_tensor"
    return found


def more_training(case: Case) -> Candidate:
    """A few further steps of the same training on images of the training split, ranges frozen. Changes the network."""
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
            said = case.student(batch)
        optimiser.zero_grad()
        label_losses.kd(network(batch), said, case.config.temperature).backward()
        optimiser.step()
        case.progress("trial steps of QAT", step + 1, TRIAL_STEPS)
    return Candidate(
        "more QAT",
        "all ops",
        f"Train on with int8 in the loop: {TRIAL_STEPS} further steps were tried.",
        f"--set qat.epochs={case.config.epochs * 2}",
        predict(network, case.images),
    )


def replaced(worst: Sequence[Unit], without: Mapping[str, Floats]) -> list[Candidate]:
    """The worst ops left in float: what an op that rounds better, or another activation in its place, brings at most."""
    return [
        Candidate(
            "another op",
            unit.name,
            f"Without the rounding of {unit.op} {unit.name} int8 would lie this near: "
            "replacing the op brings at most that.",
            "take a student with another op at this place (`edgekd models`), or a larger input_px or width",
            without[unit.name],
            bound=True,
        )
        for unit in worst
    ]


def rank(
    candidates: Sequence[Candidate],
    before: Floats,
    reference: Floats,
    labels: npt.NDArray[np.int64],
    seed: int,
    most: int = MOST,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(the best `most`, all that were tried), by KL to `reference`, the float student's answers.

    Those whose gain's paired 95 % interval leaves zero out ("sure") come first; what gains nothing is not told. One for
    an op, and one for a kind that changes all; a bound at most, where there are fewer real remedies than `most`.
    """
    kind = metrics.kind(labels)
    each = metrics.divergence(before, reference, kind)
    counts = metrics.resamples(labels, before.shape[1], seed)
    rows: list[dict[str, Any]] = []
    for candidate in candidates:
        gain = each - metrics.divergence(candidate.logits, reference, kind)
        low, high = np.quantile(counts @ gain / len(labels), [0.025, 0.975])
        rows.append(
            {
                "kind": candidate.kind,
                "what": candidate.what,
                "text": candidate.text,
                "next_step": candidate.next_step,
                "bound": candidate.bound,
                "kl_before": float(each.mean()),
                "kl_after": float(each.mean() - gain.mean()),
                "kl_gain_ci95": [float(low), float(high)],
                "sure": bool(low > 0),
                "top1": metrics.top1(candidate.logits, labels) - metrics.top1(before, labels),
                "auc": _auc_change(before, candidate.logits, labels),
            }
        )
    rows.sort(key=lambda row: (not row["sure"], row["kl_after"], row["what"]))
    good: dict[tuple[bool, str], dict[str, Any]] = {}
    for row in rows:
        if row["kl_after"] < row["kl_before"]:
            good.setdefault(
                (row["bound"], row["what"] if row["what"] != "all ops" else row["kind"]), row
            )
    real = [row for row in good.values() if not row["bound"]]
    bounds = [row for row in good.values() if row["bound"] and row["sure"]]
    return [*real[:most], *bounds[: max(0, min(1, most - len(real)))]], rows


def _auc_change(before: Floats, after: Floats, labels: npt.NDArray[np.int64]) -> float | None:
    was, now = metrics.auc(before, labels), metrics.auc(after, labels)
    return None if was is None or now is None else now - was


def candidates(case: Case, worst: Sequence[Unit], without: Mapping[str, Floats]) -> list[Candidate]:
    """Everything that is tried. `without`: the answers with each of the worst ops in float. Changes the network."""
    set_phase(case.network, "frozen")
    seen = range_pinning.observe(case.network, case.calibration, case.seed)
    count = sum(len(batch) for batch in case.calibration)
    found = ranges(case, worst, seen)
    found += every_range(
        case, seen, "calibrate again", f"Set all ranges anew from the {count} calibration images"
    )
    if case.more:
        twice = count + sum(len(batch) for batch in case.more)
        wider = range_pinning.observe(case.network, [*case.calibration, *case.more], case.seed)
        found += every_range(
            case,
            wider,
            "more calibration",
            f"Set all ranges anew from {twice} images",
            f"--set data.calibration={twice} ",
        )
    found += per_channel(case)
    found += replaced(worst, without)
    found.append(more_training(case))  # last: it changes the weights
    return found
