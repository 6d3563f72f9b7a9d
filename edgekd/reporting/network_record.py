"""Records of report.json's blocks "models" and "training": each network, and how it was trained."""

from __future__ import annotations

from typing import Literal

from edgekd.assessment.check_record import LatencyCut, PairRow
from edgekd.core.intervals import Interval
from edgekd.core.records import UNSET, Record, UnsetType
from edgekd.evaluation.accuracy_record import Figures


class EpochRow(Record, frozen=True, kw_only=True):
    """One epoch: the mean training loss, and figures on the validation images.

    `cosine`: between the student's and the teacher's features, each dimension standardised, where
    the student learned features. `cut`: where channels are pruned in several cuts, the number of
    the cut, from 1.
    """

    epoch: int
    loss: float
    top1: float | UnsetType = UNSET
    auc: float | UnsetType = UNSET
    cosine: float | UnsetType = UNSET
    cut: int | UnsetType = UNSET


class GroupShare(Record, frozen=True):
    """The share of a group's `n` images that is answered right."""

    n: int
    top1: float
    top1_ci95: Interval


class GroupShares(Record, frozen=True):
    """Top-1 of each training group, the group with the lowest, and highest less lowest."""

    each: dict[str, GroupShare]
    worst: str
    gap: float


class Size(Record, frozen=True):
    """Parameters, and multiply-accumulates of one image."""

    params: int
    macs: int


class Cut(Record, frozen=True):
    """One cut of pruning: the size after it, and how many channels it removed.

    `layers`: how many pointwise layers became two, in the step that makes low-rank pairs.
    """

    cut: int
    params: int
    macs: int
    channels: int
    layers: int | UnsetType = UNSET


class PrunedGroup(Record, frozen=True):
    """Channels that pruning can only remove together, before and after.

    `whole`: why the group was left whole, or "".
    """

    group: str
    before: int
    after: int
    whole: str


class MissingMass(Record, frozen=True):
    """The probability that a log's rows do not state: the mean and the largest of all rows."""

    mean: float
    most: float


class LogBlock(Record, frozen=True):
    """The log of a teacher's answers that the student learned from. `skipped`: rows by reason."""

    source: Literal["log"]
    answers: int
    images: int
    classes_a_row: int
    missing_mass: MissingMass
    too_old: int
    skipped: dict[str, int]
    model: str
    oldest: str
    newest: str
    hashes_checked: int


class Client(Record, frozen=True):
    """One client of a federated teacher: its images, and its top-1 on the test images."""

    name: str
    images: int
    by_class: list[int]
    top1: float | None


class ClientsBlock(Record, frozen=True):
    """The clients whose answers the student learned from."""

    source: Literal["clients"]
    rounds: int
    clients: list[Client]
    mean_top1: float | None


class TeacherStep(Record, frozen=True, kw_only=True):
    """One way to make or to ask a teacher, judged on the plain validation images.

    `kept`: whether the teacher that teaches has this step. `held_out`: the cross-entropy on
    held-out training images by which it was chosen, where it was.
    """

    step: str
    top1: float
    auc: float | UnsetType = UNSET
    cross_entropy: float
    held_out: float | UnsetType = UNSET
    kept: bool


class Pretraining(Record, frozen=True):
    """How a student learned a teacher's features before it learned classes, without any label.

    `images`: how many it saw in each epoch. `loss`: mean squared error on standardised features, in
    the last epoch. `cosine`: with the teacher's standardised features, the mean over the validation
    images.
    """

    teacher: str
    images: int
    epochs: int
    loss: float
    cosine: float


class NetworkBlock(Record, frozen=True, kw_only=True):
    """One network. `input`: height, width and channels.

    `weights`: where its first weights came from: "random", "hub", a package, or a file's name.
    `first_weights`: the same in one line for people, with the reason for random ones.
    `trained_weights`: what trained ones were worth where that was measured, for a student from
    random ones.
    `pretrained`: what it learned before the classes.
    `losses`: the weight of each loss that trained the student; `notes`: losses that were left out
    or replaced. `groups`: accuracy by training group, of a pruned network its channel groups.
    `digest`: of a finished network of the user's, what its contents hash to: for a file its sha256.
    """

    arch: str
    params: int
    macs: int
    input: list[int]
    name: str
    weights: str
    licence: str
    digest: str | UnsetType = UNSET
    first_weights: str | UnsetType = UNSET
    trained_weights: str | UnsetType = UNSET
    mode: str | UnsetType = UNSET  # how the teacher was trained
    lr: float | UnsetType = UNSET
    batch: int | UnsetType = UNSET  # images in a step, where the build chose it
    head_decay: float | UnsetType = UNSET
    metrics: dict[str, Figures] | UnsetType = UNSET  # the teacher's, by split
    steps: list[TeacherStep] | UnsetType = UNSET  # what each step gained the teacher
    pretrained: Pretraining | UnsetType = UNSET
    losses: dict[str, float] | UnsetType = UNSET
    notes: list[str] | UnsetType = UNSET
    log: LogBlock | UnsetType = UNSET
    clients: ClientsBlock | UnsetType = UNSET
    groups: dict[str, GroupShares] | list[PrunedGroup] | UnsetType = UNSET
    before: Size | UnsetType = UNSET  # of a pruned network: its size before
    cuts: list[Cut] | UnsetType = UNSET
    pairs: list[PairRow] | UnsetType = UNSET  # with prune.low_rank
    kept_whole: dict[str, int] | UnsetType = UNSET  # pointwise layers that are no pair, by reason
    latency: LatencyCut | UnsetType = UNSET  # of one that was pruned to prune.target_latency

    @property
    def given(self) -> bool:
        """Whether it is a finished network of the user's."""
        return self.digest is not UNSET
