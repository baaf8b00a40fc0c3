"""The page in a real browser, from disk: opens, sorts, filters, changes theme, shows JSON; no errors, no requests.

Skipped without Chromium or playwright: ``apt-get install chromium && pip install 'accel-codesign[browser]'``.
``ACCEL_BROWSER`` names another Chromium. ``ACCEL_SCREENSHOTS=DIR`` leaves pictures of the page in both themes and on
a phone.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reports.build import Document, write_report
from reports.palette import COLOURS

playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'accel-codesign[browser]'")
BROWSER = os.environ.get("ACCEL_BROWSER") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)
pytestmark = pytest.mark.skipif(not BROWSER, reason="no Chromium here: apt-get install chromium")
OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
           "--disable-component-update", "--disable-sync")  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=BROWSER, args=list(OPTIONS))
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def folder(everything: Document, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("page")
    write_report(everything, made)
    return made


class Watched:
    """A page, with what it said on the console and asked for."""

    def __init__(self, browser: Any, folder: Path, **options: Any) -> None:
        self.page = browser.new_page(**options)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.address = (folder / "index.html").as_uri()
        self.page.goto(self.address)


@pytest.fixture
def watched(browser: Any, folder: Path) -> Iterator[Watched]:
    """Every test ends with: nothing on the console, nothing asked for but the page."""
    found = Watched(browser, folder, viewport={"width": 1200, "height": 900}, color_scheme="light")
    yield found
    assert not found.said
    assert {url for url in found.asked if not url.startswith(("data:", "blob:"))} == {found.address}
    found.page.close()


def column(page: Any, table: str, at: int) -> list[str]:
    rows = page.locator(f'table[data-table="{table}"] tbody tr:visible')
    return rows.evaluate_all("(rows, at) => rows.map((row) => row.cells[at].textContent)", at)


def test_sorting_by_keyboard(watched: Watched) -> None:
    head = watched.page.locator('table[data-table="benchmarks"] th', has_text="cycles")
    head.locator("button").focus()
    for expected, order in (("descending", True), ("ascending", False)):
        watched.page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == expected
        found = [int(text.replace(",", "")) for text in column(watched.page, "benchmarks", 2)]
        assert found == sorted(found, reverse=order)
        assert len(set(found)) > 20
    names = watched.page.locator('table[data-table="benchmarks"] th', has_text="benchmark").first
    names.locator("button").click()
    assert head.get_attribute("aria-sort") is None
    assert column(watched.page, "benchmarks", 0)[:3] == ["bert-task-1", "bert-task-2", "bert-task-3"]
    zoo = watched.page.locator('table[data-table="zoo"] th', has_text="mixer").first.locator("button")
    zoo.click()
    assert column(watched.page, "zoo", 7)[-1] == "–"
    zoo.click()
    assert column(watched.page, "zoo", 7)[-1] == "–", "what has no number is last both ways"


def test_filtering(watched: Watched) -> None:
    box = watched.page.locator('[data-filter="rivals"]')
    box.fill("A3 iso")
    assert column(watched.page, "rivals", 0) == ["A3"] * 4
    assert watched.page.locator('[data-count="rivals"]').text_content() == "4 of 42 rows"
    box.fill("")
    assert len(column(watched.page, "rivals", 0)) == 42


def test_theme_of_the_system_and_of_the_reader(watched: Watched, browser: Any, folder: Path) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    bar = "getComputedStyle(document.querySelector('#figure-energy path[style*=\"--ours,\"]')).fill"
    assert watched.page.evaluate(paper) == rgb("paper", "light")
    assert watched.page.evaluate(bar) == rgb("ours", "light")
    watched.page.emulate_media(color_scheme="dark")
    assert watched.page.evaluate(paper) == rgb("paper", "dark")
    assert watched.page.evaluate(bar) == rgb("ours", "dark")
    button = watched.page.locator("#theme")
    button.click()
    assert button.text_content() == "Theme: light"
    assert watched.page.evaluate(paper) == rgb("paper", "light")
    button.click()
    watched.page.emulate_media(color_scheme="light")
    assert watched.page.evaluate(paper) == rgb("paper", "dark")
    watched.page.emulate_media(media="print")
    assert watched.page.evaluate(paper) == rgb("paper", "light"), "paper is white"


def rgb(name: str, theme: str) -> str:
    colour = getattr(COLOURS[name], theme)
    return f"rgb({', '.join(str(int(colour[at : at + 2], 16)) for at in (1, 3, 5))})"


def test_a_number_leads_to_its_json_and_command(watched: Watched) -> None:
    page = watched.page
    page.locator('table[data-table="benchmarks"] tbody tr').nth(4).locator("a").click()
    assert page.locator("#details").is_visible()
    assert page.locator("#details-title").text_content() == "gpt2-task-4"
    assert '"name": "gpt2-task-4"' in page.locator("#details-json").text_content()
    assert page.locator("#details-command").text_content() == "accel bench gpt2-task-4"
    assert len(page.locator("#details-hash").text_content()) == 10
    page.locator("#details-copy").click()
    playwright.expect(page.locator("#details-copy")).to_have_text("Copied")
    page.keyboard.press("Escape")
    assert not page.locator("#details").is_visible()


def test_a_phone_has_no_sideways_page(browser: Any, folder: Path) -> None:
    found = Watched(browser, folder, viewport={"width": 360, "height": 740}, color_scheme="dark")
    assert found.page.evaluate("document.documentElement.scrollWidth") == 360
    assert not found.said
    found.page.close()


def test_pictures(browser: Any, folder: Path) -> None:
    place = os.environ.get("ACCEL_SCREENSHOTS")
    if not place:
        pytest.skip("ACCEL_SCREENSHOTS names no folder")
    for name, width, theme in (("light", 1200, "light"), ("dark", 1200, "dark"), ("phone", 390, "light")):
        found = Watched(browser, folder, viewport={"width": width, "height": 900}, color_scheme=theme)
        found.page.screenshot(path=str(Path(place) / f"report-{name}.png"), full_page=True)
        found.page.close()
