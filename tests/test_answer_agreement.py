"""The agreement gate: judged by its interval, without the answers within one output step."""

from __future__ import annotations

import numpy as np
import pytest

from edgekd.core.intervals import images_to_tell, wilson
from edgekd.proof.answer_agreement import compare, judge
from edgekd.proof.certificate_record import Agreement, AgreementState

BOUND = 0.995  # the default of certify.min_agreement


def codes(*rows: tuple[int, int]) -> np.ndarray:
    return np.array(rows, np.int8)


def test_a_flip_between_neighbouring_outputs_is_counted_apart() -> None:
    expected = codes((10, 9), (10, 10), (10, 8), (10, -20))
    found = codes((9, 10), (9, 10), (9, 10), (-5, 5))
    same = compare(found, expected, "one", 0)
    assert same.argmax_agreement == 0
    assert same.within_one_step == 2  # 10 against 9, and 10 against 10
    judged = judge(same, 4, BOUND)
    assert (judged.answers, judged.agreement) == (2, 0)


def test_a_label_decision_on_the_boundary_is_counted_apart() -> None:
    # the zero point is -3: a code of -3 says yes, and a code of -4 says no
    expected = codes((-3, -4), (-2, -5))
    found = codes((-4, -3), (-4, -3))
    same = compare(found, expected, "many", -3)
    assert same.argmax_agreement == 0
    assert same.within_one_step == 2


def test_codes_at_both_ends_do_not_overflow() -> None:
    same = compare(codes((-128, 127)), codes((127, -128)), "one", 0)
    assert (same.argmax_agreement, same.within_one_step) == (0, 0)


@pytest.mark.parametrize(
    ("flips", "images", "state"),
    [
        (0, 69, AgreementState.HOLDS),
        (1, 69, AgreementState.TOO_FEW_IMAGES),  # one flip says nothing about 99.5 %
        (3, 69, AgreementState.FAILS),
        (3, 624, AgreementState.HOLDS),  # 99.52 %
        (5, 624, AgreementState.TOO_FEW_IMAGES),
        (12, 624, AgreementState.FAILS),
    ],
)
def test_the_gate_reads_the_interval(flips: int, images: int, state: AgreementState) -> None:
    judged = judge(Agreement(1 - flips / images), images, BOUND)
    assert judged.state is state
    assert judged.ci95 == wilson(judged.agreement, images)
    assert (judged.needed is None) == (state is AgreementState.HOLDS)


def test_so_many_images_tell_and_one_fewer_does_not() -> None:
    needed = images_to_tell(0.98, BOUND)
    assert needed is not None
    assert wilson(0.98, needed)[1] < BOUND
    assert wilson(0.98, needed - 2)[1] >= BOUND
    assert images_to_tell(BOUND, BOUND) is None


def test_a_file_whose_answers_are_all_within_one_step_is_undecided_not_wrong() -> None:
    judged = judge(Agreement(0.0, within_one_step=5), 5, BOUND)
    assert judged.answers == 0
    assert judged.ci95 == (0, 1)
    assert judged.state is AgreementState.HOLDS
