"""`edgekd verify BUNDLE`: checks a bundle, folder or .zip, from its bytes. No statement of the
bundle is taken on trust.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

import edgekd
from edgekd.bundle import (
    archive,
    assemble,
    bundle_files,
    bundle_record,
    deployment,
    firmware_check,
    further_ports,
    golden_set,
    hash_chain,
    licences,
    model_forms,
    other_formats,
    samples,
)
from edgekd.bundle.bundle_record import BundleCertificate, Manifest
from edgekd.bundle.deployment_record import Deployment, Golden
from edgekd.bundle.licences_record import LicenceChain
from edgekd.bundle.model_forms import MODEL
from edgekd.bundle.other_formats import Pixels
from edgekd.bundle.tflite_metadata import DEPLOYMENT, LABELS
from edgekd.bundle.verify_record import VerifyCheck
from edgekd.core.artifacts import Json, sha256
from edgekd.core.errors import EdgeKDError, ModelFileError
from edgekd.core.number_formats import NumberFormat
from edgekd.core.records import present
from edgekd.data import images
from edgekd.evaluation import confidence_record
from edgekd.tflite import model_metadata, ports, runtime

Files = Mapping[str, bytes]
# `edgekd bench` of version 0.1 wrote its results into the bundle.
MEASURED = " (a measurement: move the folder bench out of the bundle)"
SHOWN = 5  # problems that one check names; the others are counted
BUNDLE_FIELDS = ("forms", "certified_sha256")  # of certificate.json: `assemble.seal` adds them


def verify(path: Path) -> list[VerifyCheck]:
    """Every check of a bundle. Raises ModelFileError for a zip that is unsafe or cut short."""
    return verify_files(archive.read(path))


def verify_files(files: Files) -> list[VerifyCheck]:
    """Every check of a bundle's files, {path: bytes}."""
    return [_checked(name, check, files) for name, check in CHECKS.items()]


def _checked(name: str, check: Callable[[Files], list[str]], files: Files) -> VerifyCheck:
    """Run one check. A file that it cannot read fails it."""
    try:
        wrong = check(files)
    except EdgeKDError as error:
        wrong = [error.what]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        wrong = [f"a file of the bundle is incomplete: {error!r}"]
    more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    return VerifyCheck(name, not wrong, "; ".join(wrong[:SHOWN]) + more or "as it should be")


def _manifest(files: Files) -> list[str]:
    """Every file is in the list with its hash and size, and the list has its own hash."""
    found = bundle_files.read_record(files, "manifest.json", Manifest)
    rows = found.files
    wrong = []
    if found.schema != bundle_record.SCHEMA:
        wrong.append(f"schema {found.schema!r} instead of {bundle_record.SCHEMA!r}")
    wrong += [f"{name} is missing" for name in rows if name not in files]
    listed = {*rows, "manifest.json"}
    wrong += [
        f"{name} is not in the list{MEASURED if name.startswith('bench/') else ''}"
        for name in files
        if name not in listed
    ]
    wrong += [
        f"{name} was changed"
        for name, row in rows.items()
        if name in files and (sha256(files[name]), len(files[name])) != (row.sha256, row.bytes)
    ]
    if assemble.rows_digest(rows) != found.sha256:
        wrong.append("the list itself was changed")
    return wrong


def _lineage(files: Files) -> list[str]:
    """The hash chain holds, and its links are those of the files in the bundle."""
    found = bundle_files.read_lineage(files)
    links = {row.name: row for row in found.links}
    wrong = hash_chain.walk(found.links)
    if found.head != found.links[-1].hash or found.links[-1].name != "bundle":
        wrong.append("its head is not the bundle's link")
    if hash_chain.contents(files) != links["bundle"].digest:
        wrong.append("the bundle's link does not cover the files of this bundle")
    stated = present(found.sources)
    terms = bundle_files.read_record(files, "licences.json", LicenceChain)
    if stated is not None and stated != licences.sources(terms):
        wrong.append("its sources are not the parts that licences.json names")
    certified = _certificate_of(files).certified_sha256
    if links["certified model"].digest != certified:
        wrong.append("its certified model is not the certificate's")
    converted = present(links["convert"].payload)
    if converted is None or converted.blobs["tflite"] != certified:
        wrong.append("its convert stage made another file than the certified one")
    kept = {
        "confidence": ("confidence.json", bundle_files.read_json(files, "confidence.json")),
        "certify": ("certificate.json", _unsealed(files)),
    }
    for stage, (name, body) in kept.items():
        made = present(links[stage].payload)
        if made is None or body != made.facts["body"]:
            wrong.append(f"{name} is not what the {stage} stage made")
    return wrong


def _certificate_of(files: Files) -> BundleCertificate:
    return bundle_files.read_record(files, "certificate.json", BundleCertificate)


