"""Fits the latency models of the device profiles, and prints their errors.

    python tools/fit_profile.py
    python tools/fit_profile.py pi4 --check

Reads device_profiles/NAME.latency.csv and writes device_profiles/NAME.latency.json, for the named
profiles or for all of them. With --check it writes nothing, and exits 1 if a file differs from the
fit.

The printed errors are of rows that the fit did not see: 5 folds over 20 shuffles, then each family
of networks predicted from the other families.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from edgekd.assessment.latency import files
from edgekd.assessment.latency.fit import Row
from edgekd.assessment.latency.fit import fit as fit_model
from edgekd.assessment.latency.model import (
    Factor,
    LatencyModel,
    assumed_factor,
    measured_factor,
)

PROFILES = Path(__file__).resolve().parent.parent / "device_profiles"
META = (
    "use",
    "precision",
    "device",
    "runtime",
    "threads",
    "model",
    "family",
    "input_px",
    "latency_ms",
    "source",
)
# A profile without fitted rows has the model of another profile, times the ratios in its own rows.
BASE = {"pi5": "pi4", "pi3": "pi4", "pi-zero-2w": "pi3", "coral-pcie": "coral-dev-board"}
# Devices without published measurements: an assumed factor with its (value, low, high).
ASSUMED = {
    "pi-zero-2w": assumed_factor(
        "Zero 2 W over Pi 3B, by clock (1.2 over 1.0 GHz, the same cores)",
        (1.2, 1.0, 1.6),
        ("raspberrypi/documentation processors/rp3a0.adoc, bcm2837.adoc",),
    ),
    "coral-pcie": assumed_factor(
        "another host than the Dev Board's, same chip and PCIe link",
        (1.0, 0.8, 1.25),
        ("coral.ai M.2 and Mini PCIe data sheets: PCIe Gen2 x1, as on the Dev Board",),
    ),
}


def read_rows(profile: str) -> list[dict[str, str]]:
    """The rows of a profile's .latency.csv; none if there is no such file."""
    path = PROFILES / f"{profile}.latency.csv"
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def factors(rows: list[dict[str, str]], precision: str) -> list[Factor]:
    """One factor for each WHAT among rows with the use `over:WHAT` and `under:WHAT`."""
    halves: dict[str, dict[str, dict[str, float]]] = {}
    sources: dict[str, list[str]] = {}
    for row in rows:
        side, _, what = row["use"].partition(":")
        if what and row["precision"] == precision:
            halves.setdefault(what, {}).setdefault(row["model"], {})[side] = float(
                row["latency_ms"]
            )
            sources.setdefault(what, []).append(row["source"])
    return [
        measured_factor(
            what,
            {model: pair["over"] / pair["under"] for model, pair in pairs.items()},
            tuple(dict.fromkeys(sources[what])),
        )
        for what, pairs in halves.items()
    ]


def fit_rows(rows: list[dict[str, str]], precision: str, use: str = "fit") -> list[Row]:
    """The rows with features: those to fit ("fit"), or those that only test the fit ("other")."""
    return [
        Row(
            row["model"],
            row["family"],
            {key: float(value) for key, value in row.items() if key not in META},
            float(row["latency_ms"]),
            row["source"],
        )
        for row in rows
        if row["use"] == use and row["precision"] == precision
    ]


def elsewhere(rows: list[dict[str, str]], precision: str, model: LatencyModel) -> list[str]:
    """One line for each other runtime or board: errors and coverage of the model without factors.

    The coverage is the share of measured latencies that lie in the model's interval.
    """
    bare = msgspec.structs.replace(model, factors=())
    lines = []
    for place in dict.fromkeys(
        (row["device"], row["runtime"]) for row in rows if row["use"] == "other"
    ):
        own = fit_rows(
            [row for row in rows if (row["device"], row["runtime"]) == place], precision, "other"
        )
        told = [bare.predict(row.features) for row in own]
        wrong = [abs(1 - p.latency_ms / row.latency_ms) for p, row in zip(told, own, strict=True)]
        held = sum(
            p.low_ms <= row.latency_ms <= p.high_ms for p, row in zip(told, own, strict=True)
        )
        lines.append(
            f"  on {place[0]}, {place[1]}, never fitted: mean {sum(wrong) / len(wrong):.1%}, "
            f"worst {max(wrong):.1%}; intervals hold {held / len(own):.1%} of {len(own)}"
        )
    return lines


def fit(profile: str) -> dict[str, LatencyModel]:
    """{precision: model} of a profile."""
    rows, models = read_rows(profile), dict[str, LatencyModel]()
    base = fit(BASE[profile]) if profile in BASE else {}
    for precision in ("int8", "fp32"):
        own, ratios = fit_rows(rows, precision), factors(rows, precision)
        if profile in ASSUMED:
            ratios.append(ASSUMED[profile])
        if own:
            first = next(
                row for row in rows if row["use"] == "fit" and row["precision"] == precision
            )
            models[precision] = fit_model(
                own,
                first["device"],
                first["runtime"],
                int(first["threads"] or 1),
                precision,
                factors=ratios,
            )
        elif precision in base and ratios:
            models[precision] = msgspec.structs.replace(
                base[precision], factors=(*base[precision].factors, *ratios)
            )
    return models


def show(profile: str, models: Mapping[str, LatencyModel]) -> None:
    """Print the errors, factors and coefficients of a profile's models."""
    for precision, model in models.items():
        found = model.errors
        across = "-" if found.family_mean is None else f"{found.family_mean:.1%}"
        print(
            f"{profile} {precision}: {model.basis()}\n"
            f"  5-fold mean {found.mean:.1%}, worst {found.worst:.1%}; across families mean "
            f"{across}; 90 % intervals hold {found.coverage:.1%} of unseen rows; "
            f"half-width x{math.exp(model.near):.2f} near, x{math.exp(model.far):.2f} far"
        )
        for line in elsewhere(read_rows(profile), precision, model):
            print(line)
        for factor in model.factors:
            print(
                f"  factor {factor.value:.3f}, spread x{math.exp(factor.spread):.2f}: {factor.what}"
            )
        print(
            "  "
            + ", ".join(f"{name} {cost * 1e6:.3g} ns" for name, cost in model.coefficients.items())
        )


def main() -> int:
    """Fit, print, and write or compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument(
        "--check", action="store_true", help="compare with the files instead of writing them"
    )
    arguments = parser.parse_args()
    known = sorted(
        {
            *BASE,
            *(path.name.removesuffix(".latency.csv") for path in PROFILES.glob("*.latency.csv")),
        }
    )
    stale = []
    for profile in arguments.names or known:
        if profile not in known:
            parser.error(f"{profile} has no rows; known: {', '.join(known)}")
        models = fit(profile)
        show(profile, models)
        path, text = PROFILES / f"{profile}.latency.json", files.write(models)
        if not arguments.check:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or not files.same(models, files.read(path)):
            stale.append(path.name)
    if stale:
        print(
            f"{', '.join(stale)} differ from the fit; run: python tools/fit_profile.py",
            file=sys.stderr,
        )
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
