"""Labels that their author could neither confirm nor exclude (-1), and what becomes of them.

`data.uncertain` says how training takes them:

* "ignore": the label of that image is left out of the loss (U-Ignore)
* "zero", "one": it counts as absent or as present (U-Zeros, U-Ones)
* "soft:LOW-HIGH": its target is a probability between LOW and HIGH, which is drawn once for each
  image and label

The first three are those of Irvin et al. 2019 (arXiv 1901.07031). The fourth is Pham et al. 2021
(arXiv 1911.06475), who draw from 0.55 to 0.85 in place of one, and from 0 to 0.3 in place of zero.

With "ignore" and "soft" an image with an uncertain label is no measure of accuracy: it is left out
of val and test, and counted.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

from edgekd.core.errors import DataError
from edgekd.core.records import Record
from edgekd.data.decoding import ReadImage
from edgekd.data.sources import Item, together

# A warning names this many labels.
_SHOWN = 3


class UncertainLabels(Record, frozen=True):
    """`policy`: `data.uncertain`. `counts`: uncertain labels of each name, over all images.

    `left_out`: images that were left out of val and test because of one.
    """

    policy: str
    counts: dict[str, int]
    left_out: int


def decided(items: Sequence[Item], policy: str, where: str) -> list[Item]:
    """The items after "zero" or "one": nothing is uncertain. Other policies change nothing.

    Raises DataError under the policy "refuse" when a label is uncertain.
    """
    found = counts(items)
    if not found:
        return list(items)
    if policy == "refuse":
        each = ", ".join(f"{name} {count}" for name, count in found.items())
        raise DataError(
            f"{where}: {sum(found.values())} labels are uncertain ({each})",
            "decide them all with --set data.uncertain=ignore, zero, one or soft:0.55-0.85",
        )
    if policy not in ("zero", "one"):
        return list(items)
    return [_settled(item, policy) for item in items]


def counts(items: Sequence[Item]) -> dict[str, int]:
    """How many images each label is uncertain for, most first."""
    return dict(Counter(name for item in items for name in item.uncertain).most_common())


def _settled(item: Item, policy: str) -> Item:
    if not item.uncertain or item.findings is None:
        return item
    findings = item.findings if policy == "zero" else (*item.findings, *item.uncertain)
    return dataclasses.replace(item, label=together(findings), findings=findings, uncertain=())


def warnings(policy: str, found: Mapping[str, int], left_out: int) -> list[str]:
    """A sentence on what became of uncertain labels; none without any."""
    if not found:
        return []
    meaning = {
        "ignore": "training leaves them out",
        "zero": "they count as absent",
        "one": "they count as present",
    }.get(policy, "training takes a probability for each")
    more = f", and {len(found) - _SHOWN} more labels" if len(found) > _SHOWN else ""
    each = ", ".join(f"{name} {count}" for name, count in list(found.items())[:_SHOWN])
    gone = f"; {left_out} images with one were left out of val and test" if left_out else ""
    said = f"{sum(found.values())} labels are uncertain ({each}{more}): {meaning}"
    return [f"{said} (data.uncertain = {policy}){gone}"]


def measurable(images: Sequence[ReadImage]) -> list[ReadImage]:
    """The images without those of val and test that have an uncertain label."""
    return [image for image in images if image.split == "train" or not image.item.uncertain]


def targets(
    image: ReadImage, policy: str, numbers: Mapping[str, int], seed: int
) -> dict[str, float | None]:
    """What training takes for the uncertain labels of an image: {number of the label: target}.

    None means that the loss leaves the label out. A probability is a function of the seed, the
    image's bytes and the label alone: no other image or label changes it.
    """
    ends = policy.removeprefix("soft:").split("-") if policy.startswith("soft:") else None
    return {
        str(numbers[name]): None
        if ends is None
        else _drawn(float(ends[0]), float(ends[1]), f"{seed}\0{image.sha256}\0{name}")
        for name in image.item.uncertain
    }


def _drawn(low: float, high: float, text: str) -> float:
    """A number from `low` to `high`, uniform over texts: 53 bits of a sha256, as float64 holds."""
    bits = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 11
    return low + (high - low) * (bits / (1 << 53))
