"""Fits the latency models of the device profiles, and prints their errors.

    python tools/fit_profile.py
    python tools/fit_profile.py pi4 --check

Reads device_profiles/NAME.latency.csv and writes device_profiles/NAME.latency.json, for the named
profiles or for all of them. With --check it writes nothing, and exits 1 if a file differs from the
fit.

The printed errors are of rows that the fit did not see: 5 folds over 20 shuffles, then each family
of networks predicted from the other families. tools/score_latency.py scores the sources that were
not fitted.
"""

from __future__ import annotations

import argparse
import csv
import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from edgekd.assessment.latency import files, sources
from edgekd.assessment.latency.fit import Row
from edgekd.assessment.latency.fit import fit as fit_model
from edgekd.assessment.latency.model import (
    Conditions,
    Factor,
    LatencyModel,
    assumed_factor,
    measured_factor,
)
from edgekd.assessment.latency.sources import Source
from edgekd.core.records import present

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
# The conditions that a profile's predictions are for, where they are not those of the fit: those of
# the newest source with the kernels that LiteRT runs by default.
FOR = {"pi4": ("Raspberry Pi 4B 4GB (aarch64)", "cpu:tflite-2.18-xnnpack")}
# The boards of these profiles, as their predictions name them.
BOARD = {
    "pi4": "Raspberry Pi 4B",
    "pi5": "Raspberry Pi 5",
    "pi3": "Raspberry Pi 3B",
    "pi-zero-2w": "Raspberry Pi Zero 2 W",
}
KERNELS = {"ruy": "ruy", "xnnpack": "XNNPACK"}
ALL_CORES = 4  # what XNNPACK's README means by "all" on a Raspberry Pi 4
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
        if side in ("over", "under") and row["precision"] == precision:
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


def conditions(row: Mapping[str, str]) -> Conditions:
    """How a row was measured, from its runtime, such as "cpu:tflite-2.18-xnnpack"."""
    match = re.fullmatch(r"(?:cpu:)?(?:tflite-([\d.]+))?-?(ruy|xnnpack)?", row["runtime"])
    threads = ALL_CORES if row["threads"] == "all" else int(row["threads"] or 1)
    if not match:
        return Conditions(row["device"], row["runtime"], "", threads)
    version, kernels = match.groups()
    runtime = f"TFLite {version}" if version else "TFLite, version not stated"
    if kernels and not version:
        runtime = "the library's own benchmark of 2022"
    return Conditions(row["device"], runtime, KERNELS.get(kernels or "", ""), threads)


def own_conditions(rows: list[dict[str, str]], precision: str) -> Conditions:
    """How the rows were measured that the fit rests on."""
    return conditions(
        next(row for row in rows if row["use"] == "fit" and row["precision"] == precision)
    )


def measured_sources(
    rows: list[dict[str, str]], precision: str, model: LatencyModel
) -> dict[tuple[str, str], Source]:
    """{(device, runtime): source} of the rows with the use `other`."""
    bare, found = msgspec.structs.replace(model, factors=()), dict[tuple[str, str], Source]()
    for place in dict.fromkeys((row["device"], row["runtime"]) for row in rows):
        own = [row for row in rows if (row["device"], row["runtime"]) == place]
        known = fit_rows(own, precision, "other")
        if known:
            first = next(row for row in own if row["use"] == "other")
            logs = {r.model: math.log(r.latency_ms / bare.cost(r.features)) for r in known}
            found[place] = Source(
                conditions(first), logs, tuple(dict.fromkeys(row.source for row in known))
            )
    return found


def thread_factors(rows: list[dict[str, str]], precision: str) -> dict[str, Factor]:
    """{threads: factor over the largest number} of the rows with the use `threads:N`."""
    counted: dict[str, dict[str, dict[str, str]]] = {}
    for row in rows:
        side, _, count = row["use"].partition(":")
        if side == "threads" and row["precision"] == precision:
            counted.setdefault(count, {})[row["model"]] = row
    most = max(counted, default="")
    return {
        count: measured_factor(
            f"{count} thread{'s' if count != '1' else ''} over {most}",
            {
                model: float(row["latency_ms"]) / float(counted[most][model]["latency_ms"])
                for model, row in by_model.items()
            },
            tuple(dict.fromkeys(row["source"] for row in by_model.values())),
        )
        for count, by_model in counted.items()
        if count != most
    }


def _for(profile: str, rows: list[dict[str, str]], model: LatencyModel) -> LatencyModel:
    """The model with the factors to the conditions that the profile's predictions are for."""
    known = measured_sources(rows, model.precision, model)
    if profile not in FOR or FOR[profile] not in known:
        return model
    own = own_conditions(rows, model.precision)
    target = known[FOR[profile]]
    every = list(known.values())
    apart = sources.between(every, own)
    learnt = (sources.factor(target, every, own), *([apart] if apart else []))
    at = msgspec.structs.replace(target.conditions, board=BOARD[profile])
    return msgspec.structs.replace(model, factors=(*model.factors, *learnt), conditions=at)


def fit(profile: str) -> dict[str, LatencyModel]:
    """{precision: model} of a profile."""
    rows, models = read_rows(profile), dict[str, LatencyModel]()
    base = fit(BASE[profile]) if profile in BASE else {}
    for precision in ("int8", "fp32"):
        own, ratios = fit_rows(rows, precision), factors(rows, precision)
        if profile in ASSUMED:
            ratios.append(ASSUMED[profile])
        if own:
            at = own_conditions(rows, precision)
            place = next(row for row in rows if row["use"] == "fit")
            model = fit_model(
                own, place["device"], place["runtime"], at.threads, precision, factors=ratios
            )
            model = _for(profile, rows, model)
        elif precision in base and ratios:
            model = base[precision]
            there = present(model.conditions)
            model = msgspec.structs.replace(
                model,
                factors=(*model.factors, *ratios),
                conditions=msgspec.structs.replace(there, board=BOARD[profile])
                if there
                else msgspec.UNSET,
            )
        else:
            continue
        by_threads = thread_factors(rows, precision) or present(model.by_threads)
        models[precision] = msgspec.structs.replace(model, by_threads=by_threads or msgspec.UNSET)
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
        if path.exists() and files.same(models, files.read(path)):
            continue
        if arguments.check:
            stale.append(path.name)
        else:
            path.write_text(text, encoding="utf-8")
    if stale:
        print(
            f"{', '.join(stale)} differ from the fit; run: python tools/fit_profile.py",
            file=sys.stderr,
        )
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
