"""What other number formats lose, for a verdict that int8 loses too much."""

from __future__ import annotations

import msgspec

from edgekd.core.number_formats import NumberFormat
from edgekd.core.records import present
from edgekd.evaluation.accuracy_record import Accuracy, FormatRow, VerdictState

INT8_STAGE = "qat"  # where the network's weights and activations become int8


def offers(accuracy: Accuracy) -> str:
    """What the network loses in each other format, or how to find that out."""
    rows = [row for row in present(accuracy.formats) or [] if row.format is not NumberFormat.INT8]
    if not rows:
        return "`--formats float16,int16x8,mixed` makes and measures files that may lose less"
    return f"In other formats, which lie in the folder formats: {', '.join(map(_loss, rows))}"


def _loss(row: FormatRow) -> str:
    """The change of top-1 against the float student, in points. A loss is negative."""
    low, high = (bound * 100 for bound in row.change.top1_ci95)
    return f"{row.format} {row.change.top1 * 100:+.1f} points ({low:+.1f} to {high:+.1f})"


def with_offers(accuracy: Accuracy) -> Accuracy:
    """The block, whose verdict notes the offers where int8 is what loses too much."""
    verdict = present(accuracy.verdict)
    if verdict is None or verdict.stage != INT8_STAGE or verdict.state is not VerdictState.BAD:
        return accuracy
    noted = msgspec.structs.replace(verdict, notes=[*verdict.notes, f"{offers(accuracy)}."])
    return msgspec.structs.replace(accuracy, verdict=noted)
