"""A student that learned a teacher's features before it learned classes, in words."""

from __future__ import annotations

from edgekd.core.records import present
from edgekd.reporting import text
from edgekd.reporting.report_record import Report


def sentence(report: Report) -> str:
    """On how many images it learned them, for how long, and how well; "" where it did not."""
    network = report.models.get("pretrained")
    learned = None if network is None else present(network.pretrained)
    if learned is None:
        return ""
    seconds = next((row.seconds for row in report.stages if row.stage == "pretrain"), None)
    time = "" if seconds is None else f" in {text.seconds(seconds)}"
    return (
        f"The student first learned the features of {learned.teacher} on "
        f"{text.plural(learned.images, 'image')} without labels, "
        f"{text.plural(learned.epochs, 'epoch')}{time}: loss {text.number(learned.loss)}, cosine "
        f"with the teacher's features on validation images {text.number(learned.cosine)}."
    )
