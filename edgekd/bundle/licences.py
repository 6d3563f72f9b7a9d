"""The licence chain: what a model was made from and with, under which terms, and what follows for
the bundle.

A link is the training data, a network with its weights, the teacher whose answers a log holds,
EdgeKD's own code, or a package. A link whose terms are non-commercial taints the bundle when it is
part of the model. The chain names such links, and links whose terms are unknown. All of this is
read from texts: it is not legal advice.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
from collections.abc import Iterable

import msgspec

from edgekd.bundle.licence_texts import non_commercial, package_licence, unknown
from edgekd.bundle.licences_record import LicenceChain, LicenceLink, Part
from edgekd.bundle.lineage_record import LineageSource
from edgekd.bundle.provider_terms import OutputUse
from edgekd.bundle.teacher_terms import LOG, OutputTerms, of_network
from edgekd.core.records import UNSET, UnsetType
from edgekd.settings.model_specs import ModelSpec
from edgekd.settings.recipe import CardConfig

SCHEMA = "edgekd.licences/1"
# Packages whose code takes part in making or running the .tflite. The README says what each one
# does.
PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "safetensors",
    "onnx",
    "onnxruntime",
    "flatbuffers",
    "ai-edge-litert",
    "numpy",
    "pillow",
)
SHOWN_DIGITS = 16  # of a digest in licences.json and the model card; lineage.json has all of it
NETWORK_ROLE = " network and weights"  # behind "student", "teacher" and so on
LOG_ROLE = "teacher of the log"
OWN_LICENCE = "Apache-2.0"  # EdgeKD's own, which the samples and templates in a bundle carry


@dataclasses.dataclass(frozen=True)
class DataTerms:
    """Training images: their name, their licence as the source states it, and where they come
    from.
    """

    name: str
    licence: str
    source: str


@dataclasses.dataclass(frozen=True)
class NetworkTerms:
    """A network that takes part in the model.

    `role`: "student", "teacher", or "teacher2" and so on for further teachers. `origin`: where its
    weights come from. `weights_licence`: their licence; None where it is that of the model file.
    `declared`: what the recipe's `teacher.terms` says of it. `digest`: of a finished network of the
    user's, else "".
    """

    role: str
    spec: ModelSpec
    origin: str
    weights_licence: str | None = None
    declared: OutputTerms | None = None
    digest: str = ""

    @property
    def licence(self) -> str:
        """The licence of its weights, as far as it is known; "" where nothing states one."""
        if self.declared is not None and self.declared.licence:
            return self.declared.licence
        return self.spec.licence if self.weights_licence is None else self.weights_licence


@dataclasses.dataclass(frozen=True)
class LogTerms:
    """The teacher whose answers a log holds: its name in the log, the log's file, and its terms."""

    model: str
    file: str
    outputs: OutputTerms


@dataclasses.dataclass(frozen=True)
class Parts:
    """Everything that a model is made from: data, images without labels, networks, and a log."""

    data: DataTerms
    networks: tuple[NetworkTerms, ...]
    log: LogTerms | None = None
    unlabelled: DataTerms | None = None


def stated_licence(network: NetworkTerms, card: CardConfig) -> str:
    """A network's licence: what the table [card] states of the student or of the first teacher,
    else what is known of its weights.
    """
    declared = {"teacher": card.teacher_licence, "student": card.student_licence}
    return declared.get(network.role, "") or network.licence


def outputs(network: NetworkTerms, card: CardConfig) -> OutputTerms:
    """What a teacher's outputs may be used for: declared, or by its licence and its model file."""
    if network.declared is not None:
        return network.declared
    spec = network.spec
    where = f"models/{spec.name}.toml" if spec.licence or spec.output_terms else "timm"
    return of_network(stated_licence(network, card), spec.output_terms, where)


def link(
    role: str,
    name: str,
    licence: str,
    source: str,
    part: Part = "model",
    version: str | UnsetType = UNSET,
) -> LicenceLink:
    """One link of the chain. `part`: "model" when it goes into the weights, "tool" when it only
    makes or runs them.
    """
    licence = licence.strip() or "not stated"
    return LicenceLink(
        role=role,
        name=name,
        licence=licence,
        source=source,
        part=part,
        non_commercial=non_commercial(licence),
        unknown=unknown(licence),
        version=version,
    )


def role(row: LicenceLink) -> str:
    """The short name of a link's role: "data", "teacher", "teacher2", "log" and so on."""
    return LOG if row.role == LOG_ROLE else row.role.removesuffix(NETWORK_ROLE)


def network_link(network: NetworkTerms, card: CardConfig) -> LicenceLink:
    """The link of a network. What the recipe declares of a teacher stands before its licence."""
    found = link(
        f"{network.role}{NETWORK_ROLE}",
        network.spec.name,
        stated_licence(network, card),
        f"{network.spec.source or 'timm'}; weights: {network.origin}"
        + (f", digest {network.digest[:SHOWN_DIGITS]}" if network.digest else ""),
    )
    if network.role == "student":
        return found
    terms = outputs(network, card)
    if network.declared is None and found.unknown:
        terms = dataclasses.replace(terms, use=OutputUse.UNKNOWN)
    return _with_outputs(found, terms)


