"""Measures how long the candidates of a search take to predict, and checks that they are right.

    python tools/measure_predictions.py time                  # all students x 4 sizes x 4 widths
    python tools/measure_predictions.py time --edits          # and the default choices of edits
    python tools/measure_predictions.py check [STUDENT...]    # against networks that are built

`time` predicts in a folder of its own, twice, each time in a process of its own on one thread.
`check` compares, for each student, the derived graph with that of the network that is built at that
size and width: operators, shapes, options, constants' sizes, bytes of the file, and what the device
makes of it. It takes some 15 s for each student.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

ONE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
SAMPLE = ((64, 0.0), (101, 0.0), (160, 0.5), (224, 0.25))  # (pixels, share pruned)


def main() -> int:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=("time", "check", "once"))
    parser.add_argument("students", nargs="*")
    parser.add_argument("--profile", default="pi4")
    parser.add_argument("--edits", action="store_true", help="with the default choices of edits")
    asked = parser.parse_args()
    if asked.what == "check":
        return check(asked.students, asked.profile)
    if asked.what == "once":
        print(predict(asked.profile, asked.edits))
        return 0
    print("| predictions | candidates | CPU seconds | seconds |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for what in ("first", "again"):
            before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            command = [sys.executable, __file__, "once", "--profile", asked.profile]
            done = subprocess.run(
                command + ["--edits"] * asked.edits,
                env={**os.environ, **ONE, "EDGEKD_SKETCHES": folder},
                capture_output=True,
                text=True,
                check=True,
            )
            wall = time.perf_counter() - start
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            print(f"| {what} | {done.stdout.strip()} | {cpu:.1f} | {wall:.1f} |")
    return 0


def predict(profile_name: str, edits: bool) -> str:
    """Predict the default space. Returns the number of candidates and of different networks."""
    from edgekd.search import predict, space
    from edgekd.settings.device_profiles import load_profile
    from edgekd.settings.recipe import Recipe

    profile = load_profile(profile_name)
    wanted = space.default()
    if not edits:
        kept = space.EditChoices(hard_swish=("",), squeeze_excite=("",))
        wanted = dataclasses.replace(wanted, edits=kept)
    candidates = space.candidates(wanted, profile)
    found = predict.forecasts(candidates, Recipe(), profile)
    return f"{len(candidates)}, {len(found)} different"


def check(students: Sequence[str], profile_name: str) -> int:
    """Compare derived graphs with built ones. Returns 1 where one differs."""
    from edgekd.assessment.assess import assess
    from edgekd.assessment.sketch import Asked
    from edgekd.assessment.sketches import Sketchbook
    from edgekd.assessment.untrained_cache import untrained_model
    from edgekd.core.errors import GateFailed, UnsupportedNetwork
    from edgekd.networks.planned_widths import narrowed
    from edgekd.search import space
    from edgekd.settings.compression_settings import PruneConfig
    from edgekd.settings.device_profiles import load_profile
    from edgekd.settings.model_specs import spec
    from edgekd.tflite.flatbuffer import LiteGraph, read

    def facts(graph: LiteGraph) -> object:
        tensors = [
            (one.name, one.shape, one.dtype, one.scale.size, one.data is None)
            for one in graph.tensors
        ]
        parameters = [
            one.data.tolist()
            for one in graph.tensors
            if one.data is not None and not one.scale.size
        ]
        return tensors, parameters, graph.ops, graph.inputs, graph.outputs

    profile = load_profile(profile_name)
    multiple, wrong = profile.channel_multiple, 0
    print("| student | pixels | pruned | file | derived |\n|---|---|---|---|---|")
    for name in students or space.default().students:
        book = Sketchbook()
        student = spec(name).edited(profile.edits)
        for px, ratio in SAMPLE:
            drawn = book.draw(Asked(student, px, 10, profile.rules), ratio, multiple)
            built = student
            try:
                if ratio:
                    built = narrowed(student, PruneConfig(ratio=ratio), multiple, 10, px)
            except (GateFailed, UnsupportedNetwork) as error:
                print(f"| {name} | {px} | {ratio:g} | | {error.what.splitlines()[0][:60]} |")
                continue
            data = untrained_model(built, px, 10, profile.rules)
            graph = read(data)
            equal = (
                facts(graph) == facts(drawn.graph)
                and len(data) == drawn.file_bytes
                and assess(graph, profile) == assess(drawn.graph, profile)
            )
            wrong += not equal
            verdict = "equal" if equal else "DIFFERS"
            print(f"| {name} | {px} | {ratio:g} | {len(data)} | {verdict} |", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
