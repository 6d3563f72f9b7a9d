"""Measures what each operator of a trained int8 network costs: alone in int8, and alone in float.

The cost is the Kullback-Leibler divergence of the answers from those of the same weights in float,
on images that the network was not trained on. So it measures rounding and nothing else.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgekd.core.context import Checkpoint, Progress
from edgekd.evaluation import metrics
from edgekd.quantization.qat_network import QatNetwork, set_phase
from edgekd.quantization.rerun import Rerun, Unit, affected, phase, units
from edgekd.quantization.sensitivity_record import (
    Alone,
    Divergence,
    OperatorSensitivity,
    Part,
    Without,
)

# Images in a batch whose values are kept at every edge. With 16, MobileNetV2 at 224 px took 2.8 GB.
BATCH = 8
# The worst operators for which weights and range are also measured apart.
SPLIT_OPS = 8
# One part is named when its divergence is at least this many times the other's.
MOSTLY = 2.0

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Runs:
    """Logits, float32: `float_` and `whole` (all in float, all in int8) are [n, k].

    `alone` (one unit in int8) and `without` (one unit in float) are [units, n, k].
    """

    float_: Floats
    whole: Floats
    alone: Floats
    without: Floats


FIELDS = tuple(field.name for field in dataclasses.fields(Runs))


def measure(
    network: QatNetwork, images: npt.NDArray[np.uint8], progress: Progress, checkpoint: Checkpoint
) -> Runs:
    """Run every unit alone in int8 and alone in float on images uint8 [n, px, px, channels].

    An interrupted run goes on after its last whole batch. Leaves the network in phase "frozen".
    """
    found = units(network)
    dirty = [affected(network, unit.paths) for unit in found]
    parts = _resumed(checkpoint, len(found))
    starts = range(sum(len(part.whole) for part in parts), len(images), BATCH)
    total = 2 * len(found) * (len(parts) + len(starts))

    def one_by_one(batch: npt.NDArray[np.uint8], rest: str, one: str) -> tuple[Floats, Floats]:
        """(logits with all in phase `rest` [n, k], with each unit in turn in phase `one`)."""
        set_phase(network, rest)
        run = Rerun(network, batch)
        rows: list[Floats] = []
        for number, unit in enumerate(found):
            with phase(network, unit.paths, one):
                rows.append(run.after(dirty[number]))
            before = 2 * len(parts) + (one == "float")
            progress("sensitivity", before * len(found) + number + 1, total)
        return run.logits, np.stack(rows)

    for start in starts:
        batch = images[start : start + BATCH]
        float_, alone = one_by_one(batch, rest="float", one="frozen")
        whole, without = one_by_one(batch, rest="frozen", one="float")
        parts.append(Runs(float_, whole, alone, without))
        checkpoint.save(_pack(parts))
    set_phase(network, "frozen")
    return Runs(
        np.concatenate([part.float_ for part in parts]),
        np.concatenate([part.whole for part in parts]),
        np.concatenate([part.alone for part in parts], axis=1),
        np.concatenate([part.without for part in parts], axis=1),
    )


def _pack(parts: Sequence[Runs]) -> bytes:
    """The batches as one .npz with arrays "NUMBER.FIELD"."""
    buffer = io.BytesIO()
    arrays = {
        f"{number}.{field}": getattr(part, field)
        for number, part in enumerate(parts)
        for field in FIELDS
    }
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _resumed(checkpoint: Checkpoint, count: int) -> list[Runs]:
    """The batches of an interrupted run with `count` units.

    Empty when the file is damaged or was written for another list of units.
    """
    data = checkpoint.load()
    if not data:
        return []
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            batches = len(stored.files) // len(FIELDS)
            parts = [
                Runs(*(stored[f"{number}.{field}"] for field in FIELDS))
                for number in range(batches)
            ]
    except Exception:  # numpy raises many types for a damaged file; each means: start over
        return []
    fits = all(
        len(part.alone) == len(part.without) == count and len(part.whole) == BATCH for part in parts
    )
    return parts if fits else []


def blame(
    network: QatNetwork, images: npt.NDArray[np.uint8], chosen: Sequence[Unit], progress: Progress
) -> dict[str, dict[Part, Floats]]:
    """Logits [n, k] with only the weights, and with only the range, of each unit in int8.

    Keys: the unit's name, then the part. Units without weights are left out. Leaves phase "frozen".
    """
    found: dict[str, dict[Part, list[Floats]]] = {}
    weighted = [unit for unit in chosen if unit.weight_paths]
    set_phase(network, "float")
    for start in range(0, len(images) if weighted else 0, BATCH):
        run = Rerun(network, images[start : start + BATCH])
        for unit in weighted:
            parts: dict[Part, tuple[str, ...]] = {
                "weights": unit.weight_paths,
                "range": (unit.range_path,),
            }
            for part, paths in parts.items():
                with phase(network, paths, "frozen"):
                    rows = found.setdefault(unit.name, {}).setdefault(part, [])
                    rows.append(run.after(affected(network, paths)))
        progress("weights or range", min(start + BATCH, len(images)), len(images))
    set_phase(network, "frozen")
    return {
        unit: {part: np.concatenate(rows) for part, rows in parts.items()}
        for unit, parts in found.items()
    }


def compare(logits: Floats, reference: Floats, labels: Labels, seed: int) -> Divergence:
    """How far answers, float32 [n, k], lie from reference answers of the same shape."""
    each = metrics.divergence(logits, reference, metrics.kind(labels))
    counts = metrics.resamples(metrics.drawn_together(labels), logits.shape[1], seed)
    low, high = np.quantile(counts @ each / len(labels), [0.025, 0.975])
    return Divergence(
        kl=float(each.mean()),
        kl_ci95=[float(low), float(high)],
        top1=float(metrics.top1(logits, labels) - metrics.top1(reference, labels)),
        auc=auc_change(reference, logits, labels),
    )


def auc_change(before: Floats, after: Floats, labels: Labels) -> float | None:
    """The change of the AUC, None where one of the two is not defined."""
    was, now = metrics.auc(before, labels), metrics.auc(after, labels)
    return None if was is None or now is None else float(now - was)


def table(
    found: Sequence[Unit], runs: Runs, labels: Labels, seed: int
) -> list[OperatorSensitivity]:
    """One row for each unit, the largest divergence alone in int8 first."""
    each = metrics.divergence(runs.whole, runs.float_, metrics.kind(labels))
    rest = [compare(logits, runs.float_, labels, seed) for logits in runs.without]
    gained = [float(each.mean() - left.kl) for left in rest]
    order = sorted(range(len(found)), key=lambda number: -gained[number])
    ranks = {number: rank for rank, number in enumerate(order, 1)}
    whole_top1 = metrics.top1(runs.whole, labels)
    rows = []
    for number, unit in enumerate(found):
        alone = compare(runs.alone[number], runs.float_, labels, seed)
        without = Without(
            kl=rest[number].kl,
            kl_gained=gained[number],
            top1_gained=float(metrics.top1(runs.without[number], labels) - whole_top1),
            rank=ranks[number],
        )
        rows.append(
            OperatorSensitivity(
                name=unit.name,
                op=unit.op,
                shares_range_with=list(unit.others),
                part=None,
                alone=Alone(alone.kl, alone.kl_ci95, alone.top1, alone.auc),
                without=without,
            )
        )
    return sorted(rows, key=lambda row: -row.alone.kl)


def with_parts(
    row: OperatorSensitivity, parts: dict[Part, Floats], runs: Runs, labels: Labels, seed: int
) -> OperatorSensitivity:
    """The row with the divergence of each part (`blame`), and the part that costs clearly more."""
    kl = {part: compare(logits, runs.float_, labels, seed).kl for part, logits in parts.items()}
    alone = row.alone
    larger, smaller = sorted(kl, key=lambda part: -kl[part])
    return OperatorSensitivity(
        name=row.name,
        op=row.op,
        shares_range_with=row.shares_range_with,
        part=larger if kl[larger] > MOSTLY * kl[smaller] else None,
        alone=Alone(alone.kl, alone.kl_ci95, alone.top1, alone.auc, kl["weights"], kl["range"]),
        without=row.without,
    )
