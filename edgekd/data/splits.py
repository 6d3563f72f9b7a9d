"""Splitting and drawing: stratified by class, in whole groups, and reproducible by the seed.

The functions work on plain lists of labels and groups, so that they can be tested without images.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from edgekd.core.errors import DataError

# Fewest images of a class in a split. With fewer, one image changes the recall of its class by more
# than 20 points.
FEWEST = 5


def hold_out(
    labels: Sequence[Sequence[str]], groups: Sequence[str], share: float, seed: int, into: str
) -> set[int]:
    """Choose about `share` of each class, in whole groups; returns the indices of chosen images.

    `labels`: the classes that each image counts for, one or (with several labels) more. `groups`:
    the group of each image. `into`: the name of the split, for messages.

    A class gets round(share * its images), but at least FEWEST, and at least FEWEST of its images
    stay behind. Classes are served from the rarest on, each from its groups in an order that the
    seed fixes. A group that would exceed a class's number is taken only when no smaller one is
    left. With several labels this is the iterative stratification of Sechidis et al. 2011 (doi
    10.1007/978-3-642-23808-6_10).

    Raises DataError when a class has too few images or too few groups.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    sizes = Counter(label for own in labels for label in own)
    wanted = {label: max(FEWEST, round(share * size)) for label, size in sizes.items()}
    left, taken = sizes.copy(), Counter[str]()
    chosen: set[str] = set()
    names = sorted(members)
    counts = {
        name: Counter(label for index in members[name] for label in labels[index]) for name in names
    }
    by_class: dict[str, list[str]] = defaultdict(list)
    for position in np.random.default_rng([seed, len(labels)]).permutation(len(names)):
        for label in counts[names[position]]:
            by_class[label].append(names[position])

    for label in sorted(sizes, key=lambda name: (sizes[name], name)):
        own = by_class[label]
        for overshoot in (False, True):
            for group in own:
                parts = counts[group]
                if taken[label] >= wanted[label]:
                    break
                if group in chosen:
                    continue
                if not overshoot and any(
                    taken[part] + count > wanted[part] for part, count in parts.items()
                ):
                    continue
                if any(left[part] - count < FEWEST for part, count in parts.items()):
                    continue
                chosen.add(group)
                taken.update(parts)
                left.subtract(parts)
        if taken[label] < min(FEWEST, wanted[label]):
            raise DataError(
                f"class {label!r} has {sizes[label]} images in {len(own)} groups, which is too few "
                f"to put {wanted[label]} of them into {into} and keep {FEWEST} for train without "
                "dividing a group",
                f"add images of {label!r}, or bring your own {into}/ folder",
            )
    return {index for group in chosen for index in members[group]}


def hold_out_latest(
    labels: Sequence[Sequence[str]],
    groups: Sequence[str],
    dates: Sequence[dt.date],
    share: float,
    into: str,
) -> set[int]:
    """Choose about `share` of the images from the latest groups on; returns the chosen indices.

    A group is as late as its latest image, so that no test image is older than what a patient who
    is trained on shows. Groups are taken whole, from the latest on, until there are round(share *
    images), and FEWEST of each class. Arguments as in `hold_out`; `dates`: of each image.

    Raises DataError when fewer than FEWEST images of a class would stay behind.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    latest = {group: max(dates[index] for index in own) for group, own in members.items()}
    wanted = max(FEWEST, round(share * len(labels)))
    left = Counter(label for own in labels for label in own)
    taken: Counter[str] = Counter()
    chosen: set[int] = set()
    for group in sorted(members, key=lambda name: (latest[name], name), reverse=True):
        if len(chosen) >= wanted and all(taken[label] >= FEWEST for label in left):
            break
        chosen.update(members[group])
        parts = Counter(label for index in members[group] for label in labels[index])
        taken.update(parts)
        left.subtract(parts)
    few = sorted(label for label, count in left.items() if count < FEWEST)
    if few:
        raise DataError(
            f"class {few[0]!r} has {left[few[0]]} images before the time that {into} begins, and "
            f"train needs {FEWEST}",
            f"add older images of {few[0]!r}, or build with --set data.split=random",
        )
    return chosen


def draw(labels: Sequence[int], count: int, seed: int) -> list[int]:
    """Draw `count` indices in proportion to the classes; returns them sorted.

    Each class comes at least once while there is room. Numbers are rounded by the largest
    remainder, so that exactly `count` indices come, or all of them when there are no more.
    """
    if len(labels) <= count:
        return list(range(len(labels)))
    by_class: dict[int, list[int]] = defaultdict(list)
    for index, label in enumerate(labels):
        by_class[label].append(index)
    names = sorted(by_class)
    shares = np.array([len(by_class[name]) * count / len(labels) for name in names])
    quota = np.floor(shares).astype(int)
    quota[quota == 0] = 1
    # Classes whose number was rounded down most come first.
    by_remainder = np.argsort(quota - shares, kind="stable")
    position = 0
    while quota.sum() < count:
        name = int(by_remainder[position % len(names)])
        quota[name] += int(quota[name] < len(by_class[names[name]]))
        position += 1
    # One for each class can be too many in all: the largest classes give some back.
    while quota.sum() > count:
        quota[int(np.argmax(quota))] -= 1
    rng = np.random.default_rng([seed, len(labels), count])
    picked = [
        int(index)
        for name, size in zip(names, quota, strict=True)
        for index in rng.permutation(by_class[name])[:size]
    ]
    return sorted(picked)
