"""Data sets that grow."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

__all__ = ["append"]


def append(file: Any, name: str, rows: NDArray[Any], **options: Any) -> None:
    """Append rows to a data set of an h5py.File, which is made with `options` at the first time."""
    if name not in file:
        file.create_dataset(name, data=rows, maxshape=(None, *rows.shape[1:]), chunks=True, **options)
        return
    data = file[name]
    first = len(data)
    data.resize(first + len(rows), axis=0)
    data[first:] = rows
