"""prune.target_latency: the cut that keeps it is known before training, or refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import pytest

from edgekd.app import cli
from edgekd.assessment.assess import assess
from edgekd.assessment.check_record import LatencyCut, Prediction
from edgekd.assessment.latency_cut import planned
from edgekd.assessment.sketch import Asked
from edgekd.assessment.sketches import Sketchbook
from edgekd.assessment.student_check import check_recipe, student_of
from edgekd.core.errors import GateFailed, RecipeError
from edgekd.core.records import present
from edgekd.data.phantom_source import PhantomSource
from edgekd.networks.pruning_plan import GRAIN
from edgekd.pipeline import runner
from edgekd.pipeline.jobs import Job
from edgekd.pipeline.stage_table import STAGES
from edgekd.reporting import build_gates
from edgekd.search.candidate import Candidate
from edgekd.settings import loss_reading, recipe
from edgekd.settings.device_profiles import DeviceProfile, load_profile
from edgekd.settings.recipe import Recipe
from edgekd.settings.verdict_settings import CertifyConfig
from tests.sample_report import report as from_body
from tests.sample_report import whole

PI = load_profile("pi4")
UNMEASURED = dataclasses.replace(PI, latency="")
CLASSES = 4  # of a phantom


def asking(latency: str, *sets: str) -> Recipe:
    student = ("distil.student=mobilenetv3_small_050", "distil.weights=none")
    return recipe.load(None, [*student, f"prune.target_latency={latency}", *sets])


def predicted(settings: Recipe, ratio: float) -> float:
    """Milliseconds of the student after a cut."""
    reads = loss_reading.of_recipe(settings)
    px = settings.data.input_px
    asked = Asked(student_of(settings, PI), px, CLASSES, PI.rules, (), reads)
    drawn = Sketchbook().draw(asked, ratio, PI.channel_multiple)
    found = assess(drawn.graph, PI).predicted.latency_ms
    assert found is not None
    return found


def cut_of(settings: Recipe, profile: DeviceProfile = PI) -> LatencyCut:
    return planned(student_of(settings, profile), settings, profile, CLASSES)


def test_the_smallest_cut_that_keeps_the_target_is_taken() -> None:
    free = asking("")
    whole_, narrow = predicted(free, 0.0), predicted(free, 0.75)
    target = (whole_ + narrow) / 2
    settings = asking(f"{target:.3f}ms")
    cut = cut_of(settings)
    assert cut.before.latency_ms == whole_
    assert cut.after.latency_ms == predicted(settings, cut.ratio)
    assert predicted(settings, cut.ratio) <= settings.prune.target_ms
    assert predicted(settings, cut.ratio - 1 / GRAIN) > settings.prune.target_ms
    in_seconds = asking(f"{target / 1e3:.6f} s")
    assert cut_of(in_seconds).ratio == cut.ratio
    assert str(cut).endswith(f"as with prune.ratio={cut.ratio:g}")

    # A build finds the stage that the share alone would make, and a recipe of old keeps its keys.
    by_share = asking("", f"prune.ratio={cut.ratio}")
    assert in_keys(settings) == in_keys(by_share)
    assert "target_latency" not in str(in_keys(by_share))


def in_keys(settings: Recipe) -> dict[str, object]:
    """What stands of a recipe in the key of each stage from the student on."""
    job = Job(settings, PI, PhantomSource(100, 32))
    return {
        stage.name: runner._without_later(dataclasses.asdict(stage.settings(job)))
        for stage in STAGES
        if stage.settings is not None and stage.name in ("distil", "prune", "qat")
    }


@pytest.mark.parametrize(
    ("latency", "profile", "kind", "said"),
    [
        ("0.01ms", PI, GateFailed, "cannot reach on pi4: .* is predicted to take"),
        ("9s", PI, GateFailed, "without any pruning"),
        ("9ms", UNMEASURED, RecipeError, "has none on pi4: no measurements"),
    ],
    ids=["too little", "too much", "unknown"],
)
def test_a_target_that_cannot_be_planned(
    latency: str, profile: DeviceProfile, kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        cut_of(asking(latency), profile)


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["prune.target_latency=12"], 'expected "12ms"'),
        (["prune.target_latency=0.00ms"], 'expected "12ms"'),
        (["prune.target_latency=12ms", "prune.ratio=0.3"], "each decides how much is cut"),
        (["prune.target_latency=12ms", "prune.scope=isomorphic"], "needs prune.scope"),
    ],
)
def test_settings_that_make_no_sense(sets: list[str], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        recipe.load(None, sets)


def test_check_fails_and_says_what_would_be_reached() -> None:
    check = check_recipe(asking("0.01ms"), PI)
    assert not check.passed
    assert "cannot reach" in check.failures[-1]
    assert "prune.target_latency" in str(present(check.next_step))
    cut = present(check_recipe(asking(f"{check.predicted.latency_ms * 0.9:.3f}ms"), PI).pruned)
    assert cut is not None
    assert cut.before == check.predicted


def test_a_build_refuses_before_it_reads_an_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "r.toml"
    file.write_text(recipe.to_toml(asking("0.01ms")))
    out = tmp_path / "out"
    words = ["build", str(file), "--data", "phantom:100@32", "--out", str(out)]
    assert cli.main([*words, "--teacher", "none"]) == 1
    assert "cannot reach" in capsys.readouterr().err
    assert not list((out / "store").glob("data*"))


def test_a_file_that_misses_the_target_fails_the_build() -> None:
    """Were the finished file slower than the plan said."""
    body = whole()
    body["models"]["pruned"] = body["models"]["student"]
    report = from_body(body)
    device = present(report.device)
    assert device is not None
    device = msgspec.structs.replace(device, predicted=Prediction(7.0, 6.0, 8.0, "a fit"))
    for target, fails in ((7.0, False), (6.9, True)):
        cut = LatencyCut(target, 0.3, device.predicted, device.predicted)
        pruned = msgspec.structs.replace(report.models["pruned"], latency=cut)
        models = {**report.models, "pruned": pruned}
        made = msgspec.structs.replace(report, models=models, device=device)
        failed = build_gates.judge(made, CertifyConfig(), 3).failed
        assert any("prune.target_latency" in each for each in failed) == fails


def test_a_searchs_candidate_is_cut_by_its_own_share() -> None:
    for goal in ("prune.target_latency=5ms", "prune.target_macs=0.5"):
        made = recipe.changed(recipe.load(None, [goal]), Candidate("resnet18", 64, 0.0).settings)
        assert not made.prune.on
