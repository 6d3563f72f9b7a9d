"""report.html, search.html and the pages of several builds in real Chromium.

The console stays empty, nothing scrolls sideways, and axe-core finds nothing. Needs
playwright, a Chromium, and EDGEKD_NODE_MODULES with npm's axe-core.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgekd.bundle.licences_record import LicenceChain, LicenceLink
from edgekd.core.records import from_json
from edgekd.evaluation import conformal, subgroups
from edgekd.evaluation.confidence_record import OutputKind
from edgekd.reporting import builds_page, comparison, comparison_page, html_report
from edgekd.reporting.report_record import BundleBlock, Report
from edgekd.search import page as search_page
from edgekd.search.record import SearchState
from edgekd.settings import preset_record, recipe
from edgekd.settings.recipe import SubgroupConfig
from edgekd.tflite.int8_rules import Range
from tests.sample_builds import builds
from tests.sample_report import EXAMPLES, other, report, whole
from tests.sample_search import search
from tests.two_networks import evaluation

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
WIDTHS = {"phone": (360, 740), "desktop": (1280, 900)}


def full() -> Report:
    """A report with every section."""
    rng, grid = np.random.default_rng(0), Range(0.1, 0)
    labels = rng.integers(0, 2, 600)
    codes = rng.normal(0, 15, (600, 2)).clip(-128, 127).astype(np.int8)
    fitted = conformal.fit(codes[:300], labels[:300], grid, OutputKind.LOGITS, 0.9)
    confidence = conformal.record(
        fitted, conformal.judge(fitted, codes[300:], labels[300:], grid), grid
    )
    return msgspec.structs.replace(
        report(whole()),
        confidence=msgspec.structs.replace(confidence, warning="The promise does not hold."),
        subgroups=subgroups.report(
            *evaluation(damage="old", share=0.4), SubgroupConfig(column="age")
        ),
        licences=licence_chain(),
        bundle=BundleBlock("0" * 64, 68, 1),
        preset=preset_record.block(recipe.load(None, ["distil.preset=quick", "qat.epochs=2"])),
    )


def licence_chain() -> LicenceChain:
    """The parts of a model whose teacher may not be used commercially."""
    terms = {"source": "timm", "part": "model", "unknown": False}
    rows = [
        {"role": "data", "name": "mine", "licence": "CC BY 4.0", "non_commercial": False, **terms},
        {
            "role": "teacher network and weights",
            "name": "resnet18",
            "licence": "CC-BY-NC-4.0",
            "non_commercial": True,
            **terms,
        },
    ]
    return LicenceChain(
        schema="edgekd.licences/1",
        links=[from_json(LicenceLink, row, "a link") for row in rows],
        tainted_by=["teacher network and weights resnet18: CC-BY-NC-4.0"],
        unknown=[],
        result="non-commercial use only: see licences.json",
        note="not legal advice",
    )


def unfinished() -> Report:
    """A report of a build that stopped after its first stages."""
    kept = ("schema", "edgekd", "profile", "seed", "data", "stages", "models")
    body = whole()
    return report({key: body[key] for key in kept} | {"training": {}})


PAGES = {
    "report": lambda: html_report.page(full(), EXAMPLES),
    "unfinished": lambda: html_report.page(unfinished()),
    "comparison": lambda: comparison_page.page(
        comparison.compare(
            [
                comparison.Build("one", full(), {"seed": 0}),
                comparison.Build("two", report(other()), {"seed": 1}),
            ]
        )
    ),
    "builds": lambda: builds_page.page(comparison.compare(builds(40))),
    "search": lambda: search_page.page(search()),
    "search of 300": lambda: search_page.page(
        search(sizes=(64, 80, 96, 112, 128, 144, 160), planned=300)
    ),
    **{
        f"search, {state}": lambda state=state: search_page.page(search(state))
        for state in (
            SearchState.NOTHING_FITS, SearchState.NOTHING_KEPT, SearchState.INTERRUPTED
        )
    },
}  # fmt: skip


@pytest.fixture
def browser() -> Iterator[Any]:
    """A Chromium that playwright drives."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with api.sync_playwright() as play:
        found = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_reads_well_everywhere(name: str, browser: Any, tmp_path: Path) -> None:
    """Light and dark, on a phone and on a desktop."""
    axe = Path(os.environ.get("EDGEKD_NODE_MODULES", "nowhere"), "axe-core", "axe.min.js")
    if not axe.is_file():
        pytest.skip("EDGEKD_NODE_MODULES names no folder with axe-core")
    (tmp_path / "page.html").write_text(PAGES[name](), encoding="utf-8")
    found: dict[str, list[object]] = {}
    for size, (width, height) in WIDTHS.items():
        for scheme in ("light", "dark"):
            # bypass_csp: the page's own policy lets no script run, axe-core's neither
            tab = browser.new_context(
                offline=True,
                bypass_csp=True,
                color_scheme=scheme,
                viewport={"width": width, "height": height},
            ).new_page()
            found[f"{size}, {scheme}"] = findings(
                tab, (tmp_path / "page.html").as_uri(), axe.read_text(encoding="utf-8")
            )
    assert len(found) == 4
    assert not any(found.values()), found


