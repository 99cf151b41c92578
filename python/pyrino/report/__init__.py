"""Reports: `write_report` of a study, `write_evaluation` of one tagger on labelled jets; a page and JSON each."""

from __future__ import annotations

from pyrino.report.entries import installed_versions, pca_entry, tagger_entry
from pyrino.report.evaluation import write_evaluation
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
    "write_evaluation",
    "write_report",
]
