"""`edgekd verify BUNDLE`: a bundle, folder or .zip, checked again from its bytes, trusting nothing that it says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import edgekd
from edgekd.bundle import archive, assemble, deployment, hash_chain, samples
from edgekd.bundle.verify_record import VerifyCheck
from edgekd.core.artifacts import canonical_json, sha256
from edgekd.core.errors import EdgeKDError, ModelFileError
from edgekd.core.records import present
from edgekd.data import images
from edgekd.tflite import model_metadata, ports, runtime

Files = Mapping[str, bytes]
SHOWN = 5  # problems named in one check; the rest is counted


def is_bundle(path: Path) -> bool:
    """Whether a path is to be checked as a bundle: a .zip, or a folder with a manifest.json."""
    return (path / "manifest.json").is_file() if path.is_dir() else path.suffix.lower() == ".zip"


def verify(path: Path) -> list[VerifyCheck]:
    """Every check, in order. Raises ModelFileError for a zip that is unsafe or cut short."""
    return verify_files(archive.read(path))


def verify_files(files: Files) -> list[VerifyCheck]:
    """The same of {path: bytes}. Later checks are skipped when the files are not those of the manifest's list."""
    checks = [_checked("manifest", lambda: _manifest(files))]
    for name, check in CHECKS.items():
        checks.append(_checked(name, lambda check=check: check(files)))  # type: ignore[misc]
    return checks


def _checked(name: str, check: Callable[[], list[str]]) -> VerifyCheck:
    """Run one check; a file that it cannot read is its failure."""
    try:
        wrong = check()
    except EdgeKDError as error:
        wrong = [error.what]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        wrong = [f"a file of the bundle lacks something: {error!r}"]
    more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    found = "; ".join(wrong[:SHOWN]) + more if wrong else "as it should be"
    return VerifyCheck(name, not wrong, found)


def _manifest(files: Files) -> list[str]:
    body = assemble.load_json(files, "manifest.json")
    rows = body["files"]
    wrong = (
        []
        if body["schema"] == assemble.SCHEMA
        else [f"schema {body['schema']!r} instead of {assemble.SCHEMA!r}"]
    )
    wrong += [f"{name} is missing" for name in rows if name not in files]
    wrong += [
        f"{name} is not in the list"
        for name in files
        if name not in rows and name != "manifest.json"
    ]
    wrong += [
        f"{name} was changed"
        for name, row in rows.items()
        if name in files
        and (sha256(files[name]), len(files[name])) != (row["sha256"], row["bytes"])
    ]
    if sha256(canonical_json(rows)) != body["sha256"]:
        wrong.append("the list itself was changed")
    return wrong


def _lineage(files: Files) -> list[str]:
    found = assemble.read_lineage(files)
    links = {row.name: row for row in found.links}
    wrong = hash_chain.walk(found.links)
    if found.head != found.links[-1].hash or found.links[-1].name != "bundle":
        wrong.append("its head is not the bundle's link")
    if hash_chain.contents(files) != links["bundle"].digest:
        wrong.append("the bundle's link does not cover the files of this bundle")
    certified = assemble.load_json(files, "certificate.json")["certified_sha256"]
    if links["certified model"].digest != certified:
        wrong.append("its certified model is not the certificate's")
    converted = present(links["convert"].payload)
    if converted is None or converted.blobs["tflite"] != certified:
        wrong.append("its convert stage made another file than the certified one")
    for stage, name, kept in (
        ("confidence", "confidence.json", _same),
        ("certify", "certificate.json", _unsealed),
    ):
        made = present(links[stage].payload)
        if made is None or kept(assemble.load_json(files, name)) != made.facts["body"]:
            wrong.append(f"{name} is not what the {stage} stage made")
    return wrong


def _same(body: dict[str, Any]) -> dict[str, Any]:
    return body


