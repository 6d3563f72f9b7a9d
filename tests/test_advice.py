"""Every advice of `edgekd check`, of a refused build and of `edgekd report --why` works when it is
typed.
"""

from __future__ import annotations

import functools
import itertools
import re
import shlex

import pytest

from edgekd.app.cli import main
from edgekd.assessment import auto_fix, build_gate, student_check
from edgekd.assessment.check_record import DeviceCheck
from edgekd.core.errors import GateFailed
from edgekd.core.records import present
from edgekd.quantization import remedies, rerun
from edgekd.quantization.qat_network import predict, set_phase
from edgekd.quantization.remedies import Case
from edgekd.quantization.sensitivity_record import RemedyKind
from edgekd.settings.device_profiles import load_profile
from edgekd.settings.recipe import QatConfig
from tests import small_networks

PX = "data.input_px=64"
# Students with what devices lack: hard-swish and squeeze-and-excite, GELU, attention. The last has
# one block, and is refused by the compiler of the Edge TPU, whatever is edited.
VIT = "vit_tiny_patch16_224"
STUDENTS = {"mobilenetv3_small_050": [PX], "fastvit_t8": [PX], VIT: [PX, "distil.options.depth=1"]}
PROFILES = ("coral-usb", "android-nnapi")
COMMAND = re.compile(r"edgekd (check [\w./-]+ --profile [\w-]+)")


@functools.cache
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


@pytest.mark.parametrize("student", ["fastvit_t8", VIT])
def test_a_refused_build_gives_the_advice_of_check(student: str) -> None:
    check = checked(student, "coral-usb")
    with pytest.raises(GateFailed) as refused:
        build_gate.refuse(check)
    assert refused.value.next_step == present(check.next_step)
    for failure in check.failures:
        assert failure in refused.value.what


@pytest.mark.parametrize("epochs", [0, 3])
def test_the_remedies_of_why_are_settings_that_change_the_build(epochs: int) -> None:
    network, _, _ = small_networks.calibrated("Branches")
    set_phase(network, "frozen")
    images = small_networks.images(8, small_networks.PX, seed=5)[0]
    batches = [
        small_networks.normalised(images, small_networks.MEAN, small_networks.STD) for _ in "ab"
    ]
    student = small_networks.SMALL["Branches"]().eval()
    config = QatConfig(lr=1e-3, epochs=epochs)
    case = Case(network, student, images, batches[:1], batches[1:], config)
    worst = rerun.units(network)[:1]
    found = remedies.candidates(
        case, worst, {unit.name: predict(network, images) for unit in worst}
    )
    asked = [PX, f"qat.epochs={epochs}"]
    before = student_check.settings_of(VIT, asked)
    kinds = set()
    for remedy in found:
        sets = typed(remedy.next_step)
        kinds.add(remedy.kind)
        if sets:
            assert student_check.settings_of(VIT, [*asked, *sets]) != before, remedy.next_step
        else:
            assert remedy.bound
            (listing,) = re.findall(r"`edgekd (\w+)`", remedy.next_step)
            assert main([listing]) == 0
    assert {RemedyKind.MORE_QAT, RemedyKind.MORE_CALIBRATION, RemedyKind.ANOTHER_OP} <= kinds
