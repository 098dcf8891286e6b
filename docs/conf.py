"""Sphinx settings. The build needs no network, so there is no intersphinx."""

import dtnh_jax

project = "dtnh_jax"
author = "The dtnh_jax authors"
copyright = author
release = version = dtnh_jax.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "generated"]

html_theme = "furo"
html_title = "dtnh_jax"

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
# A NamedTuple's `Attributes:` would otherwise be listed twice.
napoleon_use_ivar = True
napoleon_use_rtype = False

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
