"""What devices will make of every candidate, found out before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgekd.assessment import workload
from edgekd.assessment.assess import assess, unmet_limits
from edgekd.assessment.check_record import Prediction
from edgekd.assessment.format_latency import format_latencies
from edgekd.assessment.mappers.registry import mapper_for
from edgekd.assessment.student_check import CLASSES, student_of
from edgekd.assessment.untrained_cache import untrained_model
from edgekd.core.errors import GateFailed, UnsupportedNetwork
from edgekd.core.number_formats import NumberFormat
from edgekd.networks import widths
from edgekd.search.candidate import Candidate
from edgekd.search.forecast import Forecast
from edgekd.settings import recipe
from edgekd.settings.device_profiles import DeviceProfile
from edgekd.settings.recipe import Recipe
from edgekd.tflite.flatbuffer import read


def forecasts(
    candidates: Iterable[Candidate],
    settings: Recipe,
    profile: DeviceProfile,
    also: Sequence[DeviceProfile] = (),
    classes: int = CLASSES,
) -> list[Forecast]:
    """What `profile` makes of every candidate, and behind it what each profile of `also` does.

    `settings`: what all candidates share. The networks are those that are built for `profile`.
    Of candidates that are the same network, the first alone is in the answer.

    Raises UnknownName and RecipeError for a student that cannot be built at all.
    """
    found: list[list[Forecast]] = [[] for _ in (profile, *also)]
    for candidate in candidates:
        for rows, device in zip(found, (profile, *also), strict=True):
            rows.append(_forecast(candidate, settings, profile, device, classes))
    return [row for rows in found for row in rows]


def _forecast(
    candidate: Candidate,
    settings: Recipe,
    built_for: DeviceProfile,
    device: DeviceProfile,
    classes: int,
) -> Forecast:
    asked = recipe.changed(settings, candidate.settings)
    built_for = built_for.with_edits(asked.edits)
    student = student_of(asked, built_for)
    px = candidate.input_px
    try:
        if candidate.pruned:
            from edgekd.networks import planned_widths  # torch

            multiple = asked.prune.multiple or built_for.channel_multiple
            narrow = planned_widths.planned(student, asked.prune, multiple, classes)
            student = student.with_options({widths.KEY: narrow})
        sides = asked.ports.sides(px)
        data = untrained_model(student, px, classes, built_for.rules, sides)
    except (UnsupportedNetwork, GateFailed) as error:
        return Forecast(candidate, device.name, None, None, None, "", 0, 0, 0, (error.what,))
    graph = read(data)
    judged = assess(graph, device)
    mapper = mapper_for(device)
    predicted: Prediction = judged.predicted
    if candidate.number_format is not NumberFormat.INT8:
        (row,) = format_latencies(graph, device, [candidate.number_format])
        predicted = row.predicted
    return Forecast(
        candidate,
        device.name,
        predicted.latency_ms,
        predicted.low_ms,
        predicted.high_ms,
        predicted.basis,
        len(data),
        mapper.memory_use(judged.memory, len(data)),
        sum(row.macs for row in workload.work(graph)),
        tuple(unmet_limits(judged, device, len(data))),
        tuple(mapper.too_large(judged.memory, device, len(data))),
    )
