"""The report of a study: one page, one terminal table, charts and data for other programs, all from one plain dict."""

from __future__ import annotations

from .data import VERSION, Report, validate
from .page import render

__all__ = ["VERSION", "Report", "render", "validate"]
