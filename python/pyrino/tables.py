"""Tables of texts, for terminals and notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["aligned", "html"]


def aligned(rows: Iterable[Sequence[str]], numbers: Iterable[int] = ()) -> str:
    """Rows of cells in columns; those in `numbers` stand on the right of their place. "" for no rows."""
    rows = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    right = set(numbers)
    lines = [
        "  ".join(c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def html(rows: Sequence[Sequence[str]], *, head: bool = True) -> str:
    """The same as an HTML table; with `head` the first row names the columns."""
    lines = ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    title = f"<thead>{lines[0]}</thead>" if head else ""
    return f"<table>{title}<tbody>{''.join(lines[head:])}</tbody></table>"
