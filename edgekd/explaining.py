"""What `edgekd report --why` does: the sensitivity run of a finished build, cached in its store, written into its report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekd import artifacts, recipe
from edgekd.artifacts import Sensitivity
from edgekd.context import Checkpoint, Progress
from edgekd.errors import ModelFileError
from edgekd.pipeline import Done, load, source_digest
from edgekd.published import finished, read_report
from edgekd.recipe import QatConfig
from edgekd.store import Store, facts_json

SCHEMA = "edgekd.why/1"
STAGE = "why"
VERSION = 1
PARENTS = ("data", "inputs", "distil", "qat")
# Validation images: a divergence that matters shows in them. A student of more than LARGE multiply-adds an image gets half
# as many, so that MobileNetV2 at 224 px (300 M) stays a matter of minutes on two cores.
IMAGES, FEWER_IMAGES, LARGE = 256, 128, 100e6
WORST = 5  # ops that remedies are tried on, by KL alone; and as many again by what they give back in float
GIVES_BACK = 3
NOTHING = 1e-3  # nats: probabilities then move by 2.2 points at most on average (Pinsker: sqrt(KL / 2))
TRAINING_SHARE = 2.0  # times the other divergence, for training or rounding to be called the larger


def float_stage(done: Mapping[str, Done]) -> str:
    """The stage whose float network QAT started from: "prune" where the student was pruned, else "distil"."""
    return "prune" if "prune" in done else "distil"


def key(done: Mapping[str, Done], config: QatConfig, seed: int) -> str:
    """The key of a build's sensitivity run."""
    parents = {name: done[name].entry.digest for name in (*PARENTS, float_stage(done))}
    plain = {"images": [IMAGES, FEWER_IMAGES, LARGE], "lr": config.lr, "temperature": config.temperature,
             "epochs": config.epochs, "pin": config.pin}
    return artifacts.stage_key(STAGE, VERSION, plain, parents, seed, source_digest("remedies"))


def known(store: Store, done: Mapping[str, Done], config: QatConfig, seed: int) -> dict[str, Any] | None:
    """The sensitivity run of these very artifacts, where one was made."""
    if any(name not in done for name in PARENTS):
        return None
    entry = store.find(STAGE, key(done, config, seed))
    return None if entry is None else entry.load(Sensitivity).body


def explain(folder: Path, shared: Path | None, progress: Progress) -> dict[str, Any]:
    """Make the run, or take it from the store, and write it into report.json and report.html. Returns the report.

    Raises ModelFileError when the folder holds no report, StoreError when its stages are not in the store.
    """
    from edgekd.examples import choose
    from edgekd.html_report import page

    body = read_report(folder)
    if not (folder / "recipe.toml").is_file():
        raise ModelFileError(f"{folder / 'recipe.toml'} does not exist", "name the out folder of an `edgekd build`")
    config, seed = recipe.load(folder / "recipe.toml").qat, int(body["seed"])
    store = Store(folder, shared)
    with store.lock():
        done = finished(folder, body, store, PARENTS)
        found = known(store, done, config, seed)
        if found is None:
            wanted, start = key(done, config, seed), time.perf_counter()
            found = run(done, config, seed, progress, store.checkpoint(STAGE, wanted))
            seconds = time.perf_counter() - start
            found = {**found, "seconds": round(seconds, 1)}
            store.put(STAGE, wanted, Sensitivity(found), seconds)
        body["why"] = found
        shown = choose(load(done, "data"), load(done, "inputs"), load(done, "evaluate"),
                       saliency=load(done, "saliency")) if "evaluate" in done else []
        store.publish("report.json", facts_json(body))
        store.publish("report.html", page(body, shown).encode())
    return body


