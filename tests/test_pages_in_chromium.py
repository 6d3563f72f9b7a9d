"""report.html and the comparison in real Chromium.

The console stays empty, nothing scrolls sideways, and axe-core finds nothing. Needs
playwright, a Chromium, and EDGEKD_NODE_MODULES with npm's axe-core.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgekd.bundle.licences_record import LicenceChain, LicenceLink
from edgekd.core.records import from_json
from edgekd.evaluation import conformal, subgroups
from edgekd.evaluation.confidence_record import OutputKind
from edgekd.reporting import comparison, comparison_page, html_report
from edgekd.reporting.report_record import BundleBlock, Report
from edgekd.settings.recipe import SubgroupConfig
from edgekd.tflite.int8_rules import Range
from tests.sample_report import EXAMPLES, other, report, whole
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
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_reads_well_everywhere(name: str, tmp_path: Path) -> None:
    """Light and dark, on a phone and on a desktop."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    axe = Path(os.environ.get("EDGEKD_NODE_MODULES", "nowhere"), "axe-core", "axe.min.js")
    if CHROMIUM is None or not axe.is_file():
        pytest.skip(
            "no Chromium is installed, or EDGEKD_NODE_MODULES names no folder with axe-core"
        )
    (tmp_path / "page.html").write_text(PAGES[name](), encoding="utf-8")
    found: dict[str, list[object]] = {}
    with api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
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
        browser.close()
    assert len(found) == 4
    assert not any(found.values()), found


def findings(tab: Any, address: str, axe: str) -> list[object]:
    """Everything that is wrong with a page in one tab."""
    wrong: list[object] = []
    tab.on("console", lambda said: wrong.append(said.text))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.goto(address)
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
