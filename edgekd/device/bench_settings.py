"""How to measure: the settings of a bench, checked before anything is sent to a device."""

from __future__ import annotations

from dataclasses import dataclass

from edgekd.core.errors import RecipeError
from edgekd.device import edgebench


@dataclass(frozen=True)
class BenchSettings:
    """How to measure. Raises RecipeError for a value outside `edgebench.LIMITS`.

    Attributes:
        threads: threads of the runtime; None takes the profile's.
        runs: fewest measured runs.
        min_seconds: least time spent on measured runs.
        warmup_runs: most warm-up runs; they end earlier when the times have settled.
        seed: of the random input that is timed.
        timeout_s: limit in seconds for everything but a soak.
        mean: with std, the normalization of a model from elsewhere: one number, or one for each
            channel. With None for both, an 8-bit input takes the pixels as they are.
        std: see mean.
        delegate: a name that `edgebench.Delegate` knows.
        cores: keep the run on these cores.
        soak_minutes: after the timed runs, run on for this long to see whether the device
            throttles.
    """

    threads: int | None = None
    runs: int = 50
    min_seconds: float = 1.0
    warmup_runs: int = 100
    seed: int = 0
    timeout_s: float = 600.0
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    delegate: str = "auto"
    cores: tuple[int, ...] | None = None
    soak_minutes: float | None = None

    def __post_init__(self) -> None:
        for name, (low, high) in edgebench.LIMITS.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise RecipeError(
                    f"{name} is {value}; the runner takes {low:g} to {high:g}",
                    f"give a {name} between {low:g} and {high:g}",
                )

    @property
    def whole_s(self) -> float:
        """The runner's time limit in seconds, a soak included."""
        return self.timeout_s + 60.0 * (self.soak_minutes or 0.0)


DEFAULTS = BenchSettings()


def core_numbers(text: str | None) -> tuple[int, ...] | None:
    """The core numbers in a text such as "0-3" or "4,5"; None for None. Raises RecipeError."""
    try:
        return None if text is None else tuple(edgebench.core_list(text))
    except ValueError as error:
        raise RecipeError(
            f"--cores {text!r} is not a list of cores", "write it as 0-3 or 4,5"
        ) from error
