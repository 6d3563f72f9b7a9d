"""Results that came back from the device: judge them, and let the report's verdict count them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edgekd.core.intervals import wilson
from edgekd.core.records import UnsetType, present
from edgekd.device.bench_record import Bench
from edgekd.evaluation.accuracy_record import Accuracy, DeviceRow, StageState
from edgekd.evaluation.stage_verdicts import verdict
from edgekd.settings.recipe import BudgetConfig


def ran_on(run: Bench, profile: str) -> bool:
    """Whether a run was made as this device, and no warning says that it was another machine."""
    elsewhere = any("these are not the times of" in warning for warning in run.warnings)
    return run.profile == profile and not elsewhere


def device_row(run: Bench, rounding_lsb: float) -> DeviceRow | None:
    """Judge a result from a device against the file's stored answers; None without a golden set.

    Only the golden images run on the device, and only their agreement comes back, so there are no
    names and no AUC.
    """
    golden = run.golden
    if golden is None:
        return None
    n, same, worst = golden.images, golden.argmax_agreement, golden.max_abs_lsb
    changed = round((1 - same) * n)
    far = worst is not None and worst > rounding_lsb
    where = f"The device ({run.profile}{', emulated' if run.emulated else ''})"
    text = (
        f"{where}: {changed} of {n} stored images got an answer that differs from the build's, "
        f"largest difference {worst} LSB"
    )
    if changed and not far:
        text += ", no more than rounding explains"
    state = StageState.WITHIN
    if far:
        state = StageState.BEYOND if changed else StageState.UNCLEAR
    return DeviceRow(
        stage="device",
        profile=run.profile,
        emulated=run.emulated,
        n=n,
        top1=golden.top1,
        top1_ci95=wilson(golden.top1, n),
        agree_with_previous=same,
        max_abs_lsb=worst,
        state=state,
        verdict=text,
    )


def carried_back(block: Accuracy, runs: Sequence[Bench], profile: str) -> Accuracy:
    """The "accuracy" block with the newest run on the build's device, and a verdict that counts it.

    A run on another machine says nothing about the device and is left out. A report of an early
    EdgeKD, whose stages were not judged, stays as it is.
    """
    limit = BudgetConfig().rounding_lsb
    for stage in block.waterfall:
        budget = present(stage.budget)
        if budget is not None and not isinstance(budget.rounding_lsb, UnsetType):
            limit = budget.rounding_lsb
    rows = [row for row in (device_row(run, limit) for run in runs if ran_on(run, profile)) if row]
    judged = all(not isinstance(stage.state, UnsetType) for stage in block.waterfall)
    if not rows or not judged:
        return block
    return msgspec.structs.replace(
        block, device=rows[-1], verdict=verdict([*block.waterfall, rows[-1]])
    )
