"""A finished build's report as JSON, with every block, and a second build to compare it with."""

from __future__ import annotations

import base64
import copy
from collections.abc import Collection
from typing import Any

from edgekd.core.records import from_json
from edgekd.evaluation.examples import Example
from edgekd.reporting.html_report import page
from edgekd.reporting.report_record import Report
from tests.html_reader import HOSTILE, Page

SHA = "0123456789abcdef" * 4
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)


def stage(name: str, top1: float, before: float | None = 0.97, **judged: Any) -> dict[str, Any]:
    """A stage of the waterfall."""
    return {
        "stage": name,
        "top1": top1,
        "top1_ci95": [top1 - 0.031, top1 + 0.027],
        "auc": top1 + 0.04,
        "auc_ci95": [top1 + 0.01, top1 + 0.06],
        "agree_with_previous": before,
        "flips_bad": 11,
        "flips_good": 4,
        **judged,
    }


def judged(state: str, change: float, margin: float = 3.2) -> dict[str, Any]:
    """The fields of every stage but the first."""
    flip = {
        "name": "test/normal/b.png",
        "label": "normal",
        "was": "normal",
        "now": "pneumonia",
        "margin_lsb": margin,
    }
    return {
        "state": state,
        "verdict": f"lost {-change}",
        "budget": {"top1": 0.005, "auc": 0.003},
        "change": {
            "top1": change,
            "top1_ci95": [change - 0.012, change + 0.011],
            "top1_p": 0.4,
            "auc": change / 2,
            "auc_ci95": [change / 2 - 0.004, change / 2 + 0.003],
        },
        "flipped": {"bad": [flip], "good": [{**flip, "name": "c.png", "margin_lsb": None}]},
    }


WHY = {
    "schema": "edgekd.why/1",
    "split": "val",
    "images": 256,
    "calibration": 64,
    "seed": 0,
    "seconds": 71.5,
    "tried": 42,
    "candidates": [],
    "reading": "Look at the ops below.",
    "whole": {"kl": 0.0371, "kl_ci95": [0.03, 0.04], "top1": -0.012, "auc": -0.004},
    "training": {"kl": 0.001, "kl_ci95": [0, 0.01], "top1": 0, "auc": 0},
    "ops": [
        {
            "name": f"blocks.{number}.conv",
            "op": "DEPTHWISE_CONV_2D",
            "part": "weights" if number == 0 else None,
            "shares_range_with": [],
            "alone": {
                "kl": 0.02 / (number + 1),
                "kl_ci95": [0.01 / (number + 1), 0.03 / (number + 1)],
                "top1": -0.008,
                "auc": -0.002,
            },
            "without": {"kl": 0.01, "kl_gained": 0.0123, "top1_gained": 0.004, "rank": number + 1},
        }
        for number in range(15)
    ],
    "remedies": [
        {
            "kind": "tighter range",
            "what": "blocks.0.conv",
            "text": "Give it a tighter range.",
            "next_step": '--set "qat.pin=blocks.0.conv=99.9"',
            "bound": False,
            "kl_before": 0.0371,
            "kl_after": 0.0123,
            "kl_gain_ci95": [0.02, 0.03],
            "sure": True,
            "top1": 0.008,
            "auc": 0.001,
        },
        {
            "kind": "another op",
            "what": "blocks.1.conv",
            "text": "Replace it.",
            "next_step": "another student",
            "bound": True,
            "kl_before": 0.0371,
            "kl_after": 0.03,
            "kl_gain_ci95": [-0.001, 0.03],
            "sure": False,
            "top1": 0.0,
            "auc": 0.0,
        },
    ],
}


def bench(**changes: Any) -> dict[str, Any]:
    """A measurement on a PC."""
    samples = [1.5 + 0.01 * number for number in range(99)] + [9.876]
    return {
        "schema": "edgekd.bench/1",
        "model_sha256": SHA,
        "runner_version": "1",
        "profile": "host",
        "transport": "local",
        "emulated": False,
        "warnings": ["the governor is not known"],
        "runtime": {
            "name": "ai_edge_litert",
            "version": "2.1.2",
            "delegate": "XNNPACK",
            "threads": 2,
        },
        "host": {
            "machine": "x86_64",
            "cpu": "Xeon 8481C",
            "cores": 2,
            "kernel": "6",
            "python": "3.12",
            "governor": None,
            "clock_khz": None,
            "temperature_c": None,
            "throttled": None,
            "before": {"clock_khz": None, "temperature_c": None},
        },
        "settings": {
            "warmup_runs": 5,
            "runs": 100,
            "min_seconds": 1.0,
            "seed": 0,
            "cores": None,
        },
        "latency_ms": {
            "load": 13.37,
            "first": 4.44,
            "p50": 1.99,
            "p90": 2.39,
            "p95": 2.44,
            "p99": 2.48,
            "mean": 2.07,
            "std": 0.8,
            "min": 1.5,
            "max": 9.876,
            "samples": samples,
        },
        "memory_kib": {"baseline": 40960, "after_load": 46080, "peak": 51200},
        "golden": {"images": 32, "argmax_agreement": 1.0, "max_abs_lsb": 0, "top1": 0.875},
        "output_sha256": SHA,
        "soak": None,
        **changes,
    }


