"""The bundle: everything an app needs around the model, with the proof and the papers, as {path: bytes}. Writes nothing.

    model.tflite          uint8 ports and TFLite Metadata around the certified int8 network
    model_float32.tflite  the same network behind float32 ports
    labels.txt  deployment.json  confidence.json  golden/  golden.npz
    certificate.json  report.json  report.html  lineage.json  licences.json  sbom.cdx.json  README.md (the model card)
    samples/              Android, Raspberry Pi, web, C++: made for this very model
    manifest.json         sha256 and size of every other file

Equal artifacts give equal bytes: nothing here knows a date, a path or a machine.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

import edgekd
from edgekd.bundle import deployment, hash_chain, lineage_record, model_card, samples, sbom
from edgekd.bundle.licences_record import LicenceChain
from edgekd.bundle.lineage_record import BundleLineage, ChainLink
from edgekd.core.artifacts import Json, Packed, canonical_json, sha256
from edgekd.core.errors import ModelFileError
from edgekd.core.records import from_json, to_json
from edgekd.core.store import facts_json
from edgekd.settings.recipe import CardConfig
from edgekd.tflite import model_metadata, ports, runtime

SCHEMA = "edgekd.bundle/1"
MODEL, FLOAT_MODEL = "model.tflite", "model_float32.tflite"
# enum ScoreTransformationType: IDENTITY, and LOG of a softmax's p
TRANSFORMATIONS = {"logits": 0, "labels": 0, "probabilities": 1}
TOLD_THRESHOLDS = 5  # in the description, which people read; deployment.json holds every one
FORMS = {MODEL: "uint8", FLOAT_MODEL: "float32"}
LABELS, CALIBRATION, DEPLOYMENT = "labels.txt", "score_calibration.csv", "deployment.json"


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a bundle is made of. `tflite`: the certified file, bare. `images`: uint8 [n, px, px, c], the test split, with
    `codes` int8 [n, k] the certified file's answers. `golden`: rows of these that travel; `truth`: labels of all.
    `links`: lineage.stage_links of the build.
    """

    name: str
    classes: list[str]
    fit: str
    tflite: bytes
    certificate: Mapping[str, Any]
    confidence: Mapping[str, Any]
    report: Mapping[str, Any]
    report_html: str
    licences: LicenceChain
    links: list[ChainLink]
    card: CardConfig
    golden_npz: bytes
    images: np.ndarray
    codes: np.ndarray
    truth: np.ndarray
    golden: list[int]


def assemble(parts: Parts) -> dict[str, bytes]:
    """Every file of the bundle. Raises ModelFileError when a form of the model answers otherwise than the certified file."""
    facts = _facts(parts)
    contract = deployment.deployment(facts)
    files: dict[str, bytes] = {
        LABELS: "".join(f"{label}\n" for label in parts.classes).encode(),
        DEPLOYMENT: facts_json(contract),
    }
    forms: dict[str, dict[str, Json]] = {}
    for name, form in FORMS.items():
        files[name] = model_metadata.attach(
            ports.with_ports(parts.tflite, form),
            metadata(parts, contract),
            {
                LABELS: "\n".join(parts.classes).encode(),
                DEPLOYMENT: files[DEPLOYMENT],
                CALIBRATION: score_calibration(parts),
            },
        )
        _same_answers(files[name], name, contract, parts)
        forms[name] = {
            "sha256": sha256(files[name]),
            "ports": form,
            "answers": {"images": len(parts.images), "identical": len(parts.images)},
        }
    golden = deployment.golden_files(
        contract, parts.classes, files[MODEL], parts.images[parts.golden], parts.truth[parts.golden]
    )
    files |= {
        name: value if isinstance(value, bytes) else facts_json(value)
        for name, value in golden.items()
    }
    files |= {
        "golden.npz": parts.golden_npz,
        "confidence.json": facts_json(dict(parts.confidence)),
        "report.json": facts_json(dict(parts.report)),
        "report.html": parts.report_html.encode(),
        "licences.json": facts_json(to_json(parts.licences)),
        "certificate.json": facts_json(seal(parts.certificate, forms)),
    }
    files |= samples.render(parts.name, contract, parts.classes)
    files["README.md"] = model_card.card(
        parts.card,
        parts.name,
        parts.report,
        {
            "licences": parts.licences,
            "confidence": parts.confidence,
            "limits": contract["limits"],
            "input": contract["input"],
            "subgroups": parts.report.get("subgroups"),
        },
    ).encode()
    files["sbom.cdx.json"] = facts_json(
        sbom.bill(parts.name, parts.card.version, files, parts.licences, len(parts.classes))
    )
    files["lineage.json"] = facts_json(to_json(chain(parts, files)))
    files["manifest.json"] = facts_json(manifest(parts.name, files))
    return files


