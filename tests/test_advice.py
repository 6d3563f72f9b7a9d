"""Every advice that `edgekd check` prints about a student works when it is typed."""

from __future__ import annotations

import itertools
import re
import shlex

import pytest

from edgekd.app.cli import main
from edgekd.assessment import auto_fix, student_check
from edgekd.assessment.check_record import DeviceCheck
from edgekd.core.errors import GateFailed
from edgekd.core.records import present
from edgekd.settings.device_profiles import load_profile

PX = "data.input_px=64"
# Students with what devices lack: hard-swish and squeeze-and-excite, GELU, attention. The last has
# one block, and is refused by the compiler of the Edge TPU, whatever is edited.
VIT = "vit_tiny_patch16_224"
STUDENTS = {"mobilenetv3_small_050": [PX], "fastvit_t8": [PX], VIT: [PX, "distil.options.depth=1"]}
PROFILES = ("coral-usb", "android-nnapi")
COMMAND = re.compile(r"edgekd (check [\w./-]+ --profile [\w-]+)")


def checked(student: str, profile: str, *sets: str) -> DeviceCheck:
    return student_check.check_named(student, profile, [*STUDENTS[student], *sets])


def typed(text: str) -> list[str]:
    """The settings in an advice: "--set KEY=VALUE" as often as it stands there."""
    words = shlex.split(text.replace(";", " "))
    return [after for word, after in itertools.pairwise(words) if word == "--set"]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("student", STUDENTS)
def test_every_edit_and_next_step_works(
    student: str, profile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    check = checked(student, profile)
    for edit in check.edits:
        sets = typed(edit.how)
        assert sets or "choose a network with other widths" in edit.how
        if not sets:
            continue
        after = checked(student, profile, *sets)
        # An edit of the graph is what the setting makes of the network.
        assert after.mapped.mapped >= min(edit.mapped, after.mapped.ops - 1), edit.edit
    if check.passed:
        return
    step = present(check.next_step) or ""
    command = COMMAND.search(step)
    if command:
        assert main(command.group(1).split()) == 0, step
    elif typed(step):
        after = checked(student, profile, *typed(step))
        assert (after.mapped.share_of_macs or 0) > (check.mapped.share_of_macs or 0), step
        assert after.passed or "--fix" not in step
    else:
        pytest.fail(f"an advice without anything to type: {step}")
    capsys.readouterr()


@pytest.mark.parametrize("student", STUDENTS)
def test_fix_ends_in_a_student_that_passes_or_says_what_is_left(student: str) -> None:
    profile = load_profile("coral-usb")
    settings = student_check.settings_of(student, STUDENTS[student])
    try:
        fixed = auto_fix.fix_settings(settings, profile)
    except GateFailed as error:
        assert student == VIT
        for listing in re.findall(r"edgekd (\w+)\)", error.next_step):
            assert main([listing]) == 0
    else:
        assert fixed.check.passed
        assert fixed.values
