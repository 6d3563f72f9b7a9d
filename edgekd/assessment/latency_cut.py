"""The smallest cut of a student that keeps a latency, found out before anything is trained.

What a device pays for a channel is not what multiply-accumulates say. The predicted latency of the
whole network decides how much goes, and every group of channels loses the same share. So the widths
do not depend on the weights, and the answer is known before training. HALP (Shen et al. 2021, arXiv
2110.10811) ranks channels by importance and latency together, which needs trained weights.
"""

from __future__ import annotations

from edgekd.assessment.assess import assess
from edgekd.assessment.check_record import LatencyCut, Prediction
from edgekd.assessment.sketch import Asked
from edgekd.assessment.sketches import Sketchbook
from edgekd.core.errors import GateFailed, RecipeError
from edgekd.networks.pruning_plan import GRAIN, MOST
from edgekd.settings import loss_reading
from edgekd.settings.device_profiles import DeviceProfile
from edgekd.settings.model_specs import ModelSpec
from edgekd.settings.recipe import Recipe


def planned(
    student: ModelSpec, settings: Recipe, profile: DeviceProfile, classes: int
) -> LatencyCut:
    """The smallest cut after which the student is predicted to keep `prune.target_latency`.

    `student`, `profile`: with the edits of the settings. `classes`: the student's outputs. The
    latency is the middle of the prediction for the int8 network, as in `edgekd check`.

    Raises RecipeError where nothing is known about latencies on the device; GateFailed where the
    student keeps the target as it is, or cannot keep it even at its smallest widths; and
    UnsupportedNetwork for a student that cannot be pruned.
    """
    px, target = settings.data.input_px, settings.prune.target_ms
    reads, sides = loss_reading.of_recipe(settings), tuple(settings.ports.sides(px))
    asked = Asked(student, px, classes, profile.rules, sides, reads)
    multiple = settings.prune.multiple or profile.channel_multiple
    book = Sketchbook()

    def predicted(step: int) -> Prediction:
        """Of the student after a cut of step / GRAIN."""
        found = assess(book.draw(asked, step / GRAIN, multiple).graph, profile).predicted
        if found.latency_ms is None:
            raise RecipeError(
                f"prune.target_latency needs a predicted latency, and {student.name} has none on "
                f"{profile.name}: {found.basis}",
                "set prune.target_macs instead, for example --set prune.target_macs=0.65",
            )
        return found

    def keeps(found: Prediction) -> bool:
        return found.latency_ms is not None and found.latency_ms <= target

    goal = f"prune.target_latency is {settings.prune.target_latency}"
    what = f"{student.name} at {px} px is predicted to take"
    whole = predicted(0)
    if keeps(whole):
        raise GateFailed(
            f"{goal}, and {what} {whole.spoken} on {profile.name} without any pruning",
            "leave prune.target_latency out, or ask for less",
        )
    low, high = 0, round(MOST * GRAIN)
    cut = predicted(high)
    if not keeps(cut):
        raise GateFailed(
            f"{goal}, which pruning cannot reach on {profile.name}: {what} {cut.spoken} without "
            f"{MOST:.0%} of every group of channels, and {whole.spoken} as it is",
            "raise prune.target_latency, or choose a smaller student or a smaller input "
            "(--set data.input_px=64)",
        )
    # Bisection: latencies never rise with the ratio, because no coefficient of a latency model is
    # negative, and no feature grows when layers become narrower.
    while high - low > 1:
        middle = (low + high) // 2
        found = predicted(middle)
        if keeps(found):
            high, cut = middle, found
        else:
            low = middle
    return LatencyCut(target, high / GRAIN, whole, cut)
