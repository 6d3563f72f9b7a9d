"""The answers of a .tflite on real images against the trained network's: agreement, and differences
in LSB.

The gate is on the answer and not on LSB, because kernel families of one runtime differ by up to 20
LSB at the logits. An answer that differs is counted apart if the trained network's outputs for the
two candidates lie within one output step: rounding alone decides there. The gate fails only if the
whole 95 % interval of the remaining agreement lies below the bound. Where an image has one label,
its answer is the class of the largest output. Where it may have several, each label is an answer,
which is positive when its output is at least zero; `argmax_agreement` is then a share of labels.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from edgekd.core.artifacts import Labels
from edgekd.core.errors import DeviceError, MissingExtra, ModelFileError
from edgekd.core.intervals import images_to_tell, wilson
from edgekd.core.records import present
from edgekd.proof.certificate_record import (
    Agreement,
    AgreementState,
    EndToEnd,
    JudgedAgreement,
    Reference,
)
from edgekd.proof.failures import Failures
from edgekd.proof.kernel_runs import FAMILIES
from edgekd.tflite.runtime import LiteRunner, tensor_range

# what an agreement counts, by the number of labels that an image has
AGREEMENT_UNITS: dict[Labels, str] = {"one": "classes", "many": "label decisions"}
HISTOGRAM_TOP = 8  # differences of this many LSB and more share the last bin
UNDECIDED = (
    "look at mean_abs_lsb: if it is small, images lie on the decision boundary, so train longer; "
    "if it is large, the file is wrong"
)


def compare(
    found: npt.NDArray[np.signedinteger],
    expected: npt.NDArray[np.signedinteger],
    labels: Labels,
    zero_point: int,
) -> Agreement:
    """Compare two sets of output codes, [n, classes], with that zero point.

    Of several largest outputs, the first one counts on both sides.
    """
    lsb = np.abs(found.astype(np.int64) - expected.astype(np.int64))
    bins = np.bincount(np.minimum(lsb, HISTOGRAM_TOP).reshape(-1), minlength=HISTOGRAM_TOP + 1)
    names = [*(str(size) for size in range(HISTOGRAM_TOP)), f"{HISTOGRAM_TOP}+"]
    if labels == "one":
        answer = found.argmax(axis=1)
        same = answer == expected.argmax(axis=1)
        chosen = np.take_along_axis(expected, answer[:, None], axis=1)[:, 0]
        close = expected.max(axis=1).astype(np.int64) - chosen <= 1
    else:
        same = (found >= zero_point) == (expected >= zero_point)
        # the codes on both sides of the decision boundary
        close = (expected == zero_point) | (expected == zero_point - 1)
    return Agreement(
        argmax_agreement=float(same.mean()),
        within_one_step=int((close & ~same).sum()),
        mean_abs_lsb=float(lsb.mean()),
        max_abs_lsb=int(lsb.max()),
        histogram=dict(zip(names, bins.tolist(), strict=True)),
    )


def judge(found: Agreement, answers: int, least: float) -> JudgedAgreement:
    """Compare the agreement of so many answers with the share `least`."""
    decided = answers - (present(found.within_one_step) or 0)
    same = round(found.argmax_agreement * answers)
    share = same / decided if decided else 1.0
    interval = wilson(share, decided) if decided else (0.0, 1.0)
    state = AgreementState.HOLDS
    if share < least:
        below = interval[1] < least
        state = AgreementState.FAILS if below else AgreementState.TOO_FEW_IMAGES
    return JudgedAgreement(
        answers=decided,
        agreement=share,
        ci95=interval,
        least=least,
        state=state,
        needed=images_to_tell(share, least) if share < least else None,
    )


def check_answers(
    data: bytes | memoryview,
    images: npt.NDArray[np.uint8],
    logits: npt.NDArray[np.float32],
    failures: Failures,
    min_agreement: float,
    labels: Labels = "one",
    codes: npt.NDArray[np.int8] | None = None,
) -> EndToEnd:
    """Compare the file with `logits`, float32 [n, classes], on `images`, uint8 [n, px, px,
    channels].

    The file runs in the runtime's default kernels, as in an app. `min_agreement` is a share, which
    `judge` compares with the agreement. `codes`: what the file gave, where it has run already.
    """
    unit = AGREEMENT_UNITS[labels]
    nothing = EndToEnd(images=len(images), answers=unit)
    try:
        runner = LiteRunner(data)
        given = runner.codes(images) if codes is None else codes
        found = given.reshape(len(images), -1)
    except (ModelFileError, DeviceError) as error:
        label, expected = "the whole graph", "a runtime that runs it"
        failures.add("end_to_end", "op", label, expected, error.what, error.next_step)
        return nothing
    name, grid = runner.output.name, tensor_range(runner.output)
    wanted = grid.quantize(logits).reshape(len(images), -1)
    if found.shape != wanted.shape:
        failures.add("end_to_end", "tensor", name, list(wanted.shape), list(found.shape))
        return nothing
    figures = compare(found, wanted, labels, grid.zero_point)
    judged = judge(
        figures, len(wanted) * (wanted.shape[1] if labels == "many" else 1), min_agreement
    )
    if judged.state is AgreementState.FAILS:
        low, high = judged.ci95
        failures.add(
            "end_to_end",
            "tensor",
            name,
            f"{unit} that agree: at least {min_agreement}",
            f"{judged.agreement:.4f} of {judged.answers} (95 % interval {low:.4f} to {high:.4f})",
            UNDECIDED,
        )
    return msgspec.structs.replace(nothing, judged=judged, **msgspec.structs.asdict(figures))


def by_family(
    data: bytes | memoryview,
    images: npt.NDArray[np.uint8],
    logits: npt.NDArray[np.float32],
    labels: Labels = "one",
    runtime: str | None = None,
) -> dict[str, Agreement | None]:
    """The same comparison in each kernel family, without a gate: what another delegate changes in
    the answers.

    None for a family that does not run the file.
    """
    found: dict[str, Agreement | None] = {}
    for family, kernels in FAMILIES.items():
        try:
            runner = LiteRunner(data, kernels=kernels, runtime=runtime)
            codes = runner.codes(images).reshape(len(images), -1)
        except (ModelFileError, DeviceError):
            found[family] = None
            continue
        grid = tensor_range(runner.output)
        expected = grid.quantize(logits).reshape(len(images), -1)
        fits = codes.shape == expected.shape
        found[family] = compare(codes, expected, labels, grid.zero_point) if fits else None
    return found


def second_runtime(
    data: bytes | memoryview,
    images: npt.NDArray[np.uint8],
    logits: npt.NDArray[np.float32],
    labels: Labels = "one",
) -> Reference:
    """The same comparison in TensorFlow's own interpreter, if TensorFlow is installed."""
    try:
        name = LiteRunner(data, runtime="tensorflow").name
    except (MissingExtra, ModelFileError):
        return Reference()
    families = by_family(data, images, logits, labels, "tensorflow")
    same: dict[str, float] = {}
    for family, kernels in FAMILIES.items():
        try:
            one, other = (
                LiteRunner(data, kernels=kernels, runtime=runtime).codes(images)
                for runtime in (None, "tensorflow")
            )
        except (ModelFileError, DeviceError):
            continue
        same[family] = float((one == other).mean())
    reference = families.get("reference") or Agreement()
    return Reference(
        runtime=name,
        argmax_agreement=reference.argmax_agreement,
        families=families,
        same_codes=same,
    )