def kernels(exact: float, histogram: list[int]) -> dict[str, Any]:
    """One kernel family's row in the certificate's check operator by operator."""
    return {
        "ops": 66,
        "max_lsb": 1,
        "share_exact": exact,
        "worst_op": WORST_OP,
        "histogram": histogram,
    }


WORST_OP = {"op": "MEAN #65 -> pool", "max_lsb": 1, "share_exact": 0.31}
CERTIFICATE = {
    "schema": "edgekd.certificate/1",
    "model_sha256": SHA,
    "onnx_sha256": SHA,
    "runtime": "ai_edge_litert 2.1.2",
    "passed": True,
    "bound": None,
    "correspondence": {},
    "ranges": {
        "tensors": 71,
        "identical": 71,
        "worst": {"tensor": None, "scale_ratio": 1.0, "zero_point_delta": 0},
    },
    "weights": {"tensors": 53, "identical_codes": 691376, "total_codes": 691376},
    "biases": {"tensors": 53, "identical_codes": 7044, "total_codes": 7044},
    "canonical": {"deviations": 0},
    "shapes": {"ops": 66},
    "structure": {"ops": 65},
    "edges": {"edges": 65, "max_lsb": 1, "share_exact": 0.9974, "worst_op": WORST_OP},
    "op_local": {
        "ops": 66,
        "max_lsb": 1,
        "share_exact": 0.99999,
        "worst_op": WORST_OP,
        "images": 4,
        "families": {},
    },
    "end_to_end": {
        "images": 624,
        "answers": "classes",
        "argmax_agreement": 0.9968,
        "mean_abs_lsb": 0.42,
        "max_abs_lsb": 6,
        "histogram": {"0": 14_321, "1": 905, "2": 17, "3": 0, "8+": 2},
        "families": {},
    },
    "reference": {"runtime": None, "argmax_agreement": None},
    "failures": [],
    "failures_total": 0,
}
FAILURE = {
    "check": "ranges",
    "tensor": "block_3/expand/Relu6",
    "expected": "scale 0.0235",
    "found": "scale 0.0236",
    "next_step": "convert again",
}


