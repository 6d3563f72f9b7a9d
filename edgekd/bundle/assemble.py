"""The bundle: everything that an app needs around the model, with the proof and the papers, as
{path: bytes}.

    model.tflite          uint8 ports and TFLite Metadata around the certified int8 network
    model_float_io.tflite the same network behind float32 ports
    model_float32.tflite  a copy of it under its old name, in bundles of version 0.2 only
    labels.txt            the classes, one a line, in the order of the outputs
    deployment.json       what an app does before and after the model
    confidence.json       what the outputs mean, fitted on validation images
    golden/               images with the answers that every correct copy of the model gives
    formats/              the float student in other number formats, where a build made them
    golden.npz            the same for the device runner
    certificate.json  report.json  report.html  lineage.json  licences.json  sbom.cdx.json
    README.md             the model card
    samples/              apps for phones, Raspberry Pi, web and C++, and firmware where the profile
                          is a microcontroller's, filled in for this model
    manifest.json         sha256 and size of every other file

Nothing here writes to disk. Equal artifacts give equal bytes: no file holds a date, a path or the
name of a machine.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt

import edgekd
from edgekd.bundle import (
    deployment,
    further_ports,
    golden_set,
    hash_chain,
    licences,
    lineage_record,
    micro_sample,
    model_card,
    model_forms,
    other_formats,
    samples,
    sbom,
    tflite_metadata,
)
from edgekd.bundle.bundle_record import BundleCertificate, BundleFile, Manifest, ModelForm
from edgekd.bundle.deployment_record import Deployment, Firmware, Golden
from edgekd.bundle.licences_record import LicenceChain
from edgekd.bundle.lineage_record import BundleLineage, ChainLink
from edgekd.bundle.model_card import CardFacts
from edgekd.bundle.model_forms import MODEL
from edgekd.bundle.other_formats import OtherFormats
from edgekd.bundle.tflite_metadata import CALIBRATION, DEPLOYMENT, LABELS
from edgekd.core.artifacts import canonical_json, sha256
from edgekd.core.frames import Frame
from edgekd.core.records import UNSET, UnsetType, from_json, present, to_json
from edgekd.core.store import facts_json
from edgekd.evaluation.confidence_record import Confidence
from edgekd.proof.certificate_record import CertificateBody
from edgekd.settings.device_profiles import DeviceProfile
from edgekd.settings.recipe import CardConfig
from edgekd.tflite import ports, runtime

GOLDEN = f"{golden_set.FOLDER}/golden.json"


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a bundle is made of.

    `tflite`: the certified int8 file, bare. `images`: uint8 [n, height, width, c], the test split,
    with their labels `truth` ([n], or 0 and 1 [n, k]) and the certified file's answers `codes`,
    int8 [n, k]. `golden`: the rows of these that the golden folder holds. `others`: files in other
    number formats. `fit`: how images were brought to the input's size. `frame`: what the file takes
    where it resizes images itself. `results`: the figures of the model card. `links`: the build's
    stages as links of the hash chain. `micro`: the profile of the build, where it is a
    microcontroller's. `report_json`, `report_html`, `golden_npz`: files, as they are written.
    """

    name: str
    classes: list[str]
    fit: str
    frame: Frame | None
    tflite: bytes
    certificate: CertificateBody
    confidence: Confidence
    licences: LicenceChain
    links: list[ChainLink]
    card: CardConfig
    results: CardFacts
    report_json: bytes
    report_html: bytes
    golden_npz: bytes
    images: npt.NDArray[np.uint8]
    codes: npt.NDArray[np.int8]
    truth: npt.NDArray[np.int64]
    golden: list[int]
    others: OtherFormats
    micro: DeviceProfile | None = None


def assemble(parts: Parts) -> dict[str, bytes]:
    """Every file of the bundle.

    Raises ModelFileError when one of the two models does not answer as the certified file does.
    """
    contract = msgspec.structs.replace(
        deployment.deployment(_facts(parts)),
        formats=other_formats.models(parts.others),
        further_outputs=further_ports.outputs(parts.tflite, parts.certificate),
        firmware=_firmware(parts),
    )
    labels = "".join(f"{label}\n" for label in parts.classes).encode()
    files = {LABELS: labels, DEPLOYMENT: facts_json(to_json(contract))}
    models = _models(parts, contract, files[DEPLOYMENT])
    forms = model_forms.check_answers(models, contract, parts.images, parts.codes)
    files |= {**models, model_forms.OLD_FLOAT_IO: models[model_forms.FLOAT_IO]}
    files |= other_formats.bundle_parts(parts.others, parts.images[parts.golden])
    files |= golden_set.golden_files(
        contract,
        parts.classes,
        files[MODEL],
        parts.images[parts.golden],
        parts.truth[parts.golden],
    )
    files |= {
        "golden.npz": parts.golden_npz,
        "confidence.json": facts_json(to_json(parts.confidence)),
        "report.json": parts.report_json,
        "report.html": parts.report_html,
        "licences.json": facts_json(to_json(parts.licences)),
        "certificate.json": facts_json(to_json(seal(parts.certificate, forms))),
    }
    files |= samples.render(contract, parts.classes, files[MODEL])
    files |= _for_microcontroller(parts, contract, files)
    files |= _papers(parts, contract, files)
    files["lineage.json"] = facts_json(to_json(chain(parts, files)))
    files["manifest.json"] = facts_json(to_json(manifest(parts.name, files)))
    return files


