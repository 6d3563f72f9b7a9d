"""data, knowledge -> distil: a student trained on labels and on what the teacher says. Adapters are dropped at the end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgekd import data, metrics, networks, objective, tables, views
from edgekd.artifacts import Dataset, Knowledge, Network
from edgekd.asking import Oracle
from edgekd.context import Context
from edgekd.errors import RecipeError
from edgekd.inference import logits_of
from edgekd.models import ModelSpec
from edgekd.proposing import Corrector
from edgekd.recipe import DistilConfig, ViewsConfig
from edgekd.targets import Feed, arrays
from edgekd.terms import Setting
from edgekd.training import FitPlan, balanced, fit


def run(dataset: Dataset, knowledge: Knowledge | None, teacher: Network | None, *, config: DistilConfig, model: ModelSpec,
        view: ViewsConfig, px: int, weights_sha256: str, groups_sha256: str, asking: Mapping[str, Any] | None,
        context: Context) -> Network:
    """Train the student at px x px. With neither knowledge nor a teacher to ask it learns from the labels alone.

    `asking`: how the teacher itself is asked (config.answers "live" or "corrected"), in place of cached knowledge. Raises
    RecipeError for a loss or a mode that this data or this teacher does not allow.
    """
    classes, pixels = len(dataset.classes), data.pixels(dataset)
    oracle = Oracle(teacher, pixels, **asking) if asking is not None and teacher is not None else None
    said = arrays(knowledge) if knowledge is not None else {}
    labels = torch.from_numpy(data.labels(dataset))
    train = torch.tensor(knowledge.rows) if knowledge is not None else torch.from_numpy(data.rows(dataset, "train"))
    example = {name: value[:1] for name, value in oracle.ask(train[:1], views.draw(view, context.seed, 0, len(labels), train)
                                                             ).items()} if oracle else {n: v[0] for n, v in said.items()}
    if oracle and config.answers == "corrected":
        example = {"logits": example["logits"]}
    _check(config, view, knowledge, example)
    plan = objective.plan(config, example, classes)
    seed = context.seed + config.seed
    torch.manual_seed(seed)
    student, origin = networks.pretrained(model, config.weights, classes, model.options)
    mean, std = networks.normalisation(model, student)
    names, groups = tables.groups(Path(config.groups), dataset.images) if config.groups else ([], [])
    taps = networks.taps(model, student)
    at = Setting(
        student, taps, objective.shapes(student, taps, px, len(mean)), classes, "one", seed, mean, std,
        teacher={name: example[name].shape[1] for name in ("pooled", "grid") if name in example},
        signed="pooled" in example and bool((example["pooled"] < 0).any()),
        peer=lambda: _peer(model, config, classes, seed), groups=torch.tensor(groups) if names else None)
    withheld = config.labels == "withheld"
    shown = labels.clone()
    if withheld and said:
        shown[train] = said["logits"][0].float().argmax(1)  # balances the classes as the teacher sees them
    ask = oracle.ask if oracle and config.answers == "live" else None
    feed = Feed(views.Renderer(pixels, px, mean, std), train, shown, classes, view, context.seed, config.batch,
                config.balance, config.label_smoothing, said, config.seed, ask, withheld)
    class_weights = None
    if config.balance == "loss":
        by_row = balanced(shown[train], classes)
        class_weights = torch.stack([by_row[shown[train] == k][0] for k in range(classes)])
    corrector = Corrector(oracle, len(labels), classes, config.top_k) if oracle and config.answers == "corrected" else None
    distiller = objective.Objective(config, plan, at, class_weights, corrector)
    val = torch.from_numpy(data.rows(dataset, "val"))

    def evaluate(kept: nn.Module) -> dict[str, float]:
        answers = logits_of(kept, (feed.render.plain(rows) for rows in val.split(config.batch)))
        return metrics.quick(answers, labels[val].numpy())

    how = FitPlan(config.epochs, config.lr, config.weight_decay, config.warmup, config.schedule, config.ema,
                  config.optimiser)
    history = fit(distiller, student, feed.epoch, distiller.loss, how, what="distil", steps=feed.steps,
                  checkpoint=context.checkpoint, evaluate=evaluate, progress=context.progress)
    facts: dict[str, Any] = {"name": model.name, "weights": origin, "licence": model.licence, "losses": plan.weights(),
                             **networks.size(student, px, len(mean))}
    if plan.notes:
        facts["notes"] = plan.notes
    if knowledge is not None and knowledge.facts.get("source") == "log":
        facts["log"] = knowledge.facts
    if corrector is not None:
        facts["teacher_calls"], facts["views_shown"] = int(corrector.calls), int(corrector.shown)
    if names:
        facts["groups"] = {split: _by_group(student, feed.render, labels, torch.from_numpy(data.rows(dataset, split)),
                                            names, torch.tensor(groups)) for split in ("val", "test")}
    return Network(arch=model.arch, options={**model.options, "num_classes": classes}, px=px, mean=mean, std=std,
                   history=history, facts=facts, state=networks.to_bytes(student.state_dict()))


def _check(config: DistilConfig, view: ViewsConfig, knowledge: Knowledge | None, said: Mapping[str, Tensor]) -> None:
    """Raise RecipeError for modes that cannot go together."""
    if config.labels == "withheld" and not said:
        raise RecipeError('distil.labels = "withheld" needs a teacher whose answers stand in for the labels',
                          "name a teacher, or a log in distil.logs")
    if config.labels == "withheld" and config.answers == "corrected":
        raise RecipeError('distil.answers = "corrected" compares with labels that distil.labels withholds',
                          'use distil.answers = "cached" or "live"')
    logged = knowledge is not None and knowledge.facts.get("source") == "log"
    if view.mixup and (logged or config.answers == "corrected"):
        what = "a log" if logged else 'distil.answers = "corrected"'
        raise RecipeError(f"views.mixup shows mixed images, and {what} has answers about whole ones", "set views.mixup=0")


def _peer(model: ModelSpec, config: DistilConfig, classes: int, seed: int) -> nn.Module:
    """A second student, from other first weights; the stream of random numbers goes on as if it had not been made."""
    with torch.random.fork_rng():
        torch.manual_seed(seed + 2**31)
        return networks.pretrained(model, config.weights, classes, model.options)[0]


def _by_group(student: nn.Module, render: views.Renderer, labels: Tensor, rows: Tensor, names: list[str], groups: Tensor
              ) -> dict[str, Any]:
    """Top-1 of each group on some images, the lowest of them, and how far they lie apart."""
    answers = logits_of(student, (render.plain(part) for part in rows.split(64)))
    each: dict[str, dict[str, Any]] = {}
    for number, name in enumerate(names):
        inside = (groups[rows] == number).numpy()
        if inside.any():
            share = metrics.top1(answers[inside], labels[rows].numpy()[inside])
            each[name] = {"n": int(np.sum(inside)), "top1": share, "top1_ci95": list(metrics.wilson(share, int(inside.sum())))}
    shares = [row["top1"] for row in each.values()]
    return {"each": each, "worst": min(each, key=lambda name: each[name]["top1"]), "gap": max(shares) - min(shares)}
