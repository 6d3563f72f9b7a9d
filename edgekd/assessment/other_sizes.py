"""What a device makes of a student at other sizes and widths, from one capture of it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from edgekd.assessment import workload
from edgekd.assessment.assess import assess, unmet_limits
from edgekd.assessment.check_record import OtherSize
from edgekd.assessment.sketch import Asked
from edgekd.assessment.sketches import Sketchbook
from edgekd.assessment.student_check import CLASSES, student_of
from edgekd.settings import loss_reading, recipe
from edgekd.settings.device_profiles import DeviceProfile
from edgekd.settings.recipe import Recipe


def other_sizes(
    settings: Recipe,
    profile: DeviceProfile,
    sizes: Sequence[int],
    shares: Sequence[float],
) -> list[OtherSize]:
    """A row for each side of the input in `sizes` (pixels) and each share of pruned channels.

    Empty `sizes` mean that of the settings, and empty `shares` no pruning. Raises what
    `edgekd.assessment.sketches.Sketchbook.draw` raises.
    """
    book, rows = Sketchbook(), []
    for px, share in itertools.product(sizes or [settings.data.input_px], shares or [0.0]):
        asked = recipe.changed(settings, {"data.input_px": px, "prune.ratio": share})
        device = profile.with_edits(asked.edits)
        network = Asked(
            student_of(asked, device),
            px,
            CLASSES,
            device.rules,
            tuple(asked.ports.sides(px)),
            loss_reading.of_recipe(asked),
        )
        multiple = asked.prune.multiple or device.channel_multiple
        drawn = book.draw(network, share, multiple)
        found = assess(drawn.graph, device)
        failures = unmet_limits(found, device, drawn.file_bytes)
        mapped = found.mapped.block()
        rows.append(
            OtherSize(
                input_px=px,
                pruned=share,
                passed=not failures,
                ops=mapped.ops,
                mapped=mapped.mapped,
                macs=sum(row.macs for row in workload.work(drawn.graph)),
                arena_bytes=found.memory.arena_bytes,
                file_bytes=drawn.file_bytes,
                predicted=found.predicted,
                failures=failures,
            )
        )
    return rows
