"""Names of classes: what labels.txt cannot hold is refused, and names that look alike are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekd.core.errors import DataError
from edgekd.data import class_names, dataset_builder
from edgekd.data.phantom_source import PhantomSource
from edgekd.data.sources import UNLABELLED, Item
from edgekd.settings.recipe import DataConfig

COMPOSED, DECOMPOSED = "Z\u00fcrich", "Zu\u0308rich"


def items(*names: str, split: str | None = None) -> list[Item]:
    return [Item(f"{row}.png", name, split) for row, name in enumerate(names)]


@pytest.mark.parametrize(
    "name",
    [
        *(f"a{char}b" for char in "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029\t\0\x7f"),
        "\ufeffcat",
        "",
        " ",
    ],
)
def test_a_name_that_labels_txt_cannot_hold_is_refused_with_escapes(name: str) -> None:
    for found in (items("dog", name), [Item("a", "x", None, None, ("dog", name))]):
        with pytest.raises(DataError, match="pets: the name of") as error:
            class_names.checked(found, None, "pets")
        assert str(error.value).isprintable() or str(error.value).count("\n") == 1
        assert class_names.escaped(name) in error.value.what
    with pytest.raises(DataError):
        class_names.checked([], ["dog", name], "pets")


def test_names_are_published_composed() -> None:
    found = class_names.checked(items("cat", DECOMPOSED), None, "pets")
    assert [item.label for item in found] == ["cat", COMPOSED]
    several = [Item("a", "x", None, None, ("cat", DECOMPOSED, COMPOSED))]
    assert class_names.checked(several, None, "pets")[0].findings == ("cat", COMPOSED)
    same = items("cat", COMPOSED)
    assert class_names.checked(same, None, "pets") == same


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("NORMAL", "Normal"),
        ("NORMAL", "NORMAL "),
        ("NORMAL", "\u00a0NORMAL"),
        ("ﬁbrosis", "fibrosis"),
        ("cat", "ca\u200bt"),
        ("straße", "STRASSE"),
    ],
)
def test_names_that_look_alike_are_a_warning_and_an_error_between_splits(
    one: str, other: str
) -> None:
    (said,) = class_names.look_alikes(items(one, other, "dog"))
    assert class_names.escaped(one) in said
    assert class_names.escaped(other) in said
    assert len(class_names.checked(items(one, other), None, "pets")) == 2
    apart = items(one, "dog", split="train") + items(other, "dog", split="test")
    with pytest.raises(DataError, match="different splits look alike"):
        class_names.checked(apart, None, "pets")


def test_two_unicode_forms_are_one_class_in_any_split() -> None:
    (said,) = class_names.look_alikes(items(COMPOSED, DECOMPOSED))
    assert "'Zürich'" in said
    assert r"'Zu\u0308rich'" in said
    found = class_names.checked(
        items(COMPOSED, split="train") + items(DECOMPOSED, split="test"), None, "pets"
    )
    assert {item.label for item in found} == {COMPOSED}


def test_distinct_names_and_images_without_a_label_are_nothing_to_warn_of() -> None:
    assert class_names.look_alikes([*items("cat", "dog"), Item("u", "", UNLABELLED)]) == []


class _Renamed(PhantomSource):
    """A source whose classes have other names, as a plug-in may give them."""

    def __init__(self, names: dict[str, str]) -> None:
        super().__init__(120, 16)
        self.names = names

    def items(self) -> list[Item]:
        return [Item(i.name, self.names[i.label], i.split, i.group) for i in super().items()]


def test_every_source_is_checked_when_its_data_set_is_built(tmp_path: Path) -> None:
    names = sorted({item.label for item in PhantomSource(120, 16).items()})
    bad = _Renamed(dict.fromkeys(names, "x") | {names[0]: "two\nlines"})
    with pytest.raises(DataError, match=r"two\\nlines"):
        dataset_builder.build_dataset(bad, DataConfig())
    accents = _Renamed({name: f"{DECOMPOSED} {name}" for name in names})
    built = dataset_builder.build_dataset(accents, DataConfig())
    assert all(name.startswith(COMPOSED) for name in built.classes)
    assert set(built.facts["counts"]["train"]) == set(built.classes)