def _facts(parts: Parts) -> deployment.Facts:
    runner = runtime.LiteRunner(ports.core(parts.tflite))
    _, height, _, channels = runner.input.shape
    data = parts.report["data"]
    return deployment.Facts(
        parts.name,
        height,
        channels,
        parts.fit,
        parts.classes,
        runtime.tensor_range(runner.input),
        runtime.tensor_range(runner.output),
        parts.confidence,
        model_card.limits(parts.card, str(data["name"]), str(data.get("source", ""))),
    )


def metadata(parts: Parts, contract: Mapping[str, Any]) -> dict[str, Any]:
    """The ModelMetadata of both forms: normalisation in pixel units, as TFLite's consumers apply it."""
    source, target, rule = contract["input"], contract["output"], contract["confidence"]
    colour = model_metadata.RGB if source["channels"] == 3 else model_metadata.GRAYSCALE
    low, high = ((end - target["zero_point"]) * target["scale"] for end in (0, 255))
    normalisation = {"mean": [255.0 * source["mean"][0]], "std": [255.0 * source["std"][0]]}
    thresholds = ", ".join(f"{value:.6g}" for value in rule["thresholds"][:TOLD_THRESHOLDS])
    several = target["kind"] == "labels"
    unsure = (
        (
            f"An image may have none, one or several labels: each is said where its calibrated probability is >= its "
            f"threshold ({thresholds}); {DEPLOYMENT} in this file holds the figures."
        )
        if several
        else (
            f"Unsure unless exactly one label has softmax(score / {rule['temperature']:.6g}) >= its threshold "
            f"({thresholds}; {rule['coverage']:.0%} coverage on images like the validation set); {DEPLOYMENT} in this file "
            "holds the figures."
        )
    )
    return {
        "name": parts.name,
        "version": parts.card.version,
        "author": parts.card.author or "not stated",
        "license": parts.licences.result,
        "description": " ".join(
            filter(None, [parts.card.intended_use, contract["limits"], unsure])
        ),
        "associated_files": [
            {
                "name": DEPLOYMENT,
                "type": model_metadata.DESCRIPTIONS,
                "description": "preprocessing, output and reject rule (edgekd.deployment/1)",
            }
        ],
        "subgraph_metadata": [
            {
                "name": "main",
                "input_tensor_metadata": [
                    {
                        "name": "image",
                        "description": f"{source['order']} image, brought to {source['px']} x {source['px']} by "
                        f"{source['fit']}, {source['resample']}",
                        "content": {
                            "content_properties": {
                                "ImageProperties": {
                                    "color_space": colour,
                                    "default_size": {"width": source["px"], "height": source["px"]},
                                }
                            }
                        },
                        "process_units": [{"options": {"NormalizationOptions": normalisation}}],
                        "stats": {"max": [255.0], "min": [0.0]},
                    }
                ],
                "output_tensor_metadata": [
                    {
                        "name": "scores",
                        "description": f"{'logits' if several else target['kind']} of {len(parts.classes)} "
                        f"{'labels' if several else 'classes'}. {unsure}",
                        "content": {"content_properties": {"FeatureProperties": {}}},
                        "process_units": [
                            {
                                "options": {
                                    "ScoreCalibrationOptions": {
                                        "score_transformation": TRANSFORMATIONS[target["kind"]],
                                        "default_score": 0.0,
                                    }
                                }
                            }
                        ],
                        "stats": {"max": [high], "min": [low]},
                        "associated_files": [
                            {
                                "name": LABELS,
                                "type": model_metadata.AXIS_LABELS,
                                "description": "one label a line",
                            },
                            {
                                "name": CALIBRATION,
                                "type": model_metadata.AXIS_SCORE_CALIBRATION,
                                "description": f"scale, slope, offset: a sigmoid for {'each label' if several else 'all classes'}, "
                                "fitted on int8 answers",
                            },
                        ],
                    }
                ],
            }
        ],
    }


def score_calibration(parts: Parts) -> bytes:
    """TFLite's score calibration file: scale, slope, offset a label; no newline at the end (MediaPipe counts lines)."""
    body = parts.confidence
    rows = body["per_label"] if body["kind"] == "labels" else [body["sigmoid"]] * len(parts.classes)
    return "\n".join(f"1.0,{row['slope']:.9g},{row['offset']:.9g}" for row in rows).encode()


