"""Answers of MediaPipe Tasks' ImageClassifier, from a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

MEDIAPIPE = """
import json, sys
import numpy as np
import mediapipe as mp
from mediapipe.tasks import python as tasks
from mediapipe.tasks.python import vision
answers = {}
images = np.load(sys.argv[1])
for path in sys.argv[2:]:
    options = vision.ImageClassifierOptions(base_options=tasks.BaseOptions(model_asset_path=path))
    with vision.ImageClassifier.create_from_options(options) as classifier:
        answers[path] = []
        for image in images:
            picture = mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(image))
            best = classifier.classify(picture).classifications[0].categories[0]
            answers[path].append([best.index, best.category_name])
print("ANSWERS" + json.dumps(answers))
"""


def mediapipe_python() -> str:
    """A Python that has mediapipe: this one, or the one that EDGEKD_MEDIAPIPE_PYTHON names.

    mediapipe needs another numpy than EdgeKD.
    """
    for python in (os.environ.get("EDGEKD_MEDIAPIPE_PYTHON"), sys.executable):
        if (
            python
            and subprocess.run(
                [python, "-c", "import mediapipe.tasks"],
                capture_output=True,
                check=False,
                env={"PATH": os.environ["PATH"]},
            ).returncode
            == 0
        ):
            return python
    pytest.skip(
        "mediapipe is not installed here; EDGEKD_MEDIAPIPE_PYTHON can name a Python that has it"
    )


def ask_mediapipe(
    images: np.ndarray, models: dict[str, bytes], folder: Path
) -> dict[str, list[tuple[int, str]]]:
    """MediaPipe's best category of each image for each model, from a process of its own."""
    np.save(folder / "images.npy", images)
    for name, data in models.items():
        (folder / name).write_bytes(data)
    ran = subprocess.run(
        [
            mediapipe_python(),
            "-c",
            MEDIAPIPE,
            str(folder / "images.npy"),
            *(str(folder / name) for name in models),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    told = json.loads(
        next(line for line in ran.stdout.splitlines() if line.startswith("ANSWERS"))[7:]
    )
    return {Path(path).name: [(index, name) for index, name in rows] for path, rows in told.items()}