def _firmware(parts: Parts) -> Firmware | UnsetType:
    return UNSET if parts.micro is None else micro_sample.firmware(parts.micro, _bare(parts))


def _bare(parts: Parts) -> bytes:
    return ports.core(parts.tflite)


def _for_microcontroller(
    parts: Parts, contract: Deployment, files: Mapping[str, bytes]
) -> dict[str, bytes]:
    """The firmware sample, empty for another device."""
    firmware = present(contract.firmware)
    if firmware is None:
        return {}
    golden = from_json(Golden, json.loads(files[GOLDEN]), GOLDEN)
    return micro_sample.render(
        micro_sample.MicroParts(
            contract=contract,
            firmware=firmware,
            labels=parts.classes,
            model=_bare(parts),
            images=parts.images[parts.golden],
            golden=golden,
        )
    )


def _facts(parts: Parts) -> deployment.Facts:
    runner = runtime.LiteRunner(ports.core(parts.tflite))
    _, height, width, channels = runner.input.shape
    framed = parts.frame is not None and not parts.frame.whole
    return deployment.Facts(
        name=parts.name,
        px=parts.frame.side if parts.frame is not None else height,
        frame=[height, width] if framed else UNSET,
        channels=channels,
        fit=parts.fit,
        depth=parts.results.depth,
        grid_in=runtime.tensor_range(runner.input),
        grid_out=runtime.tensor_range(runner.output),
        confidence=parts.confidence,
        limits=model_card.limits(parts.card, parts.results.data_name, parts.results.data_source),
    )


def _models(parts: Parts, contract: Deployment, deployment_json: bytes) -> dict[str, bytes]:
    """Both .tflite files. Their attached labels have no newline at the end: MediaPipe counts
    lines.
    """
    licence = parts.licences.result
    return model_forms.with_metadata(
        parts.tflite,
        tflite_metadata.metadata(contract, parts.classes, parts.card, licence),
        {
            LABELS: "\n".join(parts.classes).encode(),
            DEPLOYMENT: deployment_json,
            CALIBRATION: tflite_metadata.score_calibration(parts.confidence, parts.classes),
        },
    )


def _papers(parts: Parts, contract: Deployment, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The model card, and the bill of materials of all files so far and the card."""
    facts = dataclasses.replace(parts.results, firmware=parts.micro is not None)
    card = model_card.card(parts.card, contract, facts, parts.licences).encode()
    named = {**files, "README.md": card}
    version, classes = parts.card.version, len(parts.classes)
    bill = sbom.bill(parts.name, version, named, parts.licences, classes)
    return {"README.md": card, "sbom.cdx.json": facts_json(bill)}


def seal(certificate: CertificateBody, forms: Mapping[str, ModelForm]) -> BundleCertificate:
    """The certificate of the bundle's files; `certificate` is that of the bare int8 file."""
    body = msgspec.structs.asdict(certificate)
    body["model_sha256"] = forms[MODEL].sha256
    return BundleCertificate(**body, certified_sha256=certificate.model_sha256, forms=dict(forms))


def chain(parts: Parts, files: Mapping[str, bytes]) -> BundleLineage:
    """lineage.json: the build's stages, the certified file, and the bundle as the last link."""
    hashes = {row.name: row.hash for row in parts.links}

    def parents(*names: str) -> dict[str, str]:
        return {name: hashes[name] for name in hashes if name in names}

    certified = hash_chain.link(
        "certified model", parts.certificate.model_sha256, parents("convert", "certify")
    )
    made = parents("confidence", "bench", "evaluate", "formats")
    last = hash_chain.link(
        "bundle", hash_chain.contents(files), {**made, "certified model": certified.hash}
    )
    return BundleLineage(
        lineage_record.CHAIN_SCHEMA,
        edgekd.__version__,
        [*parts.links, certified, last],
        last.hash,
        licences.sources(parts.licences),
    )


def manifest(name: str, files: Mapping[str, bytes]) -> Manifest:
    """The record of manifest.json: every other file with its hash and size, and one hash over all
    of them.
    """
    rows = {
        path: BundleFile(sha256(data), len(data))
        for path, data in sorted(files.items())
        if path != "manifest.json"
    }
    return Manifest(name=name, files=rows, sha256=rows_digest(rows))


def rows_digest(rows: Mapping[str, BundleFile]) -> str:
    """The hash over the rows of a manifest."""
    return sha256(canonical_json({path: to_json(row) for path, row in rows.items()}))