def _same_answers(model: bytes, name: str, contract: Mapping[str, Any], parts: Parts) -> None:
    """Run a form over every test image. Raises ModelFileError unless each answer is the certified file's, code for code."""
    found = answers(model, parts.images, contract)
    off = np.abs(found.astype(int) - parts.codes.astype(int)).reshape(len(found), -1).max(1)
    if off.any():
        raise ModelFileError(
            f"{name} answers otherwise than the certified file on {int((off > 0).sum())} of {len(off)} "
            f"test images, by up to {int(off.max())} LSB",
            "report this with the runtime's version",
        )


def answers(model: bytes, images: np.ndarray, contract: Mapping[str, Any]) -> np.ndarray:
    """Codes of either form on uint8 images [n, px, px, c], counted as int8's: [n, k]."""
    runner = runtime.LiteRunner(model)
    source, target = contract["input"], contract["output"]
    rows = []
    for image in images:
        if runner.input.dtype == "FLOAT32":
            mean, std = (np.asarray(source[key], np.float32) for key in ("mean", "std"))
            real = runner.invoke(
                ((image[None].astype(np.float32) / np.float32(255) - mean) / std).astype(np.float32)
            )
            rows.append(
                np.rint(real.astype(np.float64) / target["scale"])
                + target["zero_point"]
                - ports.SHIFT
            )
        else:
            codes = runner.invoke(runtime.quantize_pixels(image[None], runner.input)).astype(int)
            rows.append(codes - (ports.SHIFT if runner.output.dtype == "UINT8" else 0))
    return np.concatenate(rows).reshape(len(images), -1).astype(np.int64)


def seal(certificate: Mapping[str, Any], forms: Mapping[str, Any]) -> dict[str, Json]:
    """The certificate of the bundle's files. `certified_sha256` is the bare int8 file that every check ran on; it is inside
    each form, and `verify` takes it out again (`lite_metadata.detach`, `ports.core`).
    """
    body = {
        **certificate,
        "model_sha256": forms[MODEL]["sha256"],
        "certified_sha256": certificate["model_sha256"],
        "forms": dict(forms),
    }
    order = ["schema", "model_sha256", "certified_sha256", "forms"]
    return {key: body[key] for key in [*order, *(key for key in body if key not in order)]}


def chain(parts: Parts, files: Mapping[str, bytes]) -> BundleLineage:
    """lineage.json: the build's stages, the certified file, and the bundle as the last link."""
    hashes = {row.name: row.hash for row in parts.links}

    def parents(*names: str) -> dict[str, str]:
        return {name: hashes[name] for name in hashes if name in names}

    certified = hash_chain.link(
        "certified model", parts.certificate["model_sha256"], parents("convert", "certify")
    )
    last = hash_chain.link(
        "bundle",
        hash_chain.contents(files),
        {**parents("confidence", "bench", "evaluate"), "certified model": certified.hash},
    )
    return BundleLineage(
        lineage_record.CHAIN_SCHEMA,
        edgekd.__version__,
        [*parts.links, certified, last],
        last.hash,
    )


def read_lineage(files: Mapping[str, bytes]) -> BundleLineage:
    """lineage.json of a bundle, also as version 0.1.0 wrote it. Raises ModelFileError when it is missing or broken."""
    found = from_json(BundleLineage, load_json(files, "lineage.json"), "the bundle's lineage.json")
    if found.schema not in lineage_record.CHAIN_SCHEMAS:
        raise ModelFileError(
            f"the bundle's lineage.json has the schema {found.schema!r}; expected "
            f"{' or '.join(lineage_record.CHAIN_SCHEMAS)}",
            "use the version of edgekd that built the bundle",
        )
    return found


def manifest(name: str, files: Mapping[str, bytes]) -> dict[str, Json]:
    """manifest.json: every other file with its sha256 and size, and one hash over all of them."""
    rows = {
        path: {"sha256": sha256(data), "bytes": len(data)}
        for path, data in sorted(files.items())
        if path != "manifest.json"
    }
    return {"schema": SCHEMA, "name": name, "files": rows, "sha256": sha256(canonical_json(rows))}


def payloads(done: Mapping[str, Any]) -> dict[str, Packed]:
    """The artifacts whose make-up lineage.json writes down: those that a bundle's own files repeat."""
    return {
        name: done[name].entry.packed
        for name in ("convert", "certify", "confidence", "bench")
        if name in done
    }


def load_json(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    """A JSON file of a bundle. Raises ModelFileError when it is missing or broken."""
    try:
        body = json.loads(files[name])
    except KeyError:
        raise ModelFileError(
            f"the bundle has no {name}", "build it again, or fetch it again"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ModelFileError(
            f"the bundle's {name} is not JSON: {error}", "build it again, or fetch it again"
        ) from None
    if not isinstance(body, dict):
        raise ModelFileError(
            f"the bundle's {name} is not a JSON object", "build it again, or fetch it again"
        )
    return body
