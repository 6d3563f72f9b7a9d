"""The command line of a small whole build, for tests that run it."""

from __future__ import annotations

# The smallest networks that timm has. They have 4 and 5 blocks, where a mobilenetv2 has 17, so that
# a build with them takes half the time. The student has residual additions, depthwise convolutions
# and squeeze-excite. Its own activation is SiLU, which no device maps well.
TEACHER = "test_resnet"
STUDENT = "test_efficientnet"
STUDENT_OPTIONS = 'distil.options={act_layer="relu6"}'

# One epoch of everything on 120 phantom images at 32 px: every stage's real code in a few seconds.
SMALL = [
    "build",
    "--profile",
    "pi4",
    "--data",
    "phantom:120@40",
    "--teacher",
    TEACHER,
    "--student",
    STUDENT,
    *(
        part
        for text in (
            STUDENT_OPTIONS,
            "data.input_px=32",
            "teacher.epochs=1",
            "distil.epochs=2",
            "qat.epochs=1",
            "distil.grid=0.5",
            "distil.exits=0.5",
            "views.per_image=2",
            "bench.runs=5",
            "bench.min_seconds=0.05",
            "data.golden=8",
            "data.calibration=32",
            "certify.max_drop=1",
            "certify.min_agreement=0",
        )
        for part in ("--set", text)
    ),
]