def run(done: Mapping[str, Done], config: QatConfig, seed: int, progress: Progress, checkpoint: Checkpoint
        ) -> dict[str, Any]:
    """The sensitivity run as plain JSON (schema edgekd.why/1), without the time it took."""
    import numpy as np
    import torch

    from edgekd import data, networks, remedies, sensitivity, views
    from edgekd.inference import logits_of
    from edgekd.quantnet import restore

    dataset, inputs = load(done, "data"), load(done, "inputs")
    float_student, trained = load(done, float_stage(done)), load(done, "qat")
    channels = len(trained.mean)
    count = FEWER_IMAGES if float_student.facts["macs"] > LARGE else IMAGES
    picked = np.sort(np.random.default_rng(seed).permutation(len(inputs.rows["val"]))[:count])
    images = data.input_images(inputs, "val", channels)[picked]
    labels = data.labels(dataset, "val")[picked]
    network = restore(trained, networks.create(trained.arch, trained.options))
    student = networks.restore(float_student)

    def batches(of: Any) -> list[Any]:
        return [networks.normalised(of[start : start + config.batch], trained.mean, trained.std)
                for start in range(0, len(of), config.batch)]

    found = sensitivity.units(network)
    runs = sensitivity.measure(network, images, progress, checkpoint)
    ops = sensitivity.table(found, runs, labels, seed)
    by_name = {unit.name: (number, unit) for number, unit in enumerate(found)}
    told = [by_name[row["name"]][1] for row in ops[: sensitivity.SPLIT_OPS]]
    for name, parts in sensitivity.blame(network, images, told, progress).items():
        row = next(row for row in ops if row["name"] == name)
        kl = {part: sensitivity.compare(logits, runs.float_, labels, seed)["kl"] for part, logits in parts.items()}
        row["alone"] |= {f"{part}_kl": value for part, value in kl.items()}
        larger, smaller = sorted(kl, key=lambda part: -kl[part])
        row["part"] = larger if kl[larger] > sensitivity.MOSTLY * kl[smaller] else None

    giving = sorted(ops, key=lambda row: row["without"]["rank"])[:GIVES_BACK]
    names = list(dict.fromkeys(row["name"] for row in [*ops[:WORST], *giving]))
    worst = [by_name[name][1] for name in names]
    without = {name: runs.without[by_name[name][0]] for name in names}
    reference = logits_of(student, batches(images))
    calibration = data.input_images(inputs, "calibration", channels)
    spare = sorted(set(data.rows(dataset, "train").tolist()) - set(inputs.rows["calibration"]))
    more_rows = np.random.default_rng(seed).permutation(spare)[: len(calibration)].astype(np.int64)
    render = views.Renderer(data.pixels(dataset), trained.px, trained.mean, trained.std)
    more = [render.plain(rows) for rows in torch.from_numpy(np.sort(more_rows)).split(config.batch)] if spare else []
    case = remedies.Case(network, student, images, batches(calibration), more, config, progress, seed)
    best, tried = remedies.rank(remedies.candidates(case, worst, without), runs.whole, reference, labels, seed)
    whole = sensitivity.compare(runs.whole, runs.float_, labels, seed)
    training = sensitivity.compare(runs.float_, reference, labels, seed)
    return {"schema": SCHEMA, "split": "val", "images": len(images), "calibration": len(calibration), "seed": seed,
            "whole": whole, "training": training, "reading": reading(whole, training), "ops": ops, "remedies": best,
            "tried": len(tried), "candidates": tried}


def reading(whole: Mapping[str, Any], training: Mapping[str, Any]) -> str:
    """What the two divergences say of where to look: at int8's rounding or at the training with it."""
    told = (f"QAT's training moved the weights' answers {training['kl']:.3g} nats from the float student's, and rounding "
            f"them to int8 {whole['kl']:.3g} nats further")
    if max(training["kl"], whole["kl"]) < NOTHING:
        return f"{told}: both next to nothing, so what follows ranks small differences."
    if training["kl"] > TRAINING_SHARE * whole["kl"]:
        return f"{told}: look at the training (qat.lr, qat.epochs, qat.alpha) before the ops."
    if whole["kl"] > TRAINING_SHARE * training["kl"]:
        return f"{told}: look at the ops below."
    return f"{told}: neither stands out."
