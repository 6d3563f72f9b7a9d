"""Ranks the remedies by how near each brings the int8 network to the float student."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekd.evaluation import metrics
from edgekd.quantization.remedies import ALL_OPS, Candidate
from edgekd.quantization.rerun import Floats
from edgekd.quantization.sensitivity import Labels, auc_change
from edgekd.quantization.sensitivity_record import Remedy

MOST = 3  # remedies that a report shows


def rank(
    candidates: Sequence[Candidate],
    before: Floats,
    reference: Floats,
    labels: Labels,
    seed: int,
    most: int = MOST,
) -> tuple[list[Remedy], list[Remedy]]:
    """(the best `most` remedies, all that were tried), by divergence from `reference`.

    `before`, `reference`: logits float32 [n, k] of the int8 network and of the float student.
    Remedies whose gain has a paired 95 % interval above zero come first; those without a gain are
    left out of the best. Of one operator the best remedy counts, and of one kind that changes all
    operators. A bound stands among the best, at most once, where there are fewer real remedies than
    `most`.
    """
    kind = metrics.kind(labels)
    each = metrics.divergence(before, reference, kind)
    counts = metrics.resamples(metrics.drawn_together(labels), before.shape[1], seed)
    rows: list[Remedy] = []
    for candidate in candidates:
        gain = each - metrics.divergence(candidate.logits, reference, kind)
        low, high = np.quantile(counts @ gain / len(labels), [0.025, 0.975])
        rows.append(
            Remedy(
                kind=candidate.kind,
                what=candidate.what,
                text=candidate.text,
                next_step=candidate.next_step,
                bound=candidate.bound,
                kl_before=float(each.mean()),
                kl_after=float(each.mean() - gain.mean()),
                kl_gain_ci95=[float(low), float(high)],
                sure=bool(low > 0),
                top1=float(metrics.top1(candidate.logits, labels) - metrics.top1(before, labels)),
                auc=auc_change(before, candidate.logits, labels),
            )
        )
    rows.sort(key=lambda row: (not row.sure, row.kl_after, row.what))
    return _best(rows, most), rows


def _best(rows: Sequence[Remedy], most: int) -> list[Remedy]:
    """The rows that a report shows, from rows in order."""
    good: dict[tuple[bool, str], Remedy] = {}
    for row in rows:
        if row.kl_after < row.kl_before:
            good.setdefault((row.bound, row.kind if row.what == ALL_OPS else row.what), row)
    real = [row for row in good.values() if not row.bound]
    bounds = [row for row in good.values() if row.bound and row.sure]
    room_for_a_bound = max(0, min(1, most - len(real)))
    return [*real[:most], *bounds[:room_for_a_bound]]
