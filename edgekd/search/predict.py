"""What devices will make of every candidate, found out before anything is trained.

Each network is captured once, and its graphs at the other sizes and widths are derived from that
(`edgekd.assessment.sketches`). What `edgekd check` says of a graph is kept between commands. The
students are divided among the cores.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import msgspec

from edgekd.assessment import kept_files, workload
from edgekd.assessment.assess import assess, unmet_limits
from edgekd.assessment.effective_edits import effective
from edgekd.assessment.format_latency import format_latencies
from edgekd.assessment.mappers.registry import mapper_for
from edgekd.assessment.sketch import Asked
from edgekd.assessment.sketches import Drawn, Sketchbook
from edgekd.assessment.student_check import CLASSES, student_of
from edgekd.core import artifacts, cores
from edgekd.core.errors import UnsupportedNetwork
from edgekd.core.number_formats import NumberFormat
from edgekd.core.records import Record
from edgekd.search.candidate import Candidate
from edgekd.search.forecast import Forecast
from edgekd.settings import loss_reading, recipe
from edgekd.settings.device_profiles import DeviceProfile
from edgekd.settings.recipe import Recipe

KIND = ".forecasts"
# Where pruning ranks groups of one shape together, how much each loses depends on the weights.
UNSURE_WIDTHS = "; every group is taken to lose the same share, which prune.scope does not ask for"


class Row(Record, frozen=True):
    """What one device makes of one network, as it is kept, with `Drawn.identity`.

    The network may be that of several candidates: `forecast.candidate` is the first of them.
    """

    identity: str
    forecast: Forecast


def forecasts(
    candidates: Sequence[Candidate],
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
    devices = (profile, *also)
    of_student: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        of_student.setdefault(candidate.student, []).append(candidate)
    rows_of = functools.partial(_rows, settings=settings, devices=devices, classes=classes)
    groups = list(of_student.values())
    known = {
        candidate: rows
        for group, found in zip(groups, cores.in_processes(rows_of, groups), strict=True)
        for candidate, rows in zip(group, found, strict=True)
    }
    seen: dict[tuple[str, str, NumberFormat], Candidate] = {}
    for candidate in candidates:
        identity = (candidate.weights, known[candidate][0].identity, candidate.number_format)
        seen.setdefault(identity, candidate)
    return [
        _forecast(candidate, device, known[candidate][place], settings)
        for place, device in enumerate(devices)
        for candidate in seen.values()
    ]


def _rows(
    candidates: Sequence[Candidate],
    settings: Recipe,
    devices: Sequence[DeviceProfile],
    classes: int,
) -> list[list[Row]]:
    """What each device makes of each candidate. All candidates are of one student."""
    work = _Forecasting(settings, devices[0], classes)
    found = [[work.row(candidate, device) for device in devices] for candidate in candidates]
    work.keep()
    return found


class _Forecasting:
    """The rows that are known, by the file that they are kept in and by their place in it."""

    def __init__(self, settings: Recipe, built_for: DeviceProfile, classes: int) -> None:
        self.settings, self.built_for, self.classes = settings, built_for, classes
        self.reads = loss_reading.of_recipe(settings)
        self.book = Sketchbook()
        self.drawn: tuple[Candidate, Drawn | UnsupportedNetwork] | None = None
        self.files: dict[str, dict[str, Row]] = {}
        self.changed: set[str] = set()
        self.digests: dict[str, str] = {}

    def row(self, candidate: Candidate, device: DeviceProfile) -> Row:
        """What a device makes of a candidate, from the kept files or newly found out."""
        asked = recipe.changed(self.settings, candidate.settings)
        built_for = self.built_for.with_edits(asked.edits)
        multiple = asked.prune.multiple or built_for.channel_multiple
        network = Asked(
            effective(student_of(asked, built_for)),
            candidate.input_px,
            self.classes,
            built_for.rules,
            tuple(asked.ports.sides(candidate.input_px)),
            self.reads,
        )
        key = self._file(network, device, multiple)
        place = f"{candidate.input_px} {candidate.pruned!r} {candidate.number_format}"
        if key not in self.files:
            self.files[key] = _read(key)
        if place not in self.files[key]:
            self.files[key][place] = self._found(candidate, network, multiple, device)
            self.changed.add(key)
        return self.files[key][place]

    def _file(self, network: Asked, device: DeviceProfile, multiple: int) -> str:
        """The key of the file with the rows of one network on one device, at any size and width."""
        if device.name not in self.digests:
            latency = Path(device.latency).read_bytes() if device.latency else b""
            whole = artifacts.canonical_json([device.to_json(), artifacts.sha256(latency)])
            self.digests[device.name] = artifacts.sha256(whole)
        anywhere = dataclasses.replace(network, px=0)
        return kept_files.key_of(
            {"network": anywhere.key, "device": self.digests[device.name], "multiple": multiple}
        )

    def _found(
        self, candidate: Candidate, network: Asked, multiple: int, device: DeviceProfile
    ) -> Row:
        if self.drawn is None or self.drawn[0] != candidate:
            try:
                self.drawn = candidate, self.book.draw(network, candidate.pruned, multiple)
            except UnsupportedNetwork as error:
                self.drawn = candidate, error
        drawn = self.drawn[1]
        if isinstance(drawn, UnsupportedNetwork):
            refused = Forecast(candidate, device.name, None, None, None, "", 0, 0, 0, (drawn.what,))
            return Row(candidate.label, refused)
        return Row(drawn.identity, _judged(drawn, device, candidate))

    def keep(self) -> None:
        """Write the files to which rows were added."""
        for key in self.changed:
            kept_files.write(key, KIND, msgspec.json.encode(self.files[key]))


def _read(key: str) -> dict[str, Row]:
    kept = kept_files.read(key, KIND)
    return {} if kept is None else msgspec.json.decode(kept, type=dict[str, Row])


def _judged(drawn: Drawn, device: DeviceProfile, candidate: Candidate) -> Forecast:
    """What `edgekd check` says of a graph."""
    graph, size = drawn.graph, drawn.file_bytes
    judged, mapper = assess(graph, device), mapper_for(device)
    predicted = judged.predicted
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
        size,
        mapper.memory_use(judged.memory, size),
        sum(row.macs for row in workload.work(graph)),
        tuple(unmet_limits(judged, device, size)),
        tuple(mapper.too_large(judged.memory, device, size)),
    )


def _forecast(candidate: Candidate, device: DeviceProfile, row: Row, settings: Recipe) -> Forecast:
    unsure = candidate.pruned and settings.prune.scope != "local"
    known = row.forecast
    basis = known.basis + (UNSURE_WIDTHS if unsure else "")
    return dataclasses.replace(known, candidate=candidate, profile=device.name, basis=basis)
