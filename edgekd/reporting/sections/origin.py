"""The sections on what the build was made from: data, networks, training and stages."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from edgekd.core.records import UnsetType, present
from edgekd.reporting import charts, pretraining, pruning
from edgekd.reporting import text as fmt
from edgekd.reporting.network_record import EpochRow, NetworkBlock
from edgekd.reporting.report_record import DataBlock, Report, StageBlock
from edgekd.settings.teacher_settings import AS_IT_IS

TRAINED = {
    "teacher": "Teacher",
    "pretrain": "Student (features, without labels)",
    "distil": "Student (distillation)",
    "prune": "Pruned student",
    "qat": "QAT",
}
SPLITS = ("train", "val", "test")
COUNT_ROWS = 40  # classes whose images are counted on the page; report.json has all
DIGEST_LETTERS = 12  # of a key or digest: enough to tell two apart


@dataclasses.dataclass(frozen=True)
class Column:
    """A figure of each epoch: its head in the table, and how an epoch states it."""

    name: str
    read: Callable[[EpochRow], float | UnsetType]


LOSS = Column("loss", lambda row: row.loss)
TOP1 = Column("top-1", lambda row: row.top1)
AUC = Column("AUC", lambda row: row.auc)
COSINE = Column("cosine", lambda row: row.cosine)
COLUMNS = (LOSS, TOP1, AUC, COSINE, Column("cut", lambda row: row.cut))


@dataclasses.dataclass(frozen=True)
class LegendLine:
    """What a line of a chart stands for, and its last value."""

    name: str
    style: str
    end: str


@dataclasses.dataclass(frozen=True)
class EpochLine:
    """One row of the table of epochs."""

    epoch: int
    figures: list[str]


@dataclasses.dataclass(frozen=True)
class TrainingView:
    """One stage's training. `told`: a sentence about it, or "". `loss` and `scores` are SVG, or ""
    where there is nothing to draw.
    """

    name: str
    epochs: str
    told: str
    loss: str
    loss_end: str
    scores: str
    legend: list[LegendLine]
    columns: list[str]
    rows: list[EpochLine]


@dataclasses.dataclass(frozen=True)
class NetworkLine:
    """One network's size and origin. `worth`: what trained weights would be worth to it, or ""."""

    role: str
    arch: str
    params: str
    macs: str
    input: str
    weights: str
    licence: str
    worth: str


@dataclasses.dataclass(frozen=True)
class ClassLine:
    """Images of one class in each split."""

    name: str
    counts: list[str]


@dataclasses.dataclass(frozen=True)
class DataView:
    """The data set. `more`: classes that are not shown."""

    name: str
    synthetic: bool
    rows: list[ClassLine]
    more: int
    totals: list[str]
    facts: list[tuple[str, str]]
    warnings: list[str]


@dataclasses.dataclass(frozen=True)
class StageLine:
    """One stage of the build."""

    name: str
    seconds: str
    device: str
    cached: bool
    key: str
    short_key: str
    digest: str
    short_digest: str


def training(report: Report) -> list[TrainingView]:
    """Each trained network's figures by epoch."""
    about = {"pretrain": pretraining.sentence(report), "prune": pruning.sentence(report)}
    return [
        _training(TRAINED.get(stage, stage), history, about.get(stage, ""))
        for stage, history in report.training.items()
        if history
    ]


def _training(name: str, history: list[EpochRow], about: str) -> TrainingView:
    first, last = history[0], history[-1]
    scores = [
        line
        for line in (_line(TOP1, history, "first"), _line(AUC, history, "second"))
        if line.points
    ]
    told = (
        f"{name}, loss: {fmt.number(first.loss)} after epoch {first.epoch}, "
        f"{fmt.number(last.loss)} after epoch {last.epoch}"
    )
    ends = ", ".join(
        f"{line.name} {line.points[0][1]:.1%} after epoch {line.points[0][0]:g}, "
        f"{line.points[-1][1]:.1%} after epoch {line.points[-1][0]:g}"
        for line in scores
    )
    columns = [
        column
        for column in COLUMNS
        if any(not isinstance(column.read(row), UnsetType) for row in history)
    ]
    return TrainingView(
        name=name,
        epochs=fmt.plural(len(history), "epoch"),
        told=about,
        loss=charts.lines([_line(LOSS, history, "first")], told),
        loss_end=fmt.number(last.loss),
        scores=charts.lines(scores, f"{name}: {ends}", shares=True),
        legend=[LegendLine(line.name, line.style, _end(line)) for line in scores],
        columns=[column.name for column in columns],
        rows=[
            EpochLine(row.epoch, [fmt.cell(present(column.read(row))) for column in columns])
            for row in history
        ],
    )


def _line(column: Column, history: list[EpochRow], style: str) -> charts.Line:
    points = [
        (float(row.epoch), value)
        for row in history
        if not isinstance(value := column.read(row), UnsetType)
    ]
    return charts.Line(column.name, points, style)


