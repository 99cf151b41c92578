"""The two files of a report, written together and completely or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyrino.errors import RinoError
from pyrino.files import whole_file
from pyrino.report.page import render_html
from pyrino.report.schema import Result, check_result

__all__ = ["read_report", "write_report"]


def write_report(result: Mapping[str, Any], folder: str | os.PathLike[str]) -> Path:
    """Write ``report.json`` and a self-contained ``report.html``.

    The page is rendered before anything is written, and each file gets its name only when it is complete.
    A report that is there already is replaced.

    Parameters
    ----------
    result : mapping
        A `pyrino.report.Result`; arrays may stand for lists.
    folder : path
        Made if it does not exist.

    Returns
    -------
    pathlib.Path
        Of ``report.html``.

    Raises
    ------
    RinoError
        If the result does not fit its types (the message names the place), or a file cannot be written.
    """
    checked = check_result(result)
    texts = {
        "report.json": json.dumps(checked, allow_nan=False, ensure_ascii=False, indent=1) + "\n",
        "report.html": render_html(checked),
    }
    folder = Path(folder)
    try:
        with contextlib.ExitStack() as stack:
            for name, text in texts.items():
                file = stack.enter_context(whole_file(folder / name))
                file.write_text(text, encoding="utf-8", errors="backslashreplace")
    except RinoError as error:
        raise RinoError(
            f"cannot write the report into {folder}: {error}: "
            "make sure it is a folder that can be written and that the disk has room"
        ) from error
    return folder / "report.html"


def read_report(path: str | os.PathLike[str]) -> Result:
    """Read a ``report.json``, or the one in a folder.

    Parameters
    ----------
    path : path
        The file or its folder.

    Raises
    ------
    RinoError
        If the file cannot be read, is not JSON, or does not fit the types of a `pyrino.report.Result`.
    """
    path = Path(path)
    path = path / "report.json" if path.is_dir() else path
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RinoError(f"cannot read the report {path}: {error.strerror or error}; write_report makes it") from error
    except ValueError as error:
        raise RinoError(f"{path} is not JSON ({error}): write the report again with write_report") from error
    if not isinstance(content, dict):
        raise RinoError(f"{path} holds a {type(content).__name__}, not a report: write it again with write_report")
    return check_result(content)
