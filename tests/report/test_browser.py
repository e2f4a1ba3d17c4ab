"""The web report in a real browser: what a reader does with it by mouse and by keyboard."""

from __future__ import annotations

import csv
import io
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmark import report
from benchmark.report.html import About, render
from tests.report import made
from tests.report.conftest import TITLES

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install -e .[test])")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian: apt-get install chromium)")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as play:
        launched = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two datasets, two methods; one run lost."""
    out = tmp_path_factory.mktemp("page")
    records = made.study({"shared_bottom": 0.940, "mpt_rec": 0.946}) + made.study({"mpt_rec": 0.93}, dataset="clicks")
    records.append(made.record("mpt_rec", "lora", 0, status="oom"))
    page = out / "report.html"
    page.write_text(render(report.report(made.write(out, records), TITLES), About(title="Two datasets")))
    return page


class Visit:
    """One tab, with what it asked for and what went wrong in it."""

    def __init__(self, browser: Any, file: Path, state: str = "", **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)
        self.page.goto(file.as_uri() + state)

    def column(self, key: str) -> list[str]:
        """Texts of a leaderboard column, top to bottom, of the rows that are shown."""
        return self.page.evaluate(
            """key => { const at = document.querySelector(`.board th[data-key=${key}]`).cellIndex;
            return [...document.querySelectorAll('.board tbody tr')].filter(r => !r.hidden)
              .map(r => r.cells[at].firstChild.textContent.trim()) }""",
            key,
        )


@pytest.fixture
def visit(browser: Any, file: Path) -> Iterator[Any]:
    """Opens the page; at the end every tab must have asked for nothing but the file and have met no error."""
    opened: list[Visit] = []

    def go(state: str = "", **options: Any) -> Visit:
        opened.append(Visit(browser, file, state, **options))
        return opened[-1]

    yield go
    for tab in opened:
        assert tab.errors == []
        assert {url.partition("#")[0] for url in tab.requests} <= {file.as_uri()}
        tab.context.close()


def numbers(texts: list[str]) -> list[float]:
    return [float(text.split()[0]) for text in texts if text[-1].isdigit()]


def test_sorting_puts_the_best_first_then_turns_then_ends_and_what_has_no_number_goes_last(visit: Any) -> None:
    tab = visit()
    before = tab.column("method")
    head = tab.page.locator(".board th[data-key=gain]")
    head.locator("button").click()
    gains = tab.column("gain")
    assert numbers(gains) == sorted(numbers(gains), reverse=True) and gains[-1] in ("n/a", "OOM")
    assert head.get_attribute("aria-sort") == "descending"
    head.locator("button").click()
    gains = tab.column("gain")
    assert numbers(gains) == sorted(numbers(gains)) and gains[-1] in ("n/a", "OOM")
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "none" and tab.column("method") == before


def test_filters_narrow_the_rows_and_an_address_brings_them_back(visit: Any) -> None:
    tab = visit()
    everything = len(tab.column("method"))
    tab.page.select_option("select[name=dataset]", "census")
    tab.page.select_option("select[name=arm]", "frozen")
    tab.page.fill("input[name=method]", "mpt")
    assert tab.column("method") == ["MPT-Rec"]
    assert tab.page.locator("output").inner_text() == f"1 of {everything} rows"
    assert tab.page.locator(".mark:not(.dim)[data-method='Shared-Bottom']").count() == 0
    state = tab.page.evaluate("location.hash")
    again = visit(state)
    assert again.column("method") == ["MPT-Rec"] and again.column("arm") == ["frozen"]
    again.page.click("button[type=reset]")
    assert len(again.column("method")) == everything and again.page.evaluate("location.hash") == ""


def test_what_is_shown_can_be_saved_as_csv_with_full_numbers(visit: Any) -> None:
    tab = visit("#arm=frozen&sort=score&dir=desc")
    with tab.page.expect_download() as found:
        tab.page.click("button[aria-label='Save leaderboard as CSV']")
    rows = list(csv.DictReader(io.StringIO(Path(found.value.path()).read_text())))
    assert [row["method"] for row in rows] == tab.column("method") and {row["arm"] for row in rows} == {"frozen"}
    assert float(rows[0]["score"]) == pytest.approx(0.946 + 0.001 - 0.081, abs=1e-3)
    assert float(rows[0]["score_half_width"]) > 0


def test_a_row_leads_to_its_runs_by_keyboard_alone_and_back(visit: Any) -> None:
    tab = visit("#dataset=census&arm=frozen&method=mpt")
    page = tab.page
    button = page.locator(".board tbody tr:not([hidden]) button")
    for _ in range(80):  # from the top of the page by the tabulator key
        page.keyboard.press("Tab")
        if button.evaluate("node => node === document.activeElement"):
            break
    page.keyboard.press("Enter")
    panel = page.locator("dialog[open]")
    assert "MPT-Rec, frozen, education, census" in panel.inner_text()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the first run
    text = panel.inner_text()
    for said in ("seed", '"width": 4', "Example CPU", "0123456789abcdef", "run_all.py show", "kept epoch"):
        assert said in text
    assert "run=" in page.evaluate("location.hash")
    page.keyboard.press("Escape")
    assert panel.count() == 0 and "run=" not in page.evaluate("location.hash")
    assert button.evaluate("node => node === document.activeElement")


def test_the_evidence_of_a_claim_leads_to_its_runs(visit: Any) -> None:
    tab = visit()
    link = tab.page.locator("#claims li .ids .link").first
    said = link.inner_text()
    link.click()
    assert f"run_all.py show {said}" in tab.page.locator("dialog").inner_text()
    tab.page.keyboard.press("Escape")
    tab.page.locator("#claims summary").first.click()
    tab.page.locator("table[data-csv=claims] .link").first.click()
    assert "run_all.py show" in tab.page.locator("dialog").inner_text()


def test_a_lost_run_shows_its_reason_and_the_back_button_closes_it(visit: Any) -> None:
    tab = visit()
    tab.page.locator("#trouble .link").first.click()
    assert "oom: made to be oom" in tab.page.locator("dialog").inner_text()
    tab.page.go_back()
    assert tab.page.locator("dialog[open]").count() == 0


def test_a_mark_says_what_it_is_and_leads_to_its_runs(visit: Any) -> None:
    tab = visit()
    mark = tab.page.locator(".mark[data-arm=frozen][data-method='MPT-Rec'] path:last-child").first
    mark.hover()
    assert tab.page.locator("#tip").inner_text().startswith("MPT-Rec, frozen: ")
    mark.click()
    assert "MPT-Rec, frozen" in tab.page.locator("#panel-title").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_assistive_technology_finds_no_serious_fault(visit: Any, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    tab = visit(color_scheme=scheme)
    options = {"resultTypes": ["violations"]} | ({"runOnly": ["color-contrast"]} if scheme == "dark" else {})
    tab.page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    run = tab.page.evaluate("Object.keys(JSON.parse(data.textContent).runs)[0]")
    for state in ("", f"#cell=2&run={run}"):
        tab.page.evaluate("state => { location.hash = state }", state or "#")
        found = axe.Axe().run(tab.page, options=options).response["violations"]
        serious = [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")]
        assert serious == []


def test_nothing_is_wider_than_a_phone(visit: Any) -> None:
    tab = visit(viewport={"width": 360, "height": 740})
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 360


def test_without_javascript_rows_pictures_and_findings_can_be_read(visit: Any) -> None:
    tab = visit(java_script_enabled=False)
    text = tab.page.inner_text("main")
    assert "Leaderboard" in text and "0.8660 ±" in text and "fine-tuned" in text
    assert tab.page.locator("svg .mark").count() > 0
    assert "each run is a file" in text
    assert not tab.page.locator(".filters").is_visible()


def test_two_thousand_records_are_painted_in_two_seconds(browser: Any, tmp_path: Path) -> None:
    methods = {f"method_{i}": 0.9 + i / 1000 for i in range(20)}
    records = made.study(methods, seeds=range(20), arms=("finetune", "lora"))
    assert len(records) >= 2000
    file = tmp_path / "report.html"
    file.write_text(render(report.report(made.write(tmp_path, records), {}), About()))
    visit = Visit(browser, file)
    paint = visit.page.evaluate(
        "() => new Promise(done => new PerformanceObserver(list => done(list.getEntries()[0].startTime))"
        ".observe({ type: 'paint', buffered: true }))"
    )
    assert paint < 2000
    started = time.monotonic()
    visit.page.click(".board th[data-key=score] button")
    assert time.monotonic() - started < 2
    visit.context.close()
