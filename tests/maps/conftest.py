"""A browser without a network."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from bp_lcz.maps.page import PAGE


@pytest.fixture(scope="module")  # its event loop lets no other run
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium: `apt-get install chromium` to test pages as people see them")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def opened(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a page from the disk in a window of a width; it may ask for nothing, and throw nothing."""
    contexts, asked, thrown = [], [], []

    def open_page(path: Path, width: int = 1400) -> Page:
        is_phone = width < 500
        context = browser.new_context(
            offline=True, viewport={"width": width, "height": 800}, has_touch=is_phone, is_mobile=is_phone
        )
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: thrown.append(str(error)))
        page.goto(path.as_uri())
        page.wait_for_selector("#map[data-ready]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert thrown == []
    assert {url for url in asked if not url.startswith("data:image/webp;base64,")} == {
        url for url in asked if re.fullmatch(rf"file://.*/{PAGE}", url)
    }
