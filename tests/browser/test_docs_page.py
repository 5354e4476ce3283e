"""/docs in the distribution's Chromium: it works offline, asks nobody else for anything, and shows every operation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Api, Server

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser(chromium: str, missing: Callable[[str], None]) -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright")
    with sync_playwright() as started:
        launched = started.chromium.launch(executable_path=chromium, args=FLAGS)
        yield launched
        launched.close()


class Visit:
    """An open page with everything it asked for and complained about."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.asked: list[str] = []
        self.troubles: list[str] = []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("requestfailed", lambda request: self.troubles.append(f"failed: {request.url}"))
        page.on("pageerror", lambda error: self.troubles.append(f"error: {error}"))
        page.on("console", self._hear)

    def _hear(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.troubles.append(f"{message.type}: {message.text}")


@pytest.fixture
def visit(browser: Any, server: Server) -> Iterator[Visit]:
    context = browser.new_context()
    visited = Visit(context.new_page())
    visited.page.goto(f"{server.url}/docs", wait_until="networkidle")
    yield visited
    context.close()


def test_the_page_asks_nobody_but_us_and_complains_about_nothing(visit: Visit, server: Server) -> None:
    visit.page.locator(".opblock").first.wait_for()
    elsewhere = [url for url in visit.asked if not url.startswith((f"{server.url}/", "data:"))]
    assert elsewhere == []
    assert f"{server.url}/openapi.json" in visit.asked
    assert visit.troubles == []


def test_the_page_shows_every_operation(visit: Visit, api: Api) -> None:
    visit.page.locator(".opblock").first.wait_for()
    description = api.get("/openapi.json").gives(200)
    expected = {
        (method.upper(), path)
        for path, item in description["paths"].items()
        for method in item
        if method in {"get", "put", "post", "delete", "patch"}
    }
    shown = {
        (
            block.locator(".opblock-summary-method").inner_text().strip(),
            # Swagger UI puts invisible break points into paths.
            re.sub(r"[\u200b\s]", "", block.locator(".opblock-summary-path").inner_text()),
        )
        for block in visit.page.locator(".opblock").all()
    }
    assert shown == expected
    assert "Strongroom" in visit.page.locator(".info").inner_text()


def test_an_operation_opens_and_can_be_tried(visit: Visit, server: Server, api: Api) -> None:
    page = visit.page
    page.locator("button.authorize").first.click()
    page.locator(".auth-container input").fill(server.credential)
    page.locator(".auth-btn-wrapper button.authorize").click()
    page.locator(".auth-btn-wrapper button.btn-done").click()
    block = page.locator(".opblock").filter(has=page.locator('[data-path="/v1/keyrings"]')).first
    block.locator(".opblock-summary").click()
    block.get_by_role("button", name="Try it out").click()
    block.get_by_role("button", name="Execute").click()
    body = block.locator(
        ".live-responses-table .response .microlight, .live-responses-table .response code"
    ).first
    body.wait_for()
    assert "active_version" in body.inner_text()
    assert visit.troubles == []
    assert [url for url in visit.asked if not url.startswith((f"{server.url}/", "data:", "blob:"))] == []
    # The credential is kept nowhere: after a reload it is gone.
    stored = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
    assert server.credential not in stored
    assert api.audit(action="keyring.read", limit=1)[0]["principal"] == "admin"


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_fits_its_window(browser: Any, server: Server, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800})
    page = context.new_page()
    page.goto(f"{server.url}/docs", wait_until="networkidle")
    page.locator(".opblock").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


def test_the_assets_are_served_with_and_without_compression(
    make_api: Callable[..., Api], server: Server
) -> None:
    anyone = make_api(server.url)
    page = anyone.get("/docs")
    assert page.status == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    names = re.findall(r'(?:src|href)="(/[^"]+)"', page.body.decode())
    assert len(names) >= 4
    for name in names:
        plain = anyone.get(name, headers={"Accept-Encoding": "identity"})
        assert plain.status == 200
        assert "Content-Encoding" not in plain.headers
        assert plain.headers["Content-Type"].startswith(("text/javascript", "text/css"))
        assert anyone.get(name, headers={"Accept-Encoding": "gzip"}).body == plain.body
