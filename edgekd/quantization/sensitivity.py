"""Which op of a trained int8 network costs how much: each alone in int8, and all but each, on images it was not trained on.

Distances are Kullback-Leibler divergences of the answers from those of the same weights in float, so that they measure
rounding and nothing else. An op is one TFLite op with its weights, its bias and the range it writes; ops that share a
range are one unit. Only what follows an op is computed again, from values kept of the batch.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx

from edgekd.core.context import Checkpoint, Progress
from edgekd.evaluation import metrics
from edgekd.quantization.fakequant import BiasFakeQuant
from edgekd.quantization.graphs import Node, nodes_of
from edgekd.quantization.qat_network import QatNetwork, set_phase

BATCH = 8  # images whose values at every edge are kept; with 16, MobileNetV2 at 224 px took 2.8 GB of memory in all
SPLIT_OPS = 8  # of the worst ops it is measured, too, whether weights or range are to blame
MOSTLY = 2.0  # times the other part's divergence, for one part to be named

Floats = npt.NDArray[np.float32]
Values = dict[Node, Any]


@dataclasses.dataclass(frozen=True)
class Unit:
    """One op: `name` is its edge, `others` the edges that share its range; paths of its fake-quantisers."""

    name: str
    op: str
    others: tuple[str, ...]
    range_path: str
    weight_paths: tuple[str, ...]
    fixed: bool  # the range is the op's own (softmax) and not learned


def units(network: QatNetwork) -> list[Unit]:
    """The ops of a network in the order they run. The image input is none: its pixels are codes as they are."""
    sharing: dict[int, list[str]] = {}
    for name in network.edges:
        sharing.setdefault(id(network.edge(name)), []).append(name)
    found = []
    for names in sharing.values():
        if network.writers[names[0]] == "INPUT":
            continue  # pixels are codes already, and so is what keeps their range (a pad, a max pool)
        weights = tuple(layer.quantiser for layer in network.layers if layer.target in names)
        ops = list(dict.fromkeys(network.writers[name] for name in names))
        found.append(
            Unit(
                names[0],
                " + ".join(ops),
                tuple(names[1:]),
                network.edges[names[0]],
                weights,
                network.edge(names[0]).fixed is not None,
            )
        )
    return found


@contextmanager
def phase(network: QatNetwork, paths: Sequence[str], wanted: str) -> Iterator[None]:
    """Some fake-quantisers in another phase than the rest, for as long as the block runs."""
    modules: list[Any] = [network.graph.get_submodule(path) for path in paths]
    before = [module.phase for module in modules]
    for module in modules:
        module.phase = wanted
    try:
        yield
    finally:
        for module, old in zip(modules, before, strict=True):
            module.phase = old


class Rerun:
    """One batch through the graph, every value kept; then again with a change, computing only what follows it."""

    def __init__(self, network: QatNetwork, images: npt.NDArray[np.uint8]) -> None:
        """`images`: uint8 [n, px, px, channels]. The phases are those the network is in."""
        self.graph = network.graph
        self.pixels = network.pixels(
            torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
        )
        self.values: Values = {}
        self.logits = self._run(frozenset())

    def after(self, dirty: frozenset[Node]) -> Floats:
        """Logits float32 [n, k] when the nodes in `dirty` (closed under use: `affected`) are computed anew."""
        return self._run(dirty)

    @torch.inference_mode()
    def _run(self, dirty: frozenset[Node]) -> Floats:
        kept = {node: value for node, value in self.values.items() if node not in dirty}
        interpreter = fx.Interpreter(self.graph, garbage_collect_values=bool(self.values))
        result: Tensor = interpreter.run(self.pixels, initial_env=kept if self.values else None)
        if not self.values:
            self.values = dict(interpreter.env)
        return np.asarray(result.numpy(), np.float32).copy()


def affected(network: QatNetwork, paths: Sequence[str]) -> frozenset[Node]:
    """The nodes whose values depend on these fake-quantisers: their own, biases rounded with them, all that follows."""
    graph, modules = network.graph, {id(network.graph.get_submodule(path)) for path in paths}
    dirty: set[Node] = set()
    for node in nodes_of(graph.graph):
        if node.op == "call_module":
            module = graph.get_submodule(str(node.target))
            known = id(module) in modules or (
                isinstance(module, BiasFakeQuant)
                and any(id(part) in modules for part in module.layer)
            )
            if known:
                dirty.add(node)
        if node.op == "output" or any(source in dirty for source in node.all_input_nodes):
            dirty.add(node)
    return frozenset(dirty)


@dataclasses.dataclass(frozen=True)
class Runs:
    """Logits float32 of the whole in float and in int8 [n, k], and of each unit alone and of all but it [units, n, k]."""

    float_: Floats
    whole: Floats
    alone: Floats
    without: Floats


def measure(
    network: QatNetwork, images: npt.NDArray[np.uint8], progress: Progress, checkpoint: Checkpoint
) -> Runs:
    """Every unit alone in int8 and every unit alone in float. Resumes after the last whole batch; leaves phase "frozen".

    `images`: uint8 [n, px, px, channels].
    """
    found = units(network)
    paths = [(unit.range_path, *unit.weight_paths) for unit in found]
    dirty = [affected(network, path) for path in paths]
    parts = _resumed(checkpoint, len(found))
    starts = range(sum(len(part["whole"]) for part in parts), len(images), BATCH)
    total = 2 * len(found) * (len(parts) + len(starts))
    for start in starts:
        batch = images[start : start + BATCH]
        part: dict[str, Any] = {"alone": [], "without": []}
        for everything, one, key, whole in (
            ("float", "frozen", "alone", "float_"),
            ("frozen", "float", "without", "whole"),
        ):
            set_phase(network, everything)
            run = Rerun(network, batch)
            part[whole] = run.logits
            for number, path in enumerate(paths):
                with phase(network, path, one):
                    part[key].append(run.after(dirty[number]))
                done = 2 * len(found) * len(parts) + len(part["alone"]) + len(part["without"])
                progress("sensitivity", done, total)
        parts.append(
            {
                key: np.stack(value) if isinstance(value, list) else value
                for key, value in part.items()
            }
        )
        checkpoint.save(_pack(parts))
    set_phase(network, "frozen")
    return Runs(
        **{
            key: np.concatenate(
                [part[key] for part in parts], axis=1 if key in ("alone", "without") else 0
            )
            for key in ("float_", "whole", "alone", "without")
        }
    )


def _pack(parts: list[dict[str, Floats]]) -> bytes:
    buffer = io.BytesIO()
    named: dict[str, Any] = {
        f"{number}.{key}": value for number, part in enumerate(parts) for key, value in part.items()
    }
    np.savez(buffer, **named)
    return buffer.getvalue()


def _resumed(checkpoint: Checkpoint, count: int) -> list[dict[str, Floats]]:
    """The batches that an interrupted run had finished; none when the file is torn or of another list of units."""
    data = checkpoint.load()
    if not data:
        return []
    parts: dict[int, dict[str, Floats]] = {}
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            for name in stored.files:
                number, _, key = name.partition(".")
                parts.setdefault(int(number), {})[key] = stored[name]
    except Exception:  # numpy raises many types for a torn file; each means: start over
        return []
    whole = all(
        len(part["alone"]) == len(part["without"]) == count and len(part["whole"]) == BATCH
        for part in parts.values()
    )
    return [parts[number] for number in sorted(parts)] if whole else []


def blame(
    network: QatNetwork, images: npt.NDArray[np.uint8], chosen: Sequence[Unit], progress: Progress
) -> dict[str, dict[str, Floats]]:
    """{unit: {"weights": logits, "range": logits}}, each part of an op alone in int8; only for ops that have weights."""
    found: dict[str, dict[str, list[Floats]]] = {}
    weighted = [unit for unit in chosen if unit.weight_paths]
    set_phase(network, "float")
    for start in range(0, len(images) if weighted else 0, BATCH):
        run = Rerun(network, images[start : start + BATCH])
        for unit in weighted:
            for name, paths in (("weights", unit.weight_paths), ("range", (unit.range_path,))):
                with phase(network, paths, "frozen"):
                    found.setdefault(unit.name, {}).setdefault(name, []).append(
                        run.after(affected(network, paths))
                    )
        progress("weights or range", min(start + BATCH, len(images)), len(images))
    set_phase(network, "frozen")
    return {
        unit: {name: np.concatenate(rows) for name, rows in parts.items()}
        for unit, parts in found.items()
    }


def compare(
    logits: Floats, reference: Floats, labels: npt.NDArray[np.int64], seed: int
) -> dict[str, Any]:
    """How far answers lie from reference answers: KL in nats with its interval, changes of top-1 and AUC (shares)."""
    each = metrics.divergence(logits, reference, metrics.kind(labels))
    counts = metrics.resamples(labels, logits.shape[1], seed)
    low, high = np.quantile(counts @ each / len(labels), [0.025, 0.975])
    was, now = metrics.auc(reference, labels), metrics.auc(logits, labels)
    return {
        "kl": float(each.mean()),
        "kl_ci95": [float(low), float(high)],
        "top1": metrics.top1(logits, labels) - metrics.top1(reference, labels),
        "auc": None if was is None or now is None else now - was,
    }


def table(
    found: Sequence[Unit], runs: Runs, labels: npt.NDArray[np.int64], seed: int
) -> list[dict[str, Any]]:
    """One row a unit, the largest KL alone first; "rank" is the place by what leaving the op in float gives back."""
    whole = metrics.divergence(runs.whole, runs.float_, metrics.kind(labels)).mean()
    rows: list[dict[str, Any]] = []
    for number, unit in enumerate(found):
        rest = compare(runs.without[number], runs.float_, labels, seed)
        shares = [name for name in unit.others if name != unit.name]
        rows.append(
            {
                "name": unit.name,
                "op": unit.op,
                "shares_range_with": shares,
                "part": None,
                "alone": compare(runs.alone[number], runs.float_, labels, seed),
                "without": {
                    "kl": rest["kl"],
                    "kl_gained": float(whole - rest["kl"]),
                    "top1_gained": float(
                        metrics.top1(runs.without[number], labels)
                        - metrics.top1(runs.whole, labels)
                    ),
                },
            }
        )
    for place, row in enumerate(sorted(rows, key=lambda row: -row["without"]["kl_gained"]), 1):
        row["without"]["rank"] = place
    return sorted(rows, key=lambda row: -row["alone"]["kl"])
