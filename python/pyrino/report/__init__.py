"""The report of a study: `write_report` makes `report.html` and `report.json` from a `Result`."""

from __future__ import annotations

from pyrino.report.entries import installed_versions, pca_entry, tagger_entry
from pyrino.report.page import render_html
from pyrino.report.schema import Result, check_result
from pyrino.report.verdict import verdict
from pyrino.report.write import read_report, write_report

__all__ = [
    "Result",
    "check_result",
    "installed_versions",
    "pca_entry",
    "read_report",
    "render_html",
    "tagger_entry",
    "verdict",
    "write_report",
]
