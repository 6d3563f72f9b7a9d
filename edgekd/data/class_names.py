"""Names of classes and labels: their normal form, and the checks that every source goes through.

A bundle's labels.txt holds one name a line, and apps read it back with functions like
`str.splitlines`. A name with a line break, or two names that look the same, would give the answers
of one class the name of another.
"""

from __future__ import annotations

import dataclasses
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence

from edgekd.core.errors import DataError
from edgekd.data.sources import UNLABELLED, Item, together

# Unicode categories that a name must not hold: control characters (line breaks and tabs are among
# them), line separators and paragraph separators.
_REFUSED = frozenset({"Cc", "Zl", "Zp"})
# Some editors write it at the start of a file. It is invisible.
_BYTE_ORDER_MARK = "\ufeff"
# A message lists this many pairs of names that look alike.
_SHOWN = 3


def normal(name: str) -> str:
    """The name in Unicode's composed form (NFC), in which names are compared and published.

    macOS decomposes the accents in names of files, and Linux and Windows keep them as typed.
    """
    return unicodedata.normalize("NFC", name)


def escaped(name: str) -> str:
    r"""The name in quotes, with escapes for what a reader could not see or tell apart.

    Invisible characters and accents that stand alone become escapes such as \u0308, so that the
    composed and the decomposed form of a name differ. Outer spaces are visible by the quotes.
    """
    return "".join(
        char if not unicodedata.combining(char) else f"\\u{ord(char):04x}" for char in repr(name)
    )


def checked(items: Sequence[Item], labels: Sequence[str] | None, where: str) -> list[Item]:
    """The items with their names in normal form. `labels`: those of a source that has several an
    image; `where`: the source, for messages.

    Raises DataError for a name that is empty, or that holds a control character, a line separator
    or a byte-order mark, and for names of different splits that look alike (`look_alikes`).
    """
    names = {item.label for item in items if item.findings is None and item.split != UNLABELLED}
    names |= {name for item in items for name in (*(item.findings or ()), *item.uncertain)}
    names |= set(labels or ())
    for name in sorted(names):
        _refuse_unprintable(name, where)
    between = _between_splits(items)
    if between:
        raise DataError(
            f"{where}: names of classes in different splits look alike: {_listed(between)}",
            "spell each class alike in every split",
        )
    if all(name == normal(name) for name in names):
        return list(items)
    return [_normal_item(item) for item in items]


def look_alikes(items: Sequence[Item], labels: Sequence[str] | None = None) -> list[str]:
    """A sentence for the user when names look alike: they differ only in case, in their Unicode
    form, in outer spaces or in invisible characters. Names with the same normal form are one class.
    """
    names = {name for item in items if item.split != UNLABELLED for name in _named(item)}
    found = _alike(names | set(labels or ()))
    same = [group for group in found if len({normal(name) for name in group}) == 1]
    apart = [group for group in found if group not in same]
    said = []
    if same:
        said.append(
            f"names of classes in two Unicode forms, each taken as one class: {_listed(same)}"
        )
    if apart:
        said.append(
            f"names of classes that look alike: {_listed(apart)}; if they mean one class, give "
            "them one name"
        )
    return said


def _named(item: Item) -> tuple[str, ...]:
    return (item.label,) if item.findings is None else item.findings


def _refuse_unprintable(name: str, where: str) -> None:
    if not name.strip():
        raise DataError(
            f"{where}: the name of a class is empty ({escaped(name)})",
            "give every class a name",
        )
    bad = next((char for char in name if _unwanted(char)), None)
    if bad is not None:
        what = unicodedata.name(bad, "a control character").lower()
        raise DataError(
            f"{where}: the name of the class {escaped(name)} holds {escaped(bad)} ({what}), which "
            "labels.txt cannot hold",
            "rename the class, with printable characters on one line",
        )


def _unwanted(char: str) -> bool:
    return char == _BYTE_ORDER_MARK or unicodedata.category(char) in _REFUSED


def _key(name: str) -> str:
    """What names that look alike have in common: compatibility form, without case and what is
    invisible (Unicode's category Cf), and without outer spaces.
    """
    plain = unicodedata.normalize("NFKC", name)
    visible = "".join(char for char in plain if unicodedata.category(char) != "Cf")
    return unicodedata.normalize("NFKC", visible.casefold()).strip()


def _alike(names: Iterable[str]) -> list[list[str]]:
    """Groups of at least two names that look alike."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        groups[_key(name)].append(name)
    return [group for _, group in sorted(groups.items()) if len(group) > 1]


def _between_splits(items: Sequence[Item]) -> list[list[str]]:
    """The names that look alike, but are not used by the same splits."""
    splits: dict[str, set[str | None]] = defaultdict(set)
    for item in items:
        if item.split != UNLABELLED:
            for name in _named(item):
                splits[normal(name)].add(item.split)
    return [
        group for group in _alike(splits) if len({frozenset(splits[name]) for name in group}) > 1
    ]


def _listed(groups: Sequence[Sequence[str]]) -> str:
    more = f", and {len(groups) - _SHOWN} more" if len(groups) > _SHOWN else ""
    return ", ".join(" and ".join(map(escaped, group)) for group in groups[:_SHOWN]) + more


def _normal_item(item: Item) -> Item:
    if item.findings is None:
        return dataclasses.replace(item, label=normal(item.label))
    findings = tuple(dict.fromkeys(normal(name) for name in item.findings))
    unsure = tuple(dict.fromkeys(normal(name) for name in item.uncertain))
    return dataclasses.replace(item, label=together(findings), findings=findings, uncertain=unsure)
