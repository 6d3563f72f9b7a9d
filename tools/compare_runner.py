"""Compares the p50 latency of EdgeKD's runner with that of LiteRT's own Python benchmark tool.

    python tools/compare_runner.py MODEL.tflite... [--python PYTHON] [--rounds 7]

PYTHON needs ai-edge-litert 2.3 or newer, whose wheel has tools/benchmark_litert_model.py. That tool
times CompiledModel.run_by_name, and the runner times Interpreter.invoke. Both run in the same
Python with the same runtime. Each round runs both tools on a model, and the order changes from
round to round. Prints the median of the ratio of the two p50 values over the rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from edgekd.device import edgebench

TOOL = "ai_edge_litert.tools.benchmark_litert_model"


def runners_p50(python: str, model: Path, runs: int, out: Path) -> float:
    """The p50 of EdgeKD's runner in ms. `out`: the JSON file that the runner writes."""
    command = [python, "-I", edgebench.__file__, "--model", str(model), "--threads", "1"]
    command += ["--runs", str(runs), "--min-seconds", "0", "--json", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    return float(json.loads(out.read_text())["latency_ms"]["p50"])


def tools_p50(python: str, model: Path, runs: int, out: Path) -> float:
    """The p50 of LiteRT's tool in ms, which the tool rounds to 0.01 ms.

    Use models that take some milliseconds. `out`: the JSON file that the tool writes.
    """
    command = [python, "-I", "-m", TOOL, "--model", str(model), "--num_threads", "1"]
    command += ["--num_runs", str(runs), "--warmup_runs", "20", "--result_json", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    return float(json.loads(out.read_text())["latency"]["median_ms"])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument(
        "--python", default=sys.executable, help="default: the Python that runs this"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--runs", type=int, default=300, help="timed runs of each tool in a round")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        for model in arguments.models:
            rows = []
            for number in range(arguments.rounds):
                order = (runners_p50, tools_p50) if number % 2 == 0 else (tools_p50, runners_p50)
                found = {
                    measure: measure(arguments.python, model, arguments.runs, out)
                    for measure in order
                }
                rows.append((found[runners_p50], found[tools_p50]))
            ratios = [ours / theirs for ours, theirs in rows]
            print(
                f"{model.name}: runner {statistics.median(r[0] for r in rows):.3f} ms, "
                f"tool {statistics.median(r[1] for r in rows):.3f} ms; "
                f"ratio {statistics.median(ratios):.3f} "
                f"({min(ratios):.3f} to {max(ratios):.3f} in {len(rows)} rounds)"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
