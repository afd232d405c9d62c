"""The report in a real browser; see `browsing.py` for what that needs."""

import base64
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import combinations, pairwise
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from browsing import COLLECTED, LOOKS, chromium, opened
from evaluated import datasets, done, evaluation, models
from selenium import webdriver
from selenium.webdriver.common.keys import Keys

__test__ = COLLECTED
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole report."""
    workspace = tmp_path_factory.mktemp("page")
    return done(evaluation(workspace, models(workspace, datasets(workspace)[1])))[""].folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def served(report: Path) -> Iterator[tuple[str, list[str]]]:
    """The report's address, and every path that was asked for."""
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, directory=str(report), **kwargs)

        def log_message(self, *args: Any) -> None:
            asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/report.html", asked
    server.shutdown()
    server.server_close()


@pytest.fixture(params=LOOKS, ids=lambda look: f"{look[0]}-{look[1]}")
def page(request: pytest.FixtureRequest, browser: webdriver.Chrome, report: Path) -> webdriver.Chrome:
    """The report at each width and in each colour scheme."""
    return opened(browser, report / "report.html", *request.param)


def test_the_page_never_scrolls_sideways(page: webdriver.Chrome) -> None:
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    outside = "return [...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll, pre') && e.getBoundingClientRect().right > innerWidth + 1)"
    assert page.execute_script(outside + ".map(e => e.outerHTML.slice(0, 80))") == []


def test_every_picture_is_decoded_and_is_that_of_the_colour_scheme(page: webdriver.Chrome) -> None:
    images = page.execute_script(
        "return Promise.all([...document.images].map(async i => (await i.decode(), [i.naturalWidth, i.clientWidth, i.currentSrc === i.src])))"
    )
    dark = page.execute_script("return matchMedia('(prefers-color-scheme: dark)').matches")
    assert len(images) == 7
    assert all(natural > 500 and 250 < shown <= natural and own is not dark for natural, shown, own in images)


def test_text_stands_out_from_its_ground(page: webdriver.Chrome) -> None:
    ratios = page.execute_script(
        """
        const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
                             return .2126 * r + .7152 * g + .0722 * b };
        const style = s => getComputedStyle(document.querySelector(s));
        const pairs = [['h1', 'body'], ['.note', 'body'], ['figcaption', 'figure'], ['td', '.box'], ['a', 'body'], ['.card p', '.card']];
        return pairs.map(([text, ground]) => {
          const [a, b] = [light(style(text).color), light(style(ground).backgroundColor)].sort((x, y) => y - x);
          return (a + .05) / (b + .05) });
        """
    )
    assert min(ratios) >= 4.5  # WCAG 2.2, AA


def test_all_sections_are_there_in_order(page: webdriver.Chrome) -> None:
    assert page.execute_script("return [...document.querySelectorAll('h2')].map(h => h.textContent)") == [
        "What was run", "Results", "What distillation changed", "What the features see", "Is it healthy", "What it costs", "Where the numbers come from",
        "How it was measured", "Again, and further",
    ]  # fmt: skip
    assert page.execute_script("return document.querySelector('h1').textContent") == "shapes"
    assert page.execute_script("return document.querySelectorAll('.card').length") == 2


def test_headings_step_down_one_level_at_a_time(page: webdriver.Chrome) -> None:
    levels = page.execute_script("return [...document.querySelectorAll('h1, h2, h3, h4')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_the_contents_lead_to_every_section(page: webdriver.Chrome) -> None:
    led = page.execute_script(
        "return [...document.querySelectorAll('.contents a')].map(a => [a.textContent, document.querySelector(a.hash).querySelector('h2').textContent])"
    )
    assert len(led) == 9
    assert all(named == heading for named, heading in led)


def test_everything_that_scrolls_is_reached_by_the_keyboard_and_has_a_name(page: webdriver.Chrome) -> None:
    scrolling = page.execute_script(
        """
        const scrolls = e => e.scrollWidth > e.clientWidth + 1 && ['auto', 'scroll'].includes(getComputedStyle(e).overflowX);
        return [...document.querySelectorAll('main *')].filter(scrolls).map(e => [e.tabIndex, e.tagName === 'PRE' || e.getAttribute('aria-label') || ''])
        """
    )
    assert all(tab == 0 and name for tab, name in scrolling)
    assert len(scrolling) > 2 or page.execute_script("return innerWidth") > 600
    assert page.execute_script(
        "return [...document.querySelectorAll('svg')].every(s => s.getAttribute('role') === 'img' && s.querySelector('desc').textContent)"
    )
    assert page.execute_script("return [...document.images].every(i => i.alt.endsWith(i.closest('figure').querySelector('figcaption').textContent))")


def test_the_first_stop_of_the_tab_key_skips_to_the_results_and_focus_is_seen(page: webdriver.Chrome) -> None:
    page.find_element("tag name", "body").send_keys(Keys.TAB)
    first = page.switch_to.active_element
    assert first.get_attribute("hash") == "#results"
    assert page.execute_script("const box = arguments[0].getBoundingClientRect(); return box.top >= 0 && box.left >= 0", first)
    first.send_keys(Keys.TAB)
    assert page.execute_script("return getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_boxes_of_the_pipeline_lie_apart_and_hold_their_words(page: webdriver.Chrome) -> None:
    boxes = page.execute_script("return [...document.querySelectorAll('svg g')].map(g => [...g.children].map(e => e.getBoundingClientRect().toJSON()))")
    assert len(boxes) == 8
    for rect, *texts in boxes:
        assert all(rect["left"] < text["left"] and text["right"] <= rect["right"] and text["bottom"] <= rect["bottom"] for text in texts)
    for (a, *_), (b, *_) in combinations(boxes, 2):
        assert a["right"] <= b["left"] or b["right"] <= a["left"] or a["bottom"] <= b["top"] or b["bottom"] <= a["top"]


def test_it_asks_for_nothing_but_itself(browser: webdriver.Chrome, served: tuple[str, list[str]]) -> None:
    address, asked = served
    browser.get(address)
    assert browser.execute_script("return performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).map(e => e.name)") == []
    assert asked == ["/report.html"]
    assert browser.get_log("browser") == []


def test_it_prints_on_a_few_pages(browser: webdriver.Chrome, report: Path) -> None:
    browser.get((report / "report.html").resolve().as_uri())
    printed = browser.print_page()
    pages = base64.b64decode(printed).count(b"/Type /Page\n")
    assert 2 <= pages <= 10
