"""Fills README and docs with what scripts made: ``python docs/fill.py [--check]``.

Between ``<!-- NAME: FILE -->`` and ``<!-- end -->`` in a page stands the content of
FILE, a path from the root of the repository.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
SLOT = re.compile(r"(<!-- \w+: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str) -> str:
    """The page with every slot filled anew."""

    def fill(match: re.Match) -> str:
        content = (ROOT / match[2]).read_text().strip()
        return f"{match[1]}\n{content}\n\n{match[3]}"

    return SLOT.sub(fill, text)


def main(check: bool) -> int:
    """Rewrites the pages, or with ``check`` only names those that are out of date."""
    stale = [page for page in PAGES if filled(page.read_text()) != page.read_text()]
    for page in stale:
        print(f"{'out of date' if check else 'filled'}: {page.relative_to(ROOT)}")
        if not check:
            page.write_text(filled(page.read_text()))
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
