"""The built documentation in a browser: every page, at a desk and on a phone."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api")

from page_checks import faults, watch

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
SIDEBAR = ".sidebar-tree a.reference.internal"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address(serve, tmp_path_factory):
    """Where the documentation is served, as it is built from what stands here now."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", DOCS, folder]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return serve(folder)


@pytest.fixture
def problems(context, address):
    return watch(context, address)


@pytest.fixture
def page(context, problems):
    del problems  # only that it watches from the first request on
    return context.new_page()


@pytest.mark.parametrize("name", PAGES)
def test_page(page, problems, address, name, tmp_path):
    """Nothing fails, every image and formula is drawn, and nothing sticks out.

    The screenshots are for you to look at.
    """
    page.goto(address + name)
    found = {}
    for device, width in WIDTHS.items():
        page.set_viewport_size({"width": width, "height": 844})
        found[device] = faults(page)
        page.screenshot(path=tmp_path / f"{device}.png", full_page=True)
    assert {**found, "problems": problems} == {"desk": [], "phone": [], "problems": []}


def test_sidebar_leads_to_every_page(page, address):
    page.goto(address)
    links = page.locator(SIDEBAR).evaluate_all("links => links.map(a => a.href)")
    assert {*links, f"{address}index.html"} == {address + name for name in PAGES}


def test_links_of_the_sidebar(page, problems, address):
    page.goto(address)
    names = [link.inner_text() for link in page.locator(SIDEBAR).all()]
    shown = [name for name in names if name]  # those of closed sections are not
    assert shown
    for name in shown:
        page.locator(SIDEBAR).get_by_text(name, exact=True).click()
        assert page.locator(".sidebar-tree .current-page > a").inner_text() == name
        assert page.locator("h1").inner_text()
    assert problems == []


def test_search(page, problems, address):
    page.goto(address)
    page.locator(".sidebar-search").fill("granularity")
    page.keyboard.press("Enter")
    page.locator("ul.search a").first.click()
    page.wait_for_url(lambda url: "search.html" not in url)
    assert "granularity" in page.locator("article").inner_text()
    assert problems == []


def test_menu_on_a_phone(page, problems, address):
    page.set_viewport_size({"width": WIDTHS["phone"], "height": 844})
    page.goto(address)
    link = page.locator(SIDEBAR).first
    drawer = page.locator(".sidebar-drawer")
    assert drawer.bounding_box()["x"] < 0
    page.locator("header label[for=__navigation]").click()
    page.wait_for_function(
        "e => e.getBoundingClientRect().x === 0", arg=drawer.element_handle()
    )
    name = link.inner_text()
    link.click()
    assert page.locator(".sidebar-tree .current-page > a").text_content() == name
    assert problems == []
