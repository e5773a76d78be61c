"""The report of a study: one page, one terminal table, charts and data for other programs, all from one plain dict."""

from __future__ import annotations

from .data import VERSION, Report, validate
from .export import from_json, save_charts, to_csv, to_json, write_report
from .page import render
from .terminal import table

__all__ = [
    "VERSION",
    "Report",
    "from_json",
    "render",
    "save_charts",
    "table",
    "to_csv",
    "to_json",
    "validate",
    "write_report",
]
