"""A real Chromium without a screen, and a server whose page it looks at. SUMGRAD_REQUIRE_BROWSER=1 makes a missing browser a failure."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from sumgrad_tests import support

FLAGS = (
    "--headless",
    "--no-sandbox",  # tests may run as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--force-color-profile=srgb",
)


class Browser:
    """A page in a window."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, server: Any, path: str = "/") -> None:
        """Goes to a page of a server."""
        self.driver.get(f"http://{server.metrics}{path}")

    def window(self, width: int, height: int, *, dark: bool = False) -> None:
        """A window of this size, light or dark."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def js(self, code: str, *arguments: Any) -> Any:
        """What a piece of JavaScript returns."""
        return self.driver.execute_script(code, *arguments)

    def text(self, selector: str) -> str:
        """The text of the first element that is meant; empty if there is none."""
        return str(self.js("return document.querySelector(arguments[0])?.innerText ?? ''", selector))

    def complaints(self) -> list[str]:
        """Errors and warnings on the console since the last time."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def _missing() -> str:
    """What is not installed, or an empty string."""
    return ", ".join(name for name in ("chromium", "chromedriver") if shutil.which(name) is None)


@pytest.fixture(scope="session")
def _driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    missing = _missing()
    if missing and os.environ.get("SUMGRAD_REQUIRE_BROWSER"):
        pytest.fail(f"SUMGRAD_REQUIRE_BROWSER is set, but there is no {missing}")
    if missing:
        pytest.skip(f"there is no {missing} (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture
def browser(_driver: Any) -> Iterator[Browser]:
    """The browser, with an empty window of 1,200 by 900."""
    made = Browser(_driver)
    made.window(1200, 900)
    yield made
    _driver.get("about:blank")
    made.complaints()


@pytest.fixture(scope="session")
def server() -> Iterator[Any]:
    """A server with a page."""
    with support.running("--workers", "2", "--metrics-address", "127.0.0.1:0") as made:
        yield made


@pytest.fixture(scope="session")
def screenshot(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Browser, str], Path]:
    """Writes what the browser shows, to the folder SUMGRAD_SCREENSHOTS or to a temporary one."""
    folder = Path(os.environ.get("SUMGRAD_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))

    def save(browser: Browser, name: str) -> Path:
        path = folder / f"{name}.png"
        browser.driver.save_screenshot(str(path))
        return path

    return save
