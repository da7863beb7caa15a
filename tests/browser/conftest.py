"""Fixtures of the browser tests: Debian's Chromium, pages, and a folder for screenshots."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.browser import lab as labs
from tests.browser.lab import Lab
from tests.browser.webclient import WebClient
from tests.sandbox_fixtures import Sandbox

CHROMIUM = "/usr/bin/chromium"
#: Pages of the tests are on this machine: the browser loads nothing else, and its sandbox does not start as root.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
#: Milliseconds that a page may take to reach the state that a test waits for.
TIMEOUT_MS = 30_000

_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Record that a test failed, so that its pages are photographed."""
    report = yield
    item.stash[_FAILED] = item.stash.get(_FAILED, False) or report.failed
    return report


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """The folder of the screenshots: ``$BROWSER_ARTIFACTS``, or a folder in the system's folder for temporary files."""
    folder = Path(os.environ.get("BROWSER_ARTIFACTS") or Path(tempfile.gettempdir()) / "biomeroworker-browser")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium with a new profile, one for all tests."""
    if not Path(CHROMIUM).exists():
        pytest.fail(f"{CHROMIUM} is missing: tools/install-packages packages-browser.txt", pytrace=False)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=list(ARGUMENTS))
        yield started
        started.close()


@pytest.fixture
def new_page(request: pytest.FixtureRequest, browser: Browser, screenshots: Path) -> Iterator[Callable[..., Page]]:
    """Open pages, each with its own cookies: ``new_page(width=…, height=…)``, in pixels.

    If the test fails, a screenshot of each page and the messages of its console are in the folder of the screenshots.
    """
    opened: list[tuple[BrowserContext, Page, list[str]]] = []

    def open_page(width: int = 1280, height: int = 900, **options: Any) -> Page:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(TIMEOUT_MS)
        page = context.new_page()
        console: list[str] = []
        page.on("console", lambda message: console.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: console.append(f"uncaught: {error}"))
        opened.append((context, page, console))
        return page

    yield open_page
    name = re.sub(r"\W+", "-", request.node.name).strip("-")
    for number, (context, page, console) in enumerate(opened):
        if request.node.stash.get(_FAILED, False):
            page.screenshot(path=screenshots / f"failed-{name}-{number}.png")
            (screenshots / f"failed-{name}-{number}.txt").write_text("\n".join([page.url, *console]) + "\n")
        context.close()


@pytest.fixture
def page(new_page: Callable[..., Page]) -> Page:
    """One page of 1280 × 900 pixels."""
    return new_page()


@pytest.fixture(scope="session")
def figure(screenshots: Path) -> Callable[[str, float], None]:
    """Record a measured time in seconds, in ``figures.txt`` beside the screenshots."""
    file = screenshots / "figures.txt"
    file.unlink(missing_ok=True)

    def record(name: str, seconds: float) -> None:
        with file.open("a") as figures:
            figures.write(f"{seconds:7.2f} s  {name}\n")

    return record


@pytest.fixture(scope="session")
def lab(sandbox: Sandbox, obedient_image: str) -> Iterator[Lab]:
    """The laboratory of the session."""
    with labs.running(sandbox, obedient_image) as running:
        yield running


@pytest.fixture
def client(page: Page, lab: Lab) -> WebClient:
    """OMERO.web, logged in as the biologist."""
    return WebClient(page, lab)
