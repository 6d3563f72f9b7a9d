"""Scores the factors between sources of measurements, as a table for docs/explain/latency.md.

    python -m tools.score_latency
    python -m tools.score_latency --before FOLDER

For each source of a profile that the fit does not rest on, it predicts the source's networks

* from the fit alone, with one factor of 1 ("fit alone"),
* with the source left out: the level of its kernel library, from the other sources,
* with the source known: its own factor, from its other networks.

With --before, the folder holds older NAME.latency.json files, and their factors, where the source
has the kernel library that these factors lead to, take the place of the factor of 1.

At the end come the rows of tools/kept_aside_rows.csv, of networks of other families. No fit and no
factor has seen them: tools/fit_profile.py does not read that file.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import timm

from edgekd.assessment import workload
from edgekd.assessment.latency import files, sources
from edgekd.assessment.latency.intervals import student_halfwidth
from edgekd.assessment.latency.model import LatencyModel
from edgekd.assessment.latency.sources import Source
from tools import fit_profile
from tools.published_networks import captured

KEPT_ASIDE = Path(__file__).with_name("kept_aside_rows.csv")
BUILDERS = {f"efficientnet-lite{n}-quantized": f"tf_efficientnet_lite{n}" for n in range(5)} | {
    "mobilenet-v3-large-minimalistic_224_1.0_uint8": "tf_mobilenetv3_large_minimal_100"
}


@dataclasses.dataclass(frozen=True)
class Score:
    """Errors of predictions, as log(measured / predicted), and the half-width of each interval."""

    logs: Sequence[float]
    widths: Sequence[float]

    def cells(self) -> str:
        """Median error, bias and coverage, as cells of a table in Markdown."""
        median = statistics.median(abs(1 - math.exp(-log)) for log in self.logs)
        bias = math.exp(-statistics.fmean(self.logs)) - 1
        held = sum(abs(log) <= width for log, width in zip(self.logs, self.widths, strict=True))
        return f"{median:.1%} | {bias:+.1%} | {held} of {len(self.logs)}"


def left_out(source: Source, every: Sequence[Source], model: LatencyModel, own: str) -> Score:
    """The networks of a source from the other sources alone."""
    others = [other for other in every if other is not source]
    level = sources.level(others, source.conditions.kernels, own)
    apart = sources.between(others, fit_profile.own_conditions(ROWS, model.precision))
    width = math.hypot(model.near, apart.spread if apart else 0.0, _within(others, source))
    logs = [log - level for log in source.logs.values()]
    return Score(logs, [width] * len(logs))


def _within(others: Sequence[Source], source: Source) -> float:
    """Half-width from the networks of the other sources with the same kernel library."""
    alike = [other for other in others if other.conditions.kernels == source.conditions.kernels]
    deviations = [log - other.mean for other in alike for log in other.logs.values()]
    return student_halfwidth(deviations) if alike else 0.0


def known(source: Source, every: Sequence[Source], model: LatencyModel) -> Score:
    """Each network of a source from the other networks of the source."""
    own = fit_profile.own_conditions(ROWS, model.precision)
    logs, widths = [], []
    for network, log in source.logs.items():
        rest = {name: value for name, value in source.logs.items() if name != network}
        less = dataclasses.replace(source, logs=rest)
        factor = sources.factor(less, [less if one is source else one for one in every], own)
        logs.append(log - math.log(factor.value))
        widths.append(math.hypot(model.near, factor.spread))
    return Score(logs, widths)


def before(source: Source, model: LatencyModel, old: LatencyModel | None, own: str) -> Score:
    """The networks of a source with the factors of an older file, or with none."""
    factors = old.factors if old and source.conditions.kernels not in (own, "") else ()
    shift = sum(math.log(factor.value) for factor in factors)
    width = math.hypot(model.near, *(factor.spread for factor in factors))
    logs = [log - shift for log in source.logs.values()]
    return Score(logs, [width] * len(logs))


def aside(model: LatencyModel, every: Mapping[tuple[str, str], Source]) -> list[str]:
    """Lines on the rows that were kept aside, at the conditions under which they were measured."""
    bare = msgspec.structs.replace(model, factors=())
    own = fit_profile.own_conditions(ROWS, model.precision)
    apart = sources.between(list(every.values()), own)
    lines = []
    with KEPT_ASIDE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            px = int(row["input_px"])
            network = timm.create_model(BUILDERS[row["model"]]).eval()
            features = workload.features(captured(network, px, row["precision"]))
            source = every.get((row["device"], row["accelerator"]))
            factor = sources.factor(source, list(every.values()), own).value if source else 1.0
            estimate, measured = bare.predict(features), float(row["latency_ms"])
            alone, told = estimate.latency_ms, estimate.latency_ms * factor
            spread = math.log(estimate.high_ms / alone)
            width = math.hypot(spread, apart.spread if apart else 0.0)
            lines.append(
                f"| {row['model'].removesuffix('-quantized')} | {row['accelerator']} "
                f"| {measured:.1f} | {alone:.1f} ({alone / measured - 1:+.1%}) "
                f"| {told:.1f} ({told / measured - 1:+.1%}) "
                f"| {'yes' if abs(math.log(measured / told)) <= width else 'no'} |"
            )
    return lines


ROWS = fit_profile.read_rows("pi4")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, metavar="FOLDER")
    folder = parser.parse_args().before
    models = fit_profile.fit("pi4")
    for precision, model in models.items():
        old = files.read(folder / "pi4.latency.json")[precision] if folder else None
        own = fit_profile.own_conditions(ROWS, precision).kernels
        every = fit_profile.measured_sources(ROWS, precision, model)
        for source in every.values():
            scores = (
                before(source, model, old, own),
                left_out(source, list(every.values()), model, own),
                known(source, list(every.values()), model),
            )
            factor = sources.factor(
                source, list(every.values()), fit_profile.own_conditions(ROWS, precision)
            )
            print(
                f"| {source.conditions.board}, {source.conditions.runtime_words}, {precision} "
                f"| {len(source.logs)} | {factor.value:.2f} | "
                + " | ".join(score.cells() for score in scores)
                + " |"
            )
        if precision == "int8":
            print(*aside(model, every), sep="\n")
    _others(folder)


def _others(folder: Path | None) -> None:
    """Print the scores of profiles whose rows only test them."""
    for profile in ("pi5",):
        for precision, model in fit_profile.fit(profile).items():
            rows = fit_profile.fit_rows(fit_profile.read_rows(profile), precision, "check")
            old = files.read(folder / f"{profile}.latency.json")[precision] if folder else None
            for name, one in (("before", old), ("after", model)):
                if one is not None and rows:
                    told = [one.predict(row.features) for row in rows]
                    score = Score(
                        [
                            math.log(row.latency_ms / estimate.latency_ms)
                            for row, estimate in zip(rows, told, strict=True)
                        ],
                        [math.log(estimate.high_ms / estimate.latency_ms) for estimate in told],
                    )
                    print(f"| {profile}, {precision}, {name} | {len(rows)} | {score.cells()} |")


if __name__ == "__main__":
    main()