def log_link(log: LogTerms) -> LicenceLink:
    """The link of the teacher whose answers a log holds."""
    licence = log.outputs.licence or (
        f"{log.outputs.use} use" if log.outputs.use is not OutputUse.UNKNOWN else ""
    )
    found = link(LOG_ROLE, log.model, licence, f"answers in {log.file}")
    return _with_outputs(found, log.outputs)


def _with_outputs(found: LicenceLink, terms: OutputTerms) -> LicenceLink:
    """The link of a teacher with what its outputs may be used for."""
    told = "; ".join(part for part in (terms.clause, terms.source) if part)
    return msgspec.structs.replace(
        found,
        non_commercial=terms.use in (OutputUse.NON_COMMERCIAL, OutputUse.NO_TRAINING),
        unknown=terms.use is OutputUse.UNKNOWN,
        outputs=str(terms.use),
        terms=told or UNSET,
    )


def package_links(names: Iterable[str] = PACKAGES) -> list[LicenceLink]:
    """Links of those packages among `names` that are installed, from their own metadata."""
    return [found for name in names if (found := _package_link(name)) is not None]


@functools.cache
def _package_link(name: str) -> LicenceLink | None:
    """The link of a package, or None when it is not installed. Metadata are slow to read."""
    try:
        found = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    return link("package", name, package_licence(found), "PyPI", "tool", version=found.version)


def model_links(parts: Parts, card: CardConfig) -> list[LicenceLink]:
    """The links of everything that goes into the weights."""
    data, extra = parts.data, parts.unlabelled
    links = [link("data", data.name, card.data_licence or data.licence, data.source)]
    if extra is not None:
        licence = card.unlabelled_licence or extra.licence
        links.append(link("unlabelled data", extra.name, licence, extra.source))
    if parts.log is not None:
        links.append(log_link(parts.log))
    return links + [network_link(network, card) for network in parts.networks]


def of_student(parts: Parts, card: CardConfig) -> str:
    """The licence of the student's weights, in words for a file that another build starts from.

    It names everything that the weights were learned from, and so carries the terms on.
    """
    links = model_links(parts, card)
    own = next(row for row in links if role(row) == "student")
    return f"{own.licence}; learned from " + ", ".join(
        f"{row.name} ({role(row)}, {_terms(row)})" for row in links if row is not own
    )


def _terms(row: LicenceLink) -> str:
    """A link's licence, in words that say as much as the link does."""
    if row.non_commercial and not non_commercial(row.licence):
        return f"{row.licence}, for non-commercial use"
    if row.unknown and not unknown(row.licence):
        return f"{row.licence}, terms not stated"
    return row.licence


def chain(parts: Parts, card: CardConfig) -> LicenceChain:
    """The licence chain of a build: its parts, EdgeKD itself, and the installed packages."""
    links = model_links(parts, card)
    tainted = [row for row in links if row.non_commercial]
    open_ends = [row for row in links if row.unknown]
    links.append(
        link("code", "edgekd", OWN_LICENCE, "this build's tool, samples and templates", "tool")
    )
    return LicenceChain(
        schema=SCHEMA,
        links=links + package_links(),
        tainted_by=[_named(row) for row in tainted],
        unknown=[_named(row) for row in open_ends],
        result=result(card, bool(tainted), bool(open_ends)),
        note="read from what the parts say of themselves; not legal advice",
    )


def sources(body: LicenceChain) -> dict[str, LineageSource]:
    """The parts of the model by role, for the lineage of a bundle."""
    return {
        role(row): LineageSource(row.name, row.licence) for row in body.links if row.part == "model"
    }


def _named(row: LicenceLink) -> str:
    return f"{row.role} {row.name}: {row.licence}"


def result(card: CardConfig, tainted: bool, open_ends: bool) -> str:
    """The bundle's own licence, in words that fit a metadata field."""
    if tainted:
        return "non-commercial use only: see licences.json"
    if card.licence:
        return card.licence
    return "not determined: see licences.json" if open_ends else OWN_LICENCE


def gates(body: LicenceChain, card: CardConfig) -> list[str]:
    """Why the chain forbids the use that `card.use` declares, one sentence a link; empty when it
    does not.
    """
    if card.use != "commercial":
        return []
    return [
        f"licence: card.use is commercial, but {row} is non-commercial; replace it, or set "
        "card.use=non-commercial"
        for row in body.tainted_by
    ] + [
        f"licence: card.use is commercial, but the terms of {row} are not known; state them with "
        "card.data_licence, teacher.terms or card.student_licence"
        for row in body.unknown
    ]