def findings(tab: Any, address: str, axe: str) -> list[object]:
    """Everything that is wrong with a page in one tab."""
    wrong: list[object] = []
    tab.on("console", lambda said: wrong.append(said.text))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.goto(address)
    # What is folded has to be as good as the rest.
    tab.evaluate("document.querySelectorAll('details').forEach((part) => (part.open = true))")
    scroll = tab.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    if scroll > 0:
        wrong.append(f"scrolls by {scroll} px")
    if tab.evaluate(r"/\b(NaN|undefined|None)\b/.test(document.body.innerText)"):
        wrong.append("a figure is missing")
    tab.evaluate(axe)
    return wrong + tab.evaluate(
        "axe.run().then((told) => told.violations.map((row) => [row.id, row.nodes[0].html]))"
    )


def opened(browser: Any, path: Path, **options: Any) -> tuple[Any, list[str]]:
    """A page under its own policy, and what it writes to the console."""
    tab = browser.new_context(offline=True, **options).new_page()
    said: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.goto(path.as_uri())
    return tab, said


def shown(tab: Any) -> list[str]:
    """The names of the builds that the table shows, in order."""
    names: list[str] = tab.evaluate(
        "[...document.querySelectorAll('table.sortable tbody tr')].filter((row) => !row.hidden)"
        ".map((row) => row.cells[0].dataset.v)"
    )
    return names


def on_the_front(tab: Any) -> set[str]:
    """The builds that the chart draws as the front."""
    return set(
        tab.evaluate(
            "[...document.querySelectorAll('.when-wide g.dot.on')]"
            ".filter((dot) => dot.style.display !== 'none')"
            ".map((dot) => dot.querySelector('title').textContent.split(':')[0])"
        )
    )


def test_builds_are_sorted_and_filtered_from_the_keyboard(browser: Any, tmp_path: Path) -> None:
    path, made = tmp_path / "page.html", builds(40)
    path.write_text(builds_page.page(comparison.compare(made)), encoding="utf-8")
    tab, said = opened(browser, path)
    latency = {one.name: one.report.device.predicted.latency_ms for one in made}
    auc = {one.name: one.report.accuracy.waterfall[-1].auc for one in made}
    assert shown(tab) == sorted(auc, key=lambda name: -auc[name])
    tab.get_by_role("button", name="latency").focus()
    for key, sign, order in (("Enter", 1, "ascending"), ("Space", -1, "descending")):
        tab.keyboard.press(key)
        assert shown(tab) == sorted(latency, key=lambda name: sign * latency[name])
        assert tab.get_by_role("columnheader", name="latency").get_attribute("aria-sort") == order
    assert "40 builds, sorted by latency, highest first" in tab.get_by_role("status").inner_text()

    tab.get_by_label("Filter", exact=True).fill("mobilenetv2 128")
    few = {name for name in latency if "mobilenetv2" in name and "128" in name}
    assert set(shown(tab)) == few
    assert on_the_front(tab) == {
        name
        for name in few
        if not any(latency[o] <= latency[name] and auc[o] > auc[name] for o in few)
    }
    tab.get_by_label("data.input_px").select_option("96")
    assert shown(tab) == []
    assert tab.get_by_role("status").inner_text().startswith("0 of 40 builds")
    tab.get_by_role("button", name="Show all").press("Enter")
    assert len(shown(tab)) == 40
    assert said == []


def test_without_scripts_the_builds_are_a_plain_table(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(builds_page.page(comparison.compare(builds(8))), encoding="utf-8")
    tab, said = opened(browser, path, java_script_enabled=False)
    assert tab.get_by_role("row").count() == 9
    assert tab.get_by_role("button").count() == 0
    assert not tab.get_by_role("search").is_visible()
    assert said == []


def test_a_button_copies_the_whole_command(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(search_page.page(search()), encoding="utf-8")
    tab, said = opened(browser, path, permissions=["clipboard-read", "clipboard-write"])
    tab.get_by_role("button", name="Copy: the command that builds").first.press("Enter")
    tab.get_by_text("copied", exact=True).first.wait_for()
    assert tab.evaluate("navigator.clipboard.readText()") == search().recommended.command
    assert said == []


def test_labels_of_the_front_do_not_overlap(browser: Any, tmp_path: Path) -> None:
    """Neither each other nor a point, at the narrowest and at a wide width of each chart."""
    path = tmp_path / "page.html"
    path.write_text(search_page.page(search(SearchState.INTERRUPTED)), encoding="utf-8")
    for width in (320, 360, 700, 768, 1280, 2400):
        tab, _ = opened(browser, path, viewport={"width": width, "height": 900})
        boxes = tab.evaluate(
            "[...document.querySelectorAll('.scatter')].filter((chart) => chart.clientWidth)"
            ".map((chart) => ['text.at', 'circle'].map((part) => [...chart.querySelectorAll(part)]"
            ".map((one) => one.getBoundingClientRect().toJSON())))"
        )
        assert boxes
        for labels, dots in boxes:
            for number, label in enumerate(labels):
                for taken in [*labels[:number], *dots]:
                    assert not overlap(label, taken), (width, label, taken)


def overlap(one: dict[str, float], other: dict[str, float]) -> bool:
    """Whether two boxes share more than their edges; fonts differ by some pixels in height."""
    slack = 3
    return (
        one["left"] + slack < other["right"]
        and other["left"] + slack < one["right"]
        and one["top"] + slack < other["bottom"]
        and other["top"] + slack < one["bottom"]
    )
