"""Sphinx configuration; `make docs` builds the pages and takes every warning for an error. No network is needed."""

from __future__ import annotations

import hasten

project = "hasten"
author = "The hasten authors"
release = version = hasten.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_member_order = "bysource"
default_role = "code"
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"hasten {release}"