def _end(line: charts.Line) -> str:
    value = line.points[-1][1]
    return fmt.number(value) if line.name == AUC.name else fmt.percent(value)


def networks(report: Report) -> list[NetworkLine]:
    """Each network's size and origin."""
    return [
        NetworkLine(
            role=role,
            arch=network.arch,
            params=fmt.large(network.params),
            macs=fmt.large(network.macs),
            input=" × ".join(str(side) for side in network.input),
            weights=_weights(network),
            licence=network.licence or "not stated",
            worth=present(network.trained_weights) or "",
        )
        for role, network in report.models.items()
    ]


def _weights(network: NetworkBlock) -> str:
    """Where the weights came from, and the settings that were chosen by the build itself."""
    told = [present(network.first_weights) or network.weights]
    if network.mode == AS_IT_IS:
        told.append("used as it is")
    chosen = {"lr": network.lr, "batch": network.batch, "head decay": network.head_decay}
    for name, value in chosen.items():
        if not isinstance(value, UnsetType):
            told.append(f"{name} {value:g}")
    return ", ".join(told)


def data(report: Report) -> DataView:
    """Images by class and split, and what is unusual about them."""
    block = report.data
    rows = [
        ClassLine(name, [fmt.whole(block.counts.get(split, {}).get(name, 0)) for split in SPLITS])
        for name in block.classes
    ]
    return DataView(
        name=block.name,
        synthetic=block.synthetic,
        rows=rows[:COUNT_ROWS],
        more=max(0, len(rows) - COUNT_ROWS),
        totals=[fmt.whole(count) for count in (block.train, block.val, block.test)],
        facts=_data_facts(block),
        warnings=block.warnings,
    )


def _data_facts(block: DataBlock) -> list[tuple[str, str]]:
    facts = [
        ("licence", block.licence or "not stated"),
        ("source", block.source),
        ("fit to the input by", block.fit),
    ]
    if any(block.groups.get(split) for split in SPLITS):
        told = [f"{fmt.whole(block.groups.get(split))} in {split}" for split in SPLITS]
        by = present(block.groups_by)
        told += [f"by {by}"] if by else []
        facts.append(("groups (such as patients)", ", ".join(told)))
    if unsure := present(block.uncertain):
        facts.append(
            (
                "uncertain labels",
                f"{fmt.whole(sum(unsure.counts.values()))}, data.uncertain = {unsure.policy}",
            )
        )
    copies = block.duplicates
    if copies.images:
        told_copies = f"{fmt.plural(copies.images, 'image')}, {fmt.whole(copies.dropped)} dropped"
        facts.append(("exact copies", told_copies))
    without = present(block.unlabelled)
    if without is not None:
        dropped = without.in_val_or_test + without.in_train + without.repeated
        facts.append(
            (
                "without a label, labelled by the teacher",
                fmt.plural(without.images, "image")
                + (f" ({fmt.whole(dropped)} copies dropped)" if dropped else ""),
            )
        )
    years = present(block.years) or {}
    told = [f"{low} to {high} in {split}" for split, (low, high) in years.items()]
    if told:
        facts.append(("years of the images", ", ".join(told)))
    depth = present(block.depth)
    if depth is not None:
        clipped = f", {fmt.whole(depth.clipped)} clipped" if depth.clipped else ""
        deep = f"{fmt.plural(depth.images, 'image')}: {depth}{clipped}"
        facts.append(("more than 8 bits", deep))
    if block.skipped:
        facts.append(("unreadable, skipped", fmt.whole(len(block.skipped))))
    if ignored := sum(block.ignored.values()):
        facts.append(("files that were not read", fmt.whole(ignored)))
    return [(name, value) for name, value in facts if value]


def stages(report: Report) -> list[StageLine]:
    """Each stage with its duration, its device, key and digest."""
    return [_stage(row) for row in report.stages]


def _stage(row: StageBlock) -> StageLine:
    return StageLine(
        name=row.stage,
        seconds=fmt.seconds(row.seconds),
        device=present(row.device) or fmt.NONE,
        cached=row.cached,
        key=row.key,
        short_key=row.key[:DIGEST_LETTERS],
        digest=row.digest,
        short_digest=row.digest[:DIGEST_LETTERS],
    )


def origin(report: Report) -> list[tuple[str, str]]:
    """What identifies the build, as (name, value)."""
    found = [
        ("edgekd", report.edgekd),
        ("schema", report.schema),
        ("device profile", report.profile),
        ("seed", str(report.seed)),
        ("data set", report.data.name),
        ("data digest", report.data.digest),
    ]
    artifact = present(report.artifact)
    if artifact is not None:
        found += [("file", artifact.path), ("sha256 of the file", artifact.sha256)]
    return found