def whole() -> dict[str, Any]:
    """A finished build's report."""
    epochs = [
        {"epoch": epoch, "loss": 1 / epoch, "top1": 1 - 0.4 / epoch, "auc": 1 - 0.2 / epoch}
        for epoch in range(1, 7)
    ]
    return copy.deepcopy(
        {
            "schema": "edgekd.report/1",
            "edgekd": "0.1.0",
            "profile": "pi4",
            "seed": 3,
            "gates": [],
            "data": {
                "name": "chest",
                "digest": SHA,
                "classes": ["normal", "pneumonia"],
                "train": 900,
                "val": 100,
                "test": 200,
                "licence": "CC BY 4.0",
                "source": "https://example.org/chest",
                "synthetic": False,
                "warnings": ["7 groups have images in train and in test"],
                "skipped": [],
                "ignored": {"hidden": 3},
                "counts": {
                    "train": {"normal": 400, "pneumonia": 500},
                    "val": {"normal": 50, "pneumonia": 50},
                    "test": {"normal": 90, "pneumonia": 110},
                },
                "fit": "squash",
                "seed": 3,
                "groups": {"train": 800, "val": 90, "test": 150},
                "duplicates": {
                    "images": 0,
                    "across_splits": 0,
                    "across_classes": 0,
                    "dropped": 0,
                },
            },
            "stages": [
                {"stage": "data", "key": SHA, "digest": SHA[::-1], "seconds": 12.3, "cached": True},
                {
                    "stage": "bench",
                    "key": SHA,
                    "digest": SHA[::-1],
                    "seconds": 125.0,
                    "cached": False,
                },
            ],
            "models": {
                "teacher": {
                    "arch": "vit_small",
                    "name": "vit_small",
                    "params": 21_600_000,
                    "macs": 2_210_000_000,
                    "input": [140, 140, 3],
                    "weights": "file",
                    "licence": "Apache-2.0",
                    "steps": [
                        {
                            "step": "linear head on the class token",
                            "top1": 0.91,
                            "auc": 0.951,
                            "cross_entropy": 0.25,
                            "held_out": 0.31,
                            "kept": False,
                        },
                        {
                            "step": "linear head on the mean of the patch tokens",
                            "top1": 0.935,
                            "cross_entropy": 0.2,
                            "kept": True,
                        },
                    ],
                },
                "student": {
                    "arch": "mobilenetv2_050",
                    "name": "mobilenetv2_050",
                    "params": 689_000,
                    "macs": 18_100_000,
                    "input": [96, 96, 3],
                    "weights": "random",
                    "licence": "",
                },
            },
            "training": {"teacher": epochs, "distil": epochs, "qat": epochs[:1]},
            "accuracy": {
                "split": "test",
                "n": 200,
                "metric": "top1",
                "waterfall": [
                    stage("teacher", 0.931, None, state="first"),
                    stage("student", 0.894, **judged("within", -0.037)),
                    stage("qat", 0.887, **judged("unclear", -0.007)),
                    stage("onnx", 0.886, **judged("within", -0.001)),
                    stage("tflite", 0.8812, **judged("beyond", -0.0048)),
                ],
                "paired": {
                    "method": "paired bootstrap",
                    "paper": "Efron 1986",
                    "draws": 1000,
                    "seed": 0,
                    "test": "exact McNemar test",
                },
                "verdict": {
                    "stage": "tflite",
                    "state": "bad",
                    "text": "The TFLite conversion lost it.",
                    "notes": ["QAT may have, too."],
                    "next_step": None,
                },
                "device": {
                    "stage": "device",
                    "profile": "pi4",
                    "emulated": False,
                    "n": 32,
                    "top1": 0.844,
                    "top1_ci95": [0.68, 0.93],
                    "agree_with_previous": 0.9688,
                    "max_abs_lsb": 3,
                    "state": "within",
                    "verdict": "The device: 1 of 32 stored images got another answer",
                },
                "confusion": {"classes": ["normal", "pneumonia"], "counts": [[72, 18], [6, 104]]},
            },
            "artifact": {
                "path": "model.tflite",
                "sha256": SHA,
                "bytes": 1_048_576,
                "full_integer": True,
                "ops": {"CONV_2D": 35, "SOFTMAX": 1, "ADD": 10},
                "input": {
                    "name": "i",
                    "dtype": "int8",
                    "shape": [1, 96, 96, 3],
                    "scale": 0.0186,
                    "zero_point": -14,
                },
                "output": {
                    "name": "o",
                    "dtype": "int8",
                    "shape": [1, 2],
                    "scale": 0.112,
                    "zero_point": 3,
                },
            },
            "device": {
                "predicted": {
                    "latency_ms": None,
                    "low_ms": None,
                    "high_ms": None,
                    "basis": "no latency model yet",
                },
                "memory": {
                    "file_bytes": 1_048_576,
                    "arena_bytes": 65_536,
                    "parameter_bytes": 700_000,
                    "busiest_op_bytes": 65_536,
                },
                "mapped": {
                    "ops": 46,
                    "mapped": 45,
                    "share_of_macs": 1.0,
                    "consumer": "ai-edge-litert",
                    "origin": "predicted",
                    "partitions": 1,
                    "ends_at": None,
                    "float_islands": [],
                    "fallback": [
                        {"op": "SOFTMAX", "index": 45, "status": "not delegated", "why": ""}
                    ],
                },
            },
            "certificate": CERTIFICATE,
            "bench": [bench()],
            "why": WHY,
        }
    )


EXAMPLES = [
    Example(
        PNG,
        "test/normal/a.png",
        "normal",
        {
            "teacher": ("normal", 0.91),
            "student": ("normal", 0.62),
            "qat": ("normal", 0.6),
            "onnx": ("normal", 0.6),
            "tflite": ("pneumonia", 0.53),
        },
        "student and int8 differ, int8 is wrong",
        {"teacher": PNG, "tflite": PNG},
    )
]


# Fields with a fixed set of values, which no text from outside can be in.
FIXED = {"schema", "state", "metric", "labels", "origin", "answers", "kind", "part"}


def every_text(value: Any, key: str = "", fixed: Collection[str] = FIXED) -> Any:
    """The same record with every text hostile that could come from outside.

    `fixed`: fields that have one of a few values.
    """
    if isinstance(value, dict):
        return {name: every_text(item, name, fixed) for name, item in value.items()}
    if isinstance(value, list):
        return [every_text(item, key, fixed) for item in value]
    return HOSTILE + value if isinstance(value, str) and key not in fixed else value


def other() -> dict[str, Any]:
    """A build of the same data that is smaller, faster and worse."""
    body = whole()
    body["accuracy"]["waterfall"] = body["accuracy"]["waterfall"][1:]
    body["accuracy"]["waterfall"][-1] |= {"top1": 0.801, "top1_ci95": [0.75, 0.84]}
    body["artifact"] |= {"bytes": 524_288, "ops": {"CONV_2D": 20, "MEAN": 1}}
    body["models"] = {"student": {**body["models"]["student"], "arch": "mobilenetv1_025"}}
    run = bench()
    body["bench"] = [
        {**run, "latency_ms": {**run["latency_ms"], "p50": 0.995}},
        bench(emulated=True),
    ]
    return body


def report(body: dict[str, Any]) -> Report:
    """The record of a report's JSON."""
    return from_json(Report, body, "the sample report")


def shown(body: dict[str, Any], examples: list[Example] | None = None) -> Page:
    """A report's page, read."""
    return Page(page(report(body), examples or []))
