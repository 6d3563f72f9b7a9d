"""The report's section on the certificate: each check, what it asks, what it found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgekd.core.records import present
from edgekd.reporting import charts
from edgekd.reporting.report_record import Report
from edgekd.reporting.sections import text as fmt

Block = dict[str, Any]
KINDS = 24  # histograms of single ops or kernels shown beside the end-to-end one
OP_BOUND = 1  # LSB that one op may be off by: rounding
# What each check of the certificate asks, for readers who have never seen one.
CHECKS = {
    "canonical": (
        "Form",
        (
            "Op versions, buffers and quantisation fields are written as TensorFlow's own converter writes them, which is what the "
            "strictest consumers were tested with."
        ),
    ),
    "shapes": (
        "Shapes",
        "Every tensor's shape follows from its op's inputs. A file that fails this is never run.",
    ),
    "structure": (
        "Structure",
        "Each op reads the tensors, and ends in the activation, that the trained graph has there.",
    ),
    "edges": (
        "Against the trained graph",
        (
            "Each op of the trained graph is fed the file's own inputs and must give the file's output within 1 LSB."
        ),
    ),
    "ranges": (
        "Ranges",
        (
            "Each activation in the file must carry the very scale (bit for bit) and zero point that training learnt. "
            "Otherwise the device computes another network than the one that was evaluated."
        ),
    ),
    "weights": (
        "Weights",
        "Each 8-bit weight in the file must be the code that training rounded to.",
    ),
    "op_local": (
        "Op by op",
        (
            "Each op is run alone on the file's own inputs and compared with exact integer arithmetic. Rounding may move a "
            f"result by {OP_BOUND} LSB, one step of its 8-bit scale; a wrong op moves it further."
        ),
    ),
    "end_to_end": (
        "End to end",
        (
            "The whole file against the trained int8 network on the same images. Single steps add up from layer to layer, "
            "so what counts is whether the chosen class is the same."
        ),
    ),
    "reference": (
        "Second runtime",
        "The same file in another runtime, as a witness that does not share our code.",
    ),
}


def certificate(report: Report) -> Block | None:
    """Each check with its verdict, and the histograms behind it."""
    certificate = present(report.certificate)
    if not certificate:
        return None
    failures = [
        {
            "check": failure.get("check", "check"),
            "place": next(
                (failure[where] for where in ("tensor", "op", "file") if failure.get(where)), ""
            ),
            "expected": failure.get("expected"),
            "found": failure.get("found"),
            "next_step": failure.get("next_step"),
        }
        for failure in certificate.get("failures") or []
    ]
    checks = []
    for key, (name, meaning) in CHECKS.items():
        block = certificate.get(key)
        if block is None and key != "reference":
            continue  # an older or a shorter certificate
        found, state = _check(key, block)
        if any(
            str(failure["check"]).replace("-", "_").replace(" ", "_").startswith(key)
            for failure in failures
        ):
            state = "bad"
        checks.append({"name": name, "meaning": meaning, "found": found, "state": state})
    return {
        "passed": bool(certificate.get("passed")),
        "checks": checks,
        "failures": failures[: fmt.LISTED],
        "more": max(0, len(failures) - fmt.LISTED),
        "runtime": certificate.get("runtime"),
        "sha256": certificate.get("model_sha256"),
        **_histograms(certificate),
    }


def _histograms(certificate: Mapping[str, Any]) -> Block:
    """The end-to-end histogram as a chart, and whatever other histograms the certificate holds, by where they stand."""
    found = dict(_every_histogram("", certificate))
    whole = found.pop("end_to_end", None)
    told = ", ".join(f"{count:,} by {name}" for name, count in (whole or {}).items())
    others = [
        {
            "name": name,
            "chart": charts.columns(
                counts,
                "LSB",
                f"{name}: differences in LSB: "
                + ", ".join(f"{count:,} by {lsb}" for lsb, count in counts.items()),
            ),
        }
        for name, counts in list(found.items())[:KINDS]
    ]
    return {
        "histogram": charts.columns(
            whole or {},
            "LSB",
            f"How far outputs of file and trained network lie apart, in LSB: {told}",
        ),
        "histograms": [other for other in others if other["chart"]],
        "hidden": max(0, len(found) - KINDS),
    }


def _every_histogram(where: str, block: Any) -> Iterator[tuple[str, dict[str, int]]]:
    """(place, counts) of each mapping under a key "histogram"; lists are named by what their rows call themselves."""
    if isinstance(block, Mapping):
        for key, value in block.items():
            if key == "histogram" and isinstance(value, Mapping):
                counts = {str(lsb): count for lsb, count in value.items() if isinstance(count, int)}
                if counts:
                    yield where or "all", counts
            else:
                yield from _every_histogram(f"{where}, {key}" if where else str(key), value)
    elif isinstance(block, Sequence) and not isinstance(block, str | bytes):
        for number, row in enumerate(block):
            own = next(
                (
                    row[key]
                    for key in ("op", "kernels", "family", "name")
                    if isinstance(row, Mapping) and key in row
                ),
                number,
            )
            yield from _every_histogram(f"{where}, {own}" if where else str(own), row)


def _check(key: str, block: Any) -> tuple[str, str]:
    """What a check found, in words, and "good", "bad", "open" (told, and no gate) or "none"."""
    found: Mapping[str, Any] = block if isinstance(block, Mapping) else {}
    told = {
        key: fmt.whole(value) if isinstance(value, int) else str(value)
        for key, value in found.items()
    }
    get = told.get
    if key == "ranges":
        words, worst = f"{get('identical')} of {get('tensors')} identical", found.get("worst")
        if found.get("identical") == found.get("tensors"):
            return words, "good"
        if isinstance(worst, Mapping) and worst.get("tensor"):
            words += (
                f"; the worst is {worst['tensor']}: scale off by a factor of "
                f"{fmt.cell(worst.get('scale_ratio'), 7)}, zero point by {fmt.cell(worst.get('zero_point_delta'))}"
            )
        return words, "bad"
    if key == "weights":
        same = found.get("identical_codes") == found.get("total_codes")
        words = f"{get('identical_codes')} of {get('total_codes')} codes identical, in {get('tensors')} tensors"
        return words, "good" if same else "bad"
    if key in ("op_local", "edges"):
        most, worst = found.get("max_lsb"), found.get("worst_op")
        worst = worst.get("op") if isinstance(worst, Mapping) else worst
        words = f"{get('ops' if key == 'op_local' else 'edges')} ops, {fmt.percent(found.get('share_exact'), 2)} of the "
        words += f"results exact, at most {fmt.cell(most)} LSB off" + (
            f" ({worst})" if most and worst else ""
        )
        return words, "good" if isinstance(most, int | float) and most <= OP_BOUND else "bad"
    if key == "canonical":
        return f"{get('deviations')} deviations", "good" if found.get("deviations") == 0 else "bad"
    if key in ("shapes", "structure"):
        return f"{get('ops')} ops follow", "good"  # a failure is listed, and turns this to bad
    if key == "end_to_end":
        same = "same class" if found.get("answers") in (None, "classes") else "same labels"
        words = f"{same} on {fmt.percent(found.get('argmax_agreement'))} of {get('images')} images; outputs differ by "
        return (
            words
            + f"{fmt.number(found.get('mean_abs_lsb'), 2)} LSB on average, at most {get('max_abs_lsb')}",
            "open",
        )
    if not found.get("runtime"):
        return "not run; it needs TensorFlow, edgekd's extra “reference”", "none"
    return (
        f"{get('runtime')}: same class on {fmt.percent(found.get('argmax_agreement'))} of the images",
        "open",
    )
