"""What a pointwise layer costs on a device, from the latency model of its profile."""

from __future__ import annotations

from edgekd.assessment.prediction import Pricing, pricing
from edgekd.assessment.workload import Work
from edgekd.core.errors import RecipeError
from edgekd.networks.low_rank_plan import LayerPrices
from edgekd.settings.device_profiles import DeviceProfile

# How much of one kind of work is priced at once. The model is linear; large amounts keep digits.
AMOUNT = 1_000_000


def of(profile: DeviceProfile) -> LayerPrices:
    """The prices on a profile's device in int8.

    Parameters that an Edge TPU streams on every inference are not counted: which ones these are is
    a property of the whole network.

    Raises RecipeError for a device without measurements, and ProfileError for a broken latency
    file.
    """
    found = pricing(profile, "int8")
    if found is None:
        raise RecipeError(
            f"prune.low_rank needs a latency model of {profile.name}, which says where two layers "
            f"are faster than one, and there is none: {profile.sources['latency']}",
            "leave prune.low_rank out, or fit a model to your own device: edgekd profiles fit "
            f"{profile.name} bench/*.json",
        )
    op = _price(found)

    def each(kind: str = "", macs: int = 0, parameters: int = 0, moved: int = 0) -> float:
        return (_price(found, kind, macs, parameters, moved) - op) / AMOUNT

    return LayerPrices(
        pointwise_mac=each("pointwise", macs=AMOUNT),
        vector_mac=each("fc", macs=AMOUNT),
        parameter_byte=each(parameters=AMOUNT),
        moved_byte=each(moved=AMOUNT),
        op=op,
    )


def _price(
    found: Pricing, kind: str = "", macs: int = 0, parameters: int = 0, moved: int = 0
) -> float:
    """Milliseconds of one CONV_2D with so much work."""
    return found.one(Work(0, "CONV_2D", kind, macs, parameters, moved, spatial=True, channels=1))
