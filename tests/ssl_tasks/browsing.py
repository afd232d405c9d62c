"""A real browser: Chromium and its driver, as Debian's `chromium` and `chromium-driver` install them.

On a machine without them tests that need it are not collected, so that `make test` needs no browser; where SSLFLOW_REQUIRE_BROWSER=1
is set, as continuous integration does, they are collected all the same and fail.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
COLLECTED = bool(BROWSER and DRIVER) or os.environ.get("SSLFLOW_REQUIRE_BROWSER") == "1"
WIDTHS = (1280, 390)
LOOKS = [(width, scheme) for width in WIDTHS for scheme in ("light", "dark")]
"""Widths in pixels and colour schemes in which a page is looked at."""

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@contextmanager
def chromium(profile: Path) -> Iterator[webdriver.Chrome]:
    """Headless Chromium with a profile of its own."""
    assert BROWSER, "SSLFLOW_REQUIRE_BROWSER=1, but there is no `chromium` on the path: apt-get install chromium chromium-driver"
    assert DRIVER, "SSLFLOW_REQUIRE_BROWSER=1, but there is no `chromedriver` on the path: apt-get install chromium chromium-driver"
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def opened(browser: webdriver.Chrome, page: Path, width: int, scheme: str) -> webdriver.Chrome:
    """The browser with a page opened as a file, at a width and in a colour scheme."""
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    browser.get(page.resolve().as_uri())
    assert browser.execute_script("return innerWidth") == width
    return browser