def _unsealed(files: Files) -> Json:
    """The certificate's JSON as the stage made it: the inverse of `assemble.seal`."""
    body = bundle_files.read_json(files, "certificate.json")
    bare = {key: value for key, value in body.items() if key not in BUNDLE_FIELDS}
    return {**bare, "model_sha256": body["certified_sha256"]}


def _certificate(files: Files) -> list[str]:
    """It passed, and the certified int8 network is inside both models, with nothing but their ports
    around it.
    """
    found = _certificate_of(files)
    certified = found.certified_sha256
    wrong = [] if found.passed and not found.failures else ["it did not pass"]
    if found.model_sha256 != sha256(files[MODEL]):
        wrong.append(f"it is for another {MODEL}")
    form_ports = model_forms.ports_of(files)
    if set(found.forms) != set(form_ports):
        wrong.append(f"it names the models {sorted(found.forms)}")
    old, new = model_forms.OLD_FLOAT_IO, model_forms.FLOAT_IO
    if new in files and old in files and files[old] != files[new]:
        wrong.append(f"{old}, the old name, is not a copy of {new}")
    cores = set()
    for name, row in found.forms.items():
        if row.sha256 != sha256(files[name]):
            wrong.append(f"it is for another {name}")
        bare = model_metadata.detach(files[name])
        core = ports.core(bare)
        cores.add(sha256(core))
        if not runtime.describe(core)["full_integer"]:
            wrong.append(f"{name} is not full integer inside")
        if sha256(bare) != certified and bare != ports.with_ports(core, form_ports[name]):
            wrong.append(f"{name} has more around the int8 network than its ports")
    bare = model_metadata.detach(files[MODEL])
    cores.add(sha256(ports.core(bare)))
    if len(cores) != 1 or certified not in {*cores, sha256(bare)}:
        wrong.append("the int8 network inside is not the certified one")
    return wrong


def _metadata(files: Files) -> list[str]:
    """The metadata inside both models say what labels.txt, deployment.json and licences.json
    say.
    """
    labels = _labels(files)
    contract = _contract(files)
    licence = bundle_files.read_record(files, "licences.json", LicenceChain).result
    wrong = []
    for name in model_forms.ports_of(files):
        body, inside = model_metadata.metadata_of(files[name]), model_metadata.files_of(files[name])
        if body is None:
            wrong.append(f"{name} has no metadata")
            continue
        if inside.get(LABELS, b"").decode().split("\n") != labels:
            wrong.append(f"the labels inside {name} are not those of {LABELS}")
        if inside.get(DEPLOYMENT) != files[DEPLOYMENT]:
            wrong.append(f"the deployment.json inside {name} is another one")
        (source,) = body["subgraph_metadata"][0]["input_tensor_metadata"]
        stated = source["process_units"][0]["options"]["NormalizationOptions"]
        expected = {
            "mean": [255.0 * contract.input.mean[0]],
            "std": [255.0 * contract.input.std[0]],
        }
        if any(not np.allclose(stated[key], expected[key], rtol=1e-6) for key in expected):
            wrong.append(
                f"{name} states mean {stated['mean']} and std {stated['std']}, deployment.json "
                f"{expected}"
            )
        if body["license"] != licence:
            wrong.append(f"{name} states another licence than licences.json")
    if labels != bundle_files.read_json(files, "report.json")["data"]["classes"]:
        wrong.append(f"{LABELS} does not hold the classes of report.json")
    return wrong


def _deployment(files: Files) -> list[str]:
    """deployment.json fits the tensors of the model and the fitted confidence."""
    contract = _contract(files)
    body = bundle_files.read_json(files, "confidence.json")
    fitted = confidence_record.read(body, "the bundle's confidence.json")
    graph = runtime.LiteRunner(files[MODEL])
    wrong = []
    for part, port, tensor in (
        ("input", contract.input, graph.input),
        ("output", contract.output, graph.output),
    ):
        stated = (port.dtype, port.zero_point, np.float32(port.scale))
        real = (tensor.dtype.lower(), int(tensor.zero_point[0]), tensor.scale[0])
        if stated != real:
            wrong.append(f"it states {part} {stated}, and the model has {real}")
    wrong += further_ports.faults(contract, graph.outputs[1:])
    if contract.output.kind is not fitted.kind:
        wrong.append(
            f"its output is {contract.output.kind}, and confidence.json was fitted on {fitted.kind}"
        )
    expected = deployment.answer_rule(fitted)
    for field in expected.__struct_fields__:
        stated_value, fitted_value = getattr(contract.confidence, field), getattr(expected, field)
        if stated_value != fitted_value and field != "rule":
            wrong.append(f"its {field} is {stated_value}, and confidence.json has {fitted_value}")
    return wrong


