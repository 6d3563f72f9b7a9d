"""A build of a network that is trained already: its images, its labels, and its check."""

from __future__ import annotations

import msgspec

from edgekd.app import preprocessing, provenance
from edgekd.assessment import student_check
from edgekd.assessment.check_record import DeviceCheck
from edgekd.bundle import use_check
from edgekd.core import files
from edgekd.core.artifacts import Network
from edgekd.core.errors import DataError, RecipeError, UnsupportedNetwork
from edgekd.core.frames import Frame
from edgekd.data import source_registry, unsorted
from edgekd.data.sources import Source
from edgekd.export import format_packages
from edgekd.export.untrained_model import given_tflite
from edgekd.networks.foreign import preprocessings
from edgekd.networks.foreign.model import CONVERT
from edgekd.networks.foreign.outputs import UnclearAnswers
from edgekd.pipeline.jobs import Job
from edgekd.quantization import given_network
from edgekd.settings import recipe
from edgekd.settings.device_profiles import DeviceProfile
from edgekd.settings.model_specs import RANDOM_WEIGHTS
from edgekd.settings.recipe import DataConfig, Recipe
from edgekd.tflite.int8_rules import Int8Rules


def job(settings: Recipe, device: DeviceProfile) -> Job:
    """The job of a network that the recipe's table [convert] names.

    Raises what loading the network and opening the images raise, and RecipeError where the
    network's answers show that the preprocessing is wrong.
    """
    try:
        network = given_network.network(settings.convert)
    except UnclearAnswers as error:  # the images may tell
        source, labelled = _opened(settings.data)
        classes = len({item.label for item in source.items()}) if labelled else 0
        settings = recipe.changed(settings, {"convert.outputs": error.outputs_for(classes)})
        network = given_network.network(settings.convert)
    _check_outputs(settings)
    source, labels = _source(settings, network)
    settings = recipe.changed(
        settings,
        {
            "data.input_px": network.px,
            "data.channels": str(len(network.mean)),
            "distil.student": str(network.facts["name"]),
            "teacher.name": "none",
            "convert.labels": labels,
        },
    )
    settings.ports.sides(network.px)
    made = Job(settings, device, source)
    format_packages.check(made.formats, device)
    use_check.check(provenance.made_of(made, {}), settings.card)
    if labels == "own":
        preprocessing.check(source, network, settings)
    return made


def _check_outputs(settings: Recipe) -> None:
    """Raise RecipeError for a training of a network with several outputs."""
    answers, *further = given_network.foreign(settings.convert).outputs or ("",)
    if settings.qat.epochs and further:
        raise RecipeError(
            f"{settings.convert.model} also gives {', '.join(further)}, and training with int8 in "
            "the loop follows the answers alone, so these would drift",
            f"convert without --qat, or keep the answers alone: --outputs {answers}",
        )


def _source(settings: Recipe, network: Network) -> tuple[Source, str]:
    """The images, and whether they have labels of their own. Raises DataError."""
    wanted, outputs = settings.convert.labels, len(given_network.classes(network))
    source, labelled = _opened(settings.data)
    found = sorted({item.label for item in source.items()}) if labelled else []
    fits = len(found) == outputs and source.labels is None
    if wanted == "own" and not fits:
        raise DataError(
            f"{source.name} has {len(found)} classes, and {network.facts['name']} has {outputs} "
            "outputs, so its labels cannot be used",
            f"give images of {outputs} classes, in the order of the outputs, or leave "
            "convert.labels out: answers are then compared with the float network's",
        )
    if fits and wanted != "network":
        return source, "own"
    return (unsorted.without_labels(source) if labelled else source), "network"


def _opened(config: DataConfig) -> tuple[Source, bool]:
    """The source, and whether its images have labels."""
    folder = files.expanded(config.source, "--data")
    try:
        source = source_registry.open_all(config)
        several = len({item.label for item in source.items()}) > 1
        if several or not files.is_folder(folder, "--data"):
            return source, True
    except DataError:
        if not files.is_folder(folder, "--data"):
            raise
    return unsorted.FolderOfImages(folder), False


def notes(made: Job) -> list[str]:
    """What is assumed of the network because nothing says it, and that it was never trained."""
    config, told = made.recipe.convert, []
    facts = given_network.network(config).facts
    if facts["weights"] == RANDOM_WEIGHTS:
        told.append(
            f"{config.model} has random weights: its answers mean nothing; "
            f"{config.model}@DEFAULT or {config.model}@FILE.pth names trained ones"
        )
    if not given_network.states_normalisation(config):
        did = preprocessings.inside(facts)
        told.append(preprocessings.assumed(config.model, did, CONVERT, config.order))
    return told


def check(settings: Recipe, profile: DeviceProfile) -> DeviceCheck:
    """What a device makes of a network of the user's. It holds no edits, because those are of
    settings that a finished network does not have. Raises UnsupportedNetwork.
    """
    config = settings.convert
    network = given_network.network(config)
    frame = Frame.of(settings.ports.sides(network.px), network.px)
    try:
        data = given_tflite(network, Int8Rules.from_dict(dict(profile.rules)), frame)
    except UnsupportedNetwork as error:
        raise UnsupportedNetwork(
            f"{config.model}: {error.what}",
            "replace it in the network and export it again; docs/measured/networks.md lists "
            "networks that convert",
        ) from error
    name = f"{network.facts['name']} at {network.px} px"
    found = student_check.check_given(name, data, profile, config)
    return msgspec.structs.replace(found, edits=[])
