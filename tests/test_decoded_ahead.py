"""Images that are decoded at two sizes at once, so that their files are read once."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import numpy as np
import pytest
from PIL import Image

from edgekd.data import decoded_ahead
from edgekd.data.decoded_ahead import DecodedAhead
from edgekd.data.decoding import AHEAD, Decoded, decoded
from edgekd.data.pixel_rules import PixelRules
from edgekd.data.sources import Item, SourceFacts


@dataclass
class Counted:
    """A source of PNG files in memory that counts what is loaded."""

    name: str = "counted"
    labels: None = None
    facts: SourceFacts = field(
        default_factory=lambda: SourceFacts(licence="none", source="test", synthetic=False)
    )
    loads: int = 0

    def items(self) -> list[Item]:
        return [Item(str(number), "") for number in range(3)]

    def load(self, item: Item) -> bytes:
        self.loads += 1
        pixels = np.random.default_rng(int(item.name)).integers(0, 256, (40, 30, 3), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        return buffer.getvalue()

    def native_px(self) -> int:
        return 40

    def fingerprint(self) -> str:
        return "counted"


def read(source: Counted, px: int, ahead_px: int | None = None) -> list[Decoded]:
    found = [image for _, image in decoded(source, source.items(), rules(px), None, ahead_px)]
    assert all(isinstance(image, Decoded) for image in found)
    return [image for image in found if isinstance(image, Decoded)]


def rules(px: int) -> PixelRules:
    return PixelRules(px, "crop")


def test_a_size_that_is_asked_for_next_is_not_decoded_again() -> None:
    source = Counted()
    wanted = read(Counted(), 16)
    read(source, 24, ahead_px=16)
    found = read(source, 16)
    assert source.loads == 3
    for one, other in zip(found, wanted, strict=True):
        assert one.sha256 == other.sha256
        assert np.array_equal(one.pixels, other.pixels)
    AHEAD.forget()
    read(source, 16)
    assert source.loads == 6


def test_another_source_or_other_rules_get_nothing() -> None:
    first, second = Counted(), Counted()
    read(first, 24, ahead_px=16)
    read(first, 20)
    assert first.loads == 6
    read(second, 16)
    assert second.loads == 3
    AHEAD.forget()


def test_no_more_is_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoded_ahead, "MOST", 20)
    source, kept = Counted(), DecodedAhead[str]()
    for name in "abc":
        kept.keep(source, name, f"image {name}", 10)
    assert [kept.get(source, name) for name in "abc"] == ["image a", "image b", None]
