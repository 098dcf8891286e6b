"""The sections of ``docs/trainers.md``, each run by itself after the introduction."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "trainers.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def sections():
    """The introduction, and the text of each section by its title."""
    introduction, *rest = re.split(r"^## (.*)\n", PAGE.read_text(), flags=re.MULTILINE)
    return introduction, dict(zip(rest[::2], rest[1::2], strict=True))


def run(title):
    """The names that the blocks of the introduction and of a section leave behind."""
    introduction, texts = sections()
    scope = {"__name__": __name__}  # of a module, in which dataclasses look names up
    for block in BLOCK.findall(introduction + texts[title]):
        exec(compile(block, str(PAGE), "exec"), scope)
    return scope
