"""Whether a classifier's outputs stand for the data's classes in another order."""

from __future__ import annotations

import numpy as np

# A better order is named only if it makes this share of all images right that were wrong. Weak
# classifiers confuse classes without any order behind it.
CLEARLY_BETTER = 0.2


def better_order(counts: np.ndarray) -> list[int] | None:
    """The output that stands for each class, if that is another one than its own number.

    `counts`: int64 [k, k], images by true class (rows) and answer (columns). None unless every
    class has a usual answer of its own, and these make clearly more images right.
    """
    usual = counts.argmax(1)
    classes = np.arange(len(counts))
    if len(set(usual.tolist())) < len(counts) or (usual == classes).all():
        return None
    gained = counts[classes, usual].sum() - np.trace(counts)
    return usual.tolist() if gained > CLEARLY_BETTER * counts.sum() else None
