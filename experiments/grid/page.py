"""From a Markdown document with figures to one HTML page that stands alone."""

import base64
from pathlib import Path

from markdown_it import MarkdownIt

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #111; background: #fff;
       max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums;
        display: block; overflow-x: auto; }}
th, td {{ padding: .2rem .8rem; border-bottom: 1px solid #ccc; white-space: nowrap; }}
th {{ border-bottom: 2px solid #111; }}
img {{ max-width: 100%; height: auto; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def html(folder: Path, title: str, markdown: str) -> str:
    """The document as one HTML page, the PNG files in ``folder`` in it as data URIs."""
    parser = MarkdownIt("commonmark").enable("table")
    tokens = parser.parse(markdown)
    for token in tokens:
        for child in token.children or []:
            if child.type == "image":
                image = (folder / str(child.attrs["src"])).read_bytes()
                encoded = base64.b64encode(image).decode()
                child.attrs["src"] = f"data:image/png;base64,{encoded}"
    body = parser.renderer.render(tokens, parser.options, {})
    return PAGE.format(title=title, body=body)
