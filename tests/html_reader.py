"""Read a page as a strict browser would: every tag closed in order, and nothing loaded."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "wbr", "hr", "input", "rect", "circle", "line", "polyline"}
SVG_EMPTY = {
    "rect",
    "circle",
    "line",
    "polyline",
}  # written as <rect .../> or with a <title> inside
HOSTILE = (
    "\"><script>alert(1)</script><img src=http://evil.example/x onerror=alert(2)>'&\u202e\x00\udce9"
)


class Page(HTMLParser):
    """A strict reader, which keeps texts, attributes, headings and table rows."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open, self.attributes, self.headings, self.texts, self.rows = [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag == "tr":
            self.rows.append("")
        if tag in ("h1", "h2", "h3", "h4"):
            self.headings.append(int(tag[1]))
        if tag not in VOID - SVG_EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> without its start"
        assert self.open[-1] == tag, f"</{tag}> inside {self.open}"
        self.open.pop()

    def handle_data(self, data):
        if "style" not in self.open and "script" not in self.open:
            self.texts.append(data)
            if "tr" in self.open:
                self.rows[-1] += data + " "

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.texts))

    def values(self, tag, name):
        return [value for t, n, value in self.attributes if t == tag and n == name]

    def row(self, start):
        """Cells of the table row that starts with a text, joined."""
        return next(
            row
            for row in (re.sub(r"\s+", " ", row).strip() for row in self.rows)
            if row.startswith(start)
        )


def assert_alone(text: str, script: str = "") -> Page:
    """The page, read, after asserting that it loads nothing from outside.

    `script`: the only script that it may hold, whose digest its policy has to name.
    """
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"; script-src 'sha256-{digest}'\">" in text
        assert text.count(f"<script>{script}</script>") == 1
        text = text.replace(f"<script>{script}</script>", "")
    read = Page(text)
    for tag, name, value in read.attributes:
        assert name not in ("srcset", "action", "ping", "background", "poster", "xlink:href"), (
            tag,
            name,
        )
        assert not name.startswith("on"), (tag, name, value)
        if name in ("src", "href"):
            assert value.startswith(("#", "data:")), (tag, name, value)
        if name == "style":
            assert re.fullmatch(r"--s:[01]\.\d+", value), value
    assert not re.search(r"@import|url\s*\(", text.split("</style>")[0])
    assert "<script" not in text.lower()
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert any(content.startswith(policy) for content in read.values("meta", "content"))
    return read