def _unsealed(body: dict[str, Any]) -> dict[str, Any]:
    """The certificate as the stage wrote it, before the bundle's forms were added."""
    bare = {key: value for key, value in body.items() if key not in ("forms", "certified_sha256")}
    return {**bare, "model_sha256": body["certified_sha256"]}


def _certificate(files: Files) -> list[str]:
    body = assemble.load_json(files, "certificate.json")
    wrong = [] if body["passed"] is True and not body["failures"] else ["it did not pass"]
    if body["model_sha256"] != sha256(files[assemble.MODEL]):
        wrong.append(f"it is for another {assemble.MODEL}")
    if set(body["forms"]) != set(assemble.FORMS):
        wrong.append(f"it speaks of {sorted(body['forms'])}")
    certified, cores = body["certified_sha256"], set()
    for name, row in body["forms"].items():
        if row["sha256"] != sha256(files[name]):
            wrong.append(f"it is for another {name}")
        bare = model_metadata.detach(files[name])
        core = ports.core(bare)
        cores.add(sha256(core))
        if not runtime.describe(core)["full_integer"]:
            wrong.append(f"{name} is not full integer inside")
        if sha256(bare) != certified and bare != ports.with_ports(core, assemble.FORMS[name]):
            wrong.append(f"{name} has more around the int8 network than its ports")
    cores.add(sha256(ports.core(model_metadata.detach(files[assemble.MODEL]))))
    if len(cores) != 1 or certified not in cores | {
        sha256(model_metadata.detach(files[assemble.MODEL]))
    }:
        wrong.append("the int8 network inside is not the certified one")
    return wrong


def _metadata(files: Files) -> list[str]:
    labels = _labels(files)
    contract = assemble.load_json(files, assemble.DEPLOYMENT)
    wrong = []
    for name in assemble.FORMS:
        body, inside = model_metadata.metadata_of(files[name]), model_metadata.files_of(files[name])
        if body is None:
            wrong.append(f"{name} has none")
            continue
        if inside.get(assemble.LABELS, b"").decode().split("\n") != labels:
            wrong.append(f"the labels inside {name} are not those of {assemble.LABELS}")
        if inside.get(assemble.DEPLOYMENT) != files[assemble.DEPLOYMENT]:
            wrong.append(f"the deployment.json inside {name} is another one")
        (source,) = body["subgraph_metadata"][0]["input_tensor_metadata"]
        stated = source["process_units"][0]["options"]["NormalizationOptions"]
        expected = {
            "mean": [255.0 * contract["input"]["mean"][0]],
            "std": [255.0 * contract["input"]["std"][0]],
        }
        if any(not np.allclose(stated[key], expected[key], rtol=1e-6) for key in expected):
            wrong.append(
                f"{name} states mean {stated['mean']} and std {stated['std']}, deployment.json {expected}"
            )
        if body["license"] != assemble.load_json(files, "licences.json")["result"]:
            wrong.append(f"{name} states another licence than licences.json")
    if labels != assemble.load_json(files, "report.json")["data"]["classes"]:
        wrong.append(f"{assemble.LABELS} are not the classes of report.json")
    return wrong


def _deployment(files: Files) -> list[str]:
    """deployment.json against the tensors of the model and the fitted confidence."""
    contract, fitted = (
        assemble.load_json(files, assemble.DEPLOYMENT),
        assemble.load_json(files, "confidence.json"),
    )
    graph = runtime.LiteRunner(files[assemble.MODEL])
    wrong = []
    for part, tensor in (("input", graph.input), ("output", graph.output)):
        stated = (
            contract[part]["dtype"],
            contract[part]["zero_point"],
            np.float32(contract[part]["scale"]),
        )
        if stated != (tensor.dtype.lower(), int(tensor.zero_point[0]), tensor.scale[0]):
            wrong.append(
                f"it states {part} {stated}, the model has {tensor.dtype.lower()}, {tensor.zero_point[0]}, "
                f"{tensor.scale[0]}"
            )
    expected = deployment.rule(fitted)
    if contract["output"]["kind"] != fitted["kind"]:
        wrong.append(
            f"its output is {contract['output']['kind']}, confidence.json was fitted on {fitted['kind']}"
        )
    for key in expected:
        if contract["confidence"].get(key) != expected[key]:
            wrong.append(
                f"its {key} is {contract['confidence'].get(key)}, confidence.json has {expected[key]}"
            )
    return wrong


