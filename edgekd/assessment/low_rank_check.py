"""What `prune.low_rank` makes of a student, and what the device makes of that, before training."""

from __future__ import annotations

from edgekd.assessment import layer_prices
from edgekd.assessment.assess import assess
from edgekd.assessment.check_record import LowRankBlock, PairRow, Prediction
from edgekd.assessment.untrained_cache import untrained_model
from edgekd.networks import low_rank
from edgekd.settings import loss_reading
from edgekd.settings.device_profiles import DeviceProfile
from edgekd.settings.model_specs import ModelSpec
from edgekd.settings.recipe import PruneConfig, Recipe
from edgekd.tflite.flatbuffer import read

CUT = "as it is after the cuts of channels"
BY_WEIGHTS = (
    'with prune.scope = "isomorphic" trained weights decide the widths, and random ones stand in '
    "for them here"
)


def block(
    settings: Recipe, student: ModelSpec, profile: DeviceProfile, classes: int
) -> LowRankBlock:
    """The pairs of a student, and its predicted latency without and with them.

    Where the settings cut channels, too, both are of the student after the cuts.

    Raises RecipeError for a device without a latency model; GateFailed where no layer is divided
    and no channel is cut, or where the cuts cannot be made; UnsupportedNetwork for a student that
    cannot be pruned.
    """
    from edgekd.networks import low_rank_plan, planned_ranks, planned_widths  # torch

    config, px = settings.prune, settings.data.input_px
    multiple = config.multiple or profile.channel_multiple
    prices = layer_prices.of(profile)
    if config.cuts:
        reads = loss_reading.of_recipe(settings)
        student = planned_widths.narrowed(student, config, multiple, classes, px, reads)
    plan = planned_ranks.planned(student, config, multiple, px, classes, prices)
    if not config.cuts:
        low_rank_plan.check_gains(plan)

    def predicted(spec: ModelSpec) -> Prediction:
        sides = settings.ports.sides(px)
        return assess(
            read(untrained_model(spec, px, classes, profile.rules, sides)), profile
        ).predicted

    return LowRankBlock(
        share=config.low_rank,
        pairs=[PairRow(**one.row()) for one in plan.divided],
        kept_whole=plan.kept_whole,
        before=predicted(student),
        after=predicted(student.with_options({low_rank.KEY: plan.ranks})),
        notes=_notes(config),
    )


def _notes(config: PruneConfig) -> list[str]:
    if not config.cuts:
        return []
    return [CUT] if config.scope == "local" else [CUT, BY_WEIGHTS]
