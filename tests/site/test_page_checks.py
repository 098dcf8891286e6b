"""The checks of pages see what is wrong with a page that was made wrong."""

import pytest

pytest.importorskip("playwright.sync_api")

from page_checks import faults, watch

pytestmark = pytest.mark.slow

WELL = """<!doctype html><html><head><title>Title</title>
<link rel="icon" href="data:,"></head>
<body><article><h1>Heading</h1>
{}
</article></body></html>"""
DRAWN = '<span class="math"><mjx-container>x</mjx-container></span>'
WIDE = '<div style="width: 2000px">wide</div>'
IMAGE = "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' width='9'/>"

WRONG = {
    "<h1>Another</h1>": ["2 first-level headings"],
    '<img src="missing.png">': ["image not loaded", "status 404", "console, error"],
    '<span class="math">\\(x\\)</span>': ["formula not drawn"],
    DRAWN.replace("x", "<mjx-merror>x</mjx-merror>"): ["formula not drawn"],
    "<p>with $a = 1</p>": ["formula left as text: with $a = 1"],
    "<p>\\lVert g</p>": ["formula left as text: \\lVert g"],
    WIDE: ["px too wide: wide", "the page is"],
    f'<div style="overflow-x: hidden">{WIDE}</div>': ["px too wide: wide"],
    "<script>console.warn('oh')</script>": ["console, warning: oh"],
    "<script>missing()</script>": ["exception: "],
    '<script src="http://127.0.0.1:1/x.js"></script>': [
        "asks elsewhere: http://127.0.0.1:1/x.js",
        "failed: http://127.0.0.1:1/x.js",
        "console, error",
    ],
}
RIGHT = [
    DRAWN,
    f'<img src="{IMAGE}">',
    "<code>$ make docs</code>",
    f'<div style="overflow-x: auto">{WIDE}</div>',
]


@pytest.fixture
def found(context, serve, tmp_path):
    """A function from an article's HTML to what the checks say of it."""

    def check(html):
        (tmp_path / "index.html").write_text(WELL.format(html))
        address = serve(tmp_path)
        problems = watch(context, address)
        page = context.new_page()
        page.goto(address)
        return faults(page) + problems

    return check


@pytest.mark.parametrize("html", RIGHT)
def test_nothing_is_said_of_a_good_page(found, html):
    assert found(html) == []


@pytest.mark.parametrize("html", WRONG)
def test_what_is_wrong_is_named(found, html):
    sentences = found(html)
    for part in WRONG[html]:
        assert any(part in sentence for sentence in sentences), sentences
    assert len(sentences) == len(WRONG[html]), sentences
