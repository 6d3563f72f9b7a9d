"""Reads the recipe's setting qat.pin: activation ranges that are fixed at percentiles."""

from __future__ import annotations

from edgekd.core.errors import RecipeError

EVERY = "*"  # every edge that is not named


def parse(text: str) -> dict[str, float]:
    """{edge or EVERY: percentile}, from text such as "EDGE=99.9, *=99.99". Raises RecipeError."""
    found: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.rpartition("=")
        try:
            percentile = float(value)
        except ValueError:
            percentile = 0.0
        if not equals or not name.strip() or not 50 < percentile <= 100:
            raise RecipeError(
                f"qat.pin: {part!r} is not EDGE=PERCENTILE with a percentile above 50 and at most "
                "100",
                'for example --set "qat.pin=conv_stem=99.9"; * names every edge',
            )
        found[name.strip()] = percentile
    return found