def _golden(files: Files) -> list[str]:
    """The self-test of the samples, and golden.npz through both forms."""
    contract, golden = (
        assemble.load_json(files, assemble.DEPLOYMENT),
        assemble.load_json(files, deployment.INDEX),
    )
    wrong = deployment.self_test(contract, golden, _labels(files), files[assemble.MODEL], files)
    pictures = np.stack(
        [images.as_rgb(images.decode(files[row["file"]], row["file"])) for row in golden["images"]]
    )
    pictures = pictures[..., : contract["input"]["channels"]]
    expected = np.array([row["codes_int8"] for row in golden["images"]])
    for name in assemble.FORMS:
        found = assemble.answers(files[name], pictures, contract)
        if np.abs(found - expected).max() > golden["tolerance_lsb"]:
            wrong.append(
                f"{name}: {int(np.abs(found - expected).max())} LSB from the stored answers"
            )
    labels = _labels(files)
    for row in golden["images"]:
        said = deployment.answer(contract, labels, np.asarray(row["codes_int8"], np.int8))
        known = row["labels"] if contract["output"]["kind"] == "labels" else [row["label"]]
        if row["answer"] != said["answer"] or not set(known) <= set(labels):
            wrong.append(
                f"{row['file']}: its stored answer {row['answer']!r} is not what its codes say"
            )
    return wrong


def _samples(files: Files) -> list[str]:
    """The samples are made again from deployment.json and the labels, and compared."""
    if assemble.read_lineage(files).edgekd != edgekd.__version__:
        return []  # another version's templates; the manifest and the lineage still cover the files
    contract = assemble.load_json(files, assemble.DEPLOYMENT)
    made = samples.render(contract["name"], contract, _labels(files))
    return [
        f"{name} is not what this edgekd makes" for name in made if files.get(name) != made[name]
    ] + [
        f"{name} is not one of them"
        for name in files
        if name.startswith(samples.FOLDER) and name not in made
    ]


def _papers(files: Files) -> list[str]:
    """Licences, bill of materials and card say the same as each other and as the files."""
    licences, bill = (
        assemble.load_json(files, "licences.json"),
        assemble.load_json(files, "sbom.cdx.json"),
    )
    wrong = []
    model = bill["metadata"]["component"]
    if model["hashes"][0]["content"] != sha256(files[assemble.MODEL]):
        wrong.append("sbom.cdx.json is of another model")
    for row in bill["components"]:
        if row["type"] == "file" and (
            row["name"] not in files or row["hashes"][0]["content"] != sha256(files[row["name"]])
        ):
            wrong.append(f"sbom.cdx.json has another {row['name']}")
    tainted = [row for row in licences["links"] if row["non_commercial"] and row["part"] == "model"]
    if bool(tainted) != bool(licences["tainted_by"]):
        wrong.append("licences.json hides a non-commercial part")
    card = files["README.md"].decode()
    for row in tainted:
        if "Tainted by" not in card:
            wrong.append(f"the card does not say that {row['name']} is non-commercial")
    return wrong


def _labels(files: Files) -> list[str]:
    try:
        return files[assemble.LABELS].decode().splitlines()
    except (KeyError, UnicodeDecodeError):
        raise ModelFileError(
            f"the bundle's {assemble.LABELS} is missing or not UTF-8", archive.NEXT
        ) from None


CHECKS: dict[str, Callable[[Files], list[str]]] = {
    "lineage": _lineage,
    "certificate": _certificate,
    "metadata": _metadata,
    "deployment": _deployment,
    "golden answers": _golden,
    "samples": _samples,
    "papers": _papers,
}