def _golden(files: Files) -> list[str]:
    """The samples' self-test passes, both models give the stored codes, and the stored answers
    follow from them.
    """
    contract, labels = _contract(files), _labels(files)
    golden = bundle_files.read_record(files, golden_set.INDEX, Golden)
    wrong = golden_set.self_test(contract, golden, labels, files[MODEL], files)
    pictures = _golden_pictures(files, golden, contract)
    expected = np.array([row.codes_int8 for row in golden.images])
    for name in model_forms.ports_of(files):
        found = model_forms.answers(files[name], pictures, contract)
        off = int(np.abs(found - expected).max())
        if off > golden.tolerance_lsb:
            wrong.append(f"{name}: {off} LSB from the stored answers")
    for row in golden.images:
        said = deployment.answer(contract, labels, np.asarray(row.codes_int8, np.int8))
        if row.answer != said.answer or not set(row.known) <= set(labels):
            told = f"{row.file}: its stored answer {row.answer!r}"
            wrong.append(f"{told} does not follow from its codes")
    return wrong + firmware_check.answers(files, contract, golden, pictures)


def _formats(files: Files) -> list[str]:
    """The files in other number formats are those of report.json, and give the stored answers."""
    contract = _contract(files)
    golden = bundle_files.read_record(files, golden_set.INDEX, Golden)
    accuracy = bundle_files.read_json(files, "report.json")["accuracy"]
    reported = {
        row["path"]: row["sha256"]
        for row in accuracy.get("formats", [])
        if row["format"] != NumberFormat.INT8
    }
    wrong = [
        f"{name} is not the file of report.json"
        for name, digest in reported.items()
        if name in files and sha256(files[name]) != digest
    ]
    return wrong + other_formats.check(
        files, contract.formats, reported, _golden_pictures(files, golden, contract)
    )


def _golden_pictures(files: Files, golden: Golden, contract: Deployment) -> Pixels:
    """The golden images, uint8 [n, px, px, channels]."""
    pictures = np.stack(
        [images.as_rgb(images.decode(files[row.file], row.file)) for row in golden.images]
    )
    return np.asarray(pictures[..., : contract.input.channels])


def _samples(files: Files) -> list[str]:
    """The samples are those that this version makes of deployment.json and the labels.

    Another version has other templates. The manifest and the lineage cover its files all the same.
    """
    if bundle_files.read_lineage(files).edgekd != edgekd.__version__:
        return []
    contract, labels = _contract(files), _labels(files)
    golden = bundle_files.read_record(files, golden_set.INDEX, Golden)
    pictures = _golden_pictures(files, golden, contract)
    made = samples.render(contract, labels, files[MODEL])
    made |= firmware_check.sample(files, contract, labels, golden, pictures)
    wrong = [
        f"{name} is not what this edgekd makes" for name in made if files.get(name) != made[name]
    ]
    return wrong + [
        f"{name} is not one of the samples"
        for name in files
        if name.startswith(samples.FOLDER) and name not in made
    ]


def _papers(files: Files) -> list[str]:
    """Licences, bill of materials and model card agree with each other and with the files."""
    body = bundle_files.read_record(files, "licences.json", LicenceChain)
    bill = bundle_files.read_json(files, "sbom.cdx.json")
    wrong = []
    model = bill["metadata"]["component"]
    if model["hashes"][0]["content"] != sha256(files[MODEL]):
        wrong.append("sbom.cdx.json is of another model")
    for row in bill["components"]:
        if row["type"] == "file" and (
            row["name"] not in files or row["hashes"][0]["content"] != sha256(files[row["name"]])
        ):
            wrong.append(f"sbom.cdx.json has another {row['name']}")
    tainted = [row for row in body.links if row.non_commercial and row.part == "model"]
    if bool(tainted) != bool(body.tainted_by):
        wrong.append("licences.json hides a non-commercial part")
    if tainted and "Tainted by" not in files["README.md"].decode():
        named = ", ".join(row.name for row in tainted)
        wrong.append(f"the card does not say that {named} is non-commercial")
    return wrong


def _contract(files: Files) -> Deployment:
    return bundle_files.read_record(files, DEPLOYMENT, Deployment)


def _labels(files: Files) -> list[str]:
    try:
        return files[LABELS].decode().splitlines()
    except (KeyError, UnicodeDecodeError):
        raise ModelFileError(
            f"the bundle's {LABELS} is missing or not UTF-8", bundle_files.AGAIN
        ) from None


CHECKS: dict[str, Callable[[Files], list[str]]] = {
    "manifest": _manifest,
    "lineage": _lineage,
    "certificate": _certificate,
    "metadata": _metadata,
    "deployment": _deployment,
    "golden answers": _golden,
    "formats": _formats,
    "samples": _samples,
    "papers": _papers,
}
