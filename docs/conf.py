"""Sphinx configuration; `make docs` builds the pages and takes every warning for an error. No network is needed."""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

import hasten
from hasten.program import MethodFactory

project = "hasten"
author = "The hasten authors"
release = version = hasten.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_use_rtype = False
python_maximum_signature_line_length = 88
default_role = "code"  # `x` in a docstring is code

html_theme = "furo"
html_title = f"hasten {release}"

_ITEM = re.compile(r"\s*(- |\d+\. )")
_SECTION = re.compile(r"\s*(Args|Returns|Raises|Warns|Attributes):$")


def from_markdown(lines: list[str]) -> list[str]:
    """A docstring, which is written for readers of the source, as the reStructuredText that autodoc expects.

    Lists need a blank line before them, indented blocks after a colon are code, so are tables, and asterisks outside
    backticks are asterisks.
    """
    found: list[str] = []
    for line in lines:
        before = found[-1] if found else ""
        in_list = _ITEM.match(before) or before.startswith("  ")
        if _ITEM.match(line) and before.strip() and not in_list and not _SECTION.match(before):
            found.append("")
        if re.match(r"    +\S", line) and not before and len(found) > 1 and re.fullmatch(r"\S.*:", found[-2]):
            found[-2] += ":"
        if line.startswith("|") and not before.startswith("   |"):
            found += ["", "::", ""]
        if line.startswith("|"):
            line = f"   {line}"
        elif not line.lstrip().startswith(">>>"):
            line = re.sub(r"(`[^`]*`)(?=\w)", r"\1\\ ", line)
            parts = re.split(r"(`[^`]*`|(?<![\w*])\*\w+\*(?![\w*]))", line)  # code and *emphasis* stay
            line = "".join(part if i % 2 else part.replace("*", r"\*") for i, part in enumerate(parts))
        found.append(line)
    return found


def _docstring(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = from_markdown(lines)


def _signature(app: Sphinx, what: str, name: str, obj: Any, options: Any, arguments: str, returns: str) -> Any:
    """Calling a method's factory gives a `Method`; a default that is made anew each time has no short name."""
    if not arguments:
        return None  # nothing to change
    return arguments.replace("<factory>", "..."), "Method" if isinstance(obj, MethodFactory) else returns


def setup(app: Sphinx) -> None:
    """Read docstrings before napoleon does (its priority is 500)."""
    app.connect("autodoc-process-docstring", _docstring, priority=400)
    app.connect("autodoc-process-signature", _signature)
