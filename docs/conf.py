"""Sphinx configuration; `make docs` builds the pages and takes every warning for an error."""

from __future__ import annotations

import importlib.metadata

project = "hasten"
author = "The hasten authors"
release = version = importlib.metadata.version("hasten")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_member_order = "bysource"
exclude_patterns = ["_build"]
nitpicky = False  # torch's and numpy's types are documented elsewhere, and nothing is fetched at build time

html_theme = "furo"
html_title = f"hasten {release}"
