"""Sphinx settings. The build needs no network, so there is no intersphinx."""

import ast
import hashlib
import inspect
import re
from pathlib import Path

import jax

import dtnh_jax

project = "dtnh_jax"
author = "The dtnh_jax authors"
copyright = author
release = version = dtnh_jax.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "sphinx.ext.mathjax",
    # MathJax lies beside the pages, so that they can be read without a network.
    "sphinx-mathjax-offline",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]

# Notebooks run when their page is read, and Sphinx reads again only what has changed.
# What they print may not be older than the code that they call: see `digest_of_code`.
# Not "cache": from there myst-nb fills the page, but not the notebook to download.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 600  # seconds a cell
nb_merge_streams = True  # what a cell prints is one block

html_theme = "furo"
html_title = "dtnh_jax"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/favicon.svg"
html_show_sourcelink = False

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
# A NamedTuple's `Attributes:` would otherwise be listed twice.
napoleon_use_ivar = True
napoleon_attr_annotations = False  # the signature has them, with shorter names
napoleon_use_rtype = False

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def signature_as_written(app, what, name, obj, options, signature, returns):
    """Types by the names in the source, not by what these stand for.

    ``autodoc_type_aliases`` does that only for annotations that are not evaluated.
    """
    if what != "function":
        return None
    function = ast.parse(inspect.getsource(obj)).body[0]
    parts = f"({ast.unparse(function.args)})", ast.unparse(function.returns)
    return tuple(re.sub(r"\b(_\w+|jax|optax|np)\.", "", part) for part in parts)


def digest_of_code():
    """Changes with what the notebooks call: this package, its experiments, and JAX."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256(jax.__version__.encode())
    for folder in ("dtnh_jax", "experiments"):
        for path in sorted((root / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def setup(app):
    app.connect("autodoc-process-signature", signature_as_written)
    app.add_config_value("code_version", digest_of_code(), rebuild="env")
