"""The report in a real browser; see `browsing.py` for what that needs."""

import base64
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from browsing import COLLECTED, LOOKS, chromium, opened
from evaluated import datasets, done, evaluation, models
from selenium import webdriver

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
        "Results", "What distillation changed", "What the features see", "Curation", "Where the numbers come from", "How it was measured",
        "Again, and further",
    ]  # fmt: skip
    assert page.execute_script("return document.querySelector('h1').textContent") == "shapes"
    assert page.execute_script("return document.querySelectorAll('.card').length") == 2


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
