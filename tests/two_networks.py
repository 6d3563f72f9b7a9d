"""An evaluation of a student and its int8 file, over groups of images.

Quantization can be made to damage one of the groups.
"""

from __future__ import annotations

import numpy as np

from edgekd.core.artifacts import Evaluation


def evaluation(
    n: int = 400, damage: str | None = None, share: float = 0.5
) -> tuple[Evaluation, list[str | None]]:
    """The evaluation of `n` images, and the group of each image.

    The student and the int8 file agree, except on a `share` of the images of the group `damage`.
    """
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, n)
    groups: list[str | None] = [
        ("young", "old", "unknown")[k] for k in rng.choice(3, n, p=[0.6, 0.3, 0.1])
    ]
    student = rng.normal(0, 1, (n, 2)).astype(np.float32)
    student[np.arange(n), labels] += 2.5
    int8 = student + rng.normal(0, 0.02, (n, 2)).astype(np.float32)
    hit = np.array([group == damage for group in groups]) & (rng.random(n) < share)
    int8[hit] = int8[hit][:, ::-1]
    logits = np.stack([student, int8])
    return Evaluation(
        ["student", "tflite"], 2, labels.tolist(), logits.tobytes(), bytes(2 * n)
    ), groups
