"""The report of a curation in a real browser; see `browsing.py` for what that needs."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browsing import COLLECTED, LOOKS, chromium, opened
from PIL import Image
from selenium import webdriver
from test_curate import curated, raw, save, smooth

__test__ = COLLECTED
pytestmark = pytest.mark.slow

STEPS = [
    "integrity",
    "exact_duplicates",
    {"kind": "perceptual_duplicates", "distance": 2},
    {"kind": "deduplicate", "threshold": {"precision": 0.9, "copies": 40}},
    {"kind": "leakage", "threshold": 0.9},
    {"kind": "filter", "where": "width >= 32"},
    {"kind": "balance", "keep": 60, "clusters": 6},
    {"kind": "split", "val": 0.2, "test": 0.0},
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pool with something for every part of the page, under names that are hard on it."""
    workspace = tmp_path_factory.mktemp("page")
    pool = workspace / "pool/train"
    for i in range(120):
        colours = np.stack([smooth(1000 * channel + i, 24 + 4 * (i % 30)) for channel in range(3)], axis=-1)
        save(colours, pool / f"class {i % 7}/{i:03d}.png")
        if i % 10 == 0:
            save(colours, pool / f"class {i % 7}/{i:03d}_again.bmp")
            Image.fromarray(colours).resize((90, 90)).save(pool / f"class {i % 7}/{i:03d}_larger.jpg", quality=85)
    (pool / f"class 0/{'a_very_long_name_without_a_break_' * 6}.png").write_text("no image")
    (pool / "class 0/<b>&amp; 'quotes\" \N{RIGHT-TO-LEFT OVERRIDE}gpj.png").touch()
    save(np.full((40, 40), 7, np.uint8), pool / "class 0/blank.png")
    save(smooth(1, 200)[:, :20], pool / "class 0/narrow.png")
    for i in range(4):
        colours = np.stack([smooth(1000 * channel + 15 + i, 60) for channel in range(3)], axis=-1)
        save(colours, workspace / f"pool/test/class 0/{i}.png")
    raw(workspace, splits=True, labels=True)
    return curated(workspace, STEPS)[0].path("report.html")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(params=LOOKS, ids=lambda look: f"{look[0]}-{look[1]}")
def page(request: pytest.FixtureRequest, browser: webdriver.Chrome, report: Path) -> webdriver.Chrome:
    """The report at each width and in each colour scheme."""
    return opened(browser, report, *request.param)


def test_the_page_never_scrolls_sideways(page: webdriver.Chrome) -> None:
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    outside = "return [...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll, pre') && e.getBoundingClientRect().right > innerWidth + 1)"
    assert page.execute_script(outside + ".map(e => e.outerHTML.slice(0, 80))") == []


def test_every_picture_is_decoded_and_shown_and_nothing_is_said_in_the_console(page: webdriver.Chrome, report: Path) -> None:
    images = page.execute_script("return Promise.all([...document.images].map(async i => (await i.decode(), [i.naturalWidth, i.clientWidth])))")
    assert len(images) == len(re.findall(r"<img ", report.read_text())) > 60
    assert all(natural > 0 and 30 < shown < 130 for natural, shown in images)
    assert page.get_log("browser") == []


def test_text_stands_out_from_its_ground(page: webdriver.Chrome) -> None:
    ratios = page.execute_script(
        """
        const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
                             return .2126 * r + .7152 * g + .0722 * b };
        const style = s => getComputedStyle(document.querySelector(s));
        const pairs = [['h1', 'body'], ['.note', 'body'], ['.tile figcaption', '.group'],
                       ['.funnel small', '.box'], ['.ticks', '.chart'], ['.tile.kept b', '.group']];
        return pairs.map(([text, ground]) => {
          const [a, b] = [light(style(text).color), light(style(ground).backgroundColor)].sort((x, y) => y - x);
          return (a + .05) / (b + .05) });
        """
    )
    assert min(ratios) >= 4.5  # WCAG 2.2, AA


def test_all_parts_are_there_in_order(page: webdriver.Chrome) -> None:
    assert page.execute_script("return [...document.querySelectorAll('main > section')].map(s => s.id)") == [
        "funnel", "map", "steps", "leaks", "clusters", "spread", "ask",
    ]  # fmt: skip
    assert page.execute_script("return [...document.querySelectorAll('.step')].map(s => s.id)") == [
        "1_integrity", "2_exact_duplicates", "3_perceptual_duplicates", "4_deduplicate", "5_leakage", "6_filter",
        "7_balance", "8_split",
    ]  # fmt: skip
    assert page.execute_script("return document.querySelectorAll('#map svg').length") == 2
