"""No section of the page is left out."""

from pathlib import Path

import page


def test_every_section_is_run():
    tests = "".join(
        path.read_text() for path in Path(__file__).parent.glob("test_*.py")
    )
    for title in page.sections()[1]:
        assert f'page.run("{title}")' in tests, title
