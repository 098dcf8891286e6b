"""The built documentation in a browser: every page, at a desk and on a phone."""

import functools
import http.server
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api")

from page_checks import faults, watch
from playwright.sync_api import sync_playwright

import dtnh_jax.nnx

DOCS = Path(__file__).parents[2] / "docs"
SOURCES = [p.relative_to(DOCS) for e in ("md", "ipynb") for p in DOCS.rglob(f"*.{e}")]
# The build writes a page for each name in the API.
NAMES = [f"{m.__name__}.{n}" for m in (dtnh_jax, dtnh_jax.nnx) for n in m.__all__]
PAGES = sorted(
    [
        path.with_suffix(".html").as_posix()
        for path in SOURCES
        if not path.parts[0].startswith("_")
    ]
    + [f"generated/{name}.html" for name in NAMES]
)
# In pixels: of a browser at a desk, and of a phone.
WIDTHS = {"desk": 1200, "phone": 390}
BROWSERS = "chromium", "chromium-browser", "google-chrome"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser():
    """Chromium as the system has it: Playwright's own would have to be downloaded."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"needs one of {', '.join(BROWSERS)}")
    with sync_playwright() as found:
        browser = found.chromium.launch(executable_path=path)
        yield browser
        browser.close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        del format, args


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Where the documentation is served, as it is built from what stands here now."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", DOCS, folder]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def context(browser):
    """A browser that has seen nothing yet."""
    with browser.new_context() as context:
        context.set_default_timeout(20_000)
        yield context


@pytest.fixture
def problems(context, address):
    return watch(context, address)


@pytest.fixture
def page(context, problems):
    del problems  # only that it watches from the first request on
    return context.new_page()


@pytest.mark.parametrize("name", PAGES)
def test_page(page, problems, address, name):
    """Nothing fails, every image and formula is drawn, and nothing sticks out."""
    page.goto(address + name)
    found = {}
    for device, width in WIDTHS.items():
        page.set_viewport_size({"width": width, "height": 844})
        found[device] = faults(page)
    assert {**found, "problems": problems} == {"desk": [], "phone": [], "problems": []}


def test_sidebar_leads_to_every_page(page, address):
    page.goto(address)
    links = page.locator(".sidebar-tree a.reference.internal")
    found = links.evaluate_all("links => links.map(a => a.href)")
    assert {*found, f"{address}index.html"} == {address + name for name in PAGES}


def test_search(page, problems, address):
    page.goto(address)
    page.locator(".sidebar-search").fill("granularity")
    page.keyboard.press("Enter")
    page.locator("ul.search a").first.click()
    page.wait_for_url(lambda url: "search.html" not in url)
    assert "granularity" in page.locator("article").inner_text()
    assert problems == []
