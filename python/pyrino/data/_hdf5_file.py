"""h5py's file, which says where a link leads that is dead."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py

# Registers the filters (blosc ...) with which pandas and others compress.
import hdf5plugin  # noqa: F401

from pyrino.errors import RinoError

__all__ = ["File", "content"]


class File(h5py.File):
    """An open file; what is linked to and absent is an error, not zeros.

    Parameters
    ----------
    name
        As the user knows the file, for errors.
    """

    def __init__(self, name: str, file: Any) -> None:
        super().__init__(file, "r")
        self._called = name

    def __getitem__(self, name: Any) -> Any:
        try:
            item = super().__getitem__(name)
        except KeyError:
            link = super().get(name, getlink=True) if isinstance(name, str) else None
            if isinstance(link, (h5py.SoftLink, h5py.ExternalLink)):
                where = f" of {link.filename}" if isinstance(link, h5py.ExternalLink) else ""
                raise RinoError(
                    f"{self._called}: {name} is a link to {link.path}{where}, which is not there: put it back, or "
                    "write a file that holds the data itself"
                ) from None
            raise
        if isinstance(item, h5py.Dataset) and item.is_virtual:
            self._look_for(name, item)
        return item

    def _look_for(self, name: str, item: h5py.Dataset) -> None:
        """HDF5 gives zeros for what a virtual data set is made of and is not there."""
        here = Path(self.filename)
        # As HDF5 looks: of an absolute path that is dead only the name counts.
        folders = [Path(), here.parent, here.resolve().parent]
        folders += map(Path, filter(None, os.environ.get("HDF5_VDS_PREFIX", "").split(":")))
        for part in item.virtual_sources():
            file = part.file_name
            names = [file, Path(file).name] if Path(file).is_absolute() else [file]
            there = any((folder / name).exists() for folder in folders for name in names)
            if file != "." and "%" not in file and not there:
                raise RinoError(
                    f"{self._called}: {name} is made of data in {file}, which is not there: put it back, or write a "
                    "file that holds the data itself"
                )


def content(file: h5py.File) -> list[str]:
    """What is in a file, with what pandas wrote in a way that cannot be read."""
    fixed: list[str] = []

    def visit(name: str, item: Any) -> None:
        kind = item.attrs.get("pandas_type", b"")
        if kind in ("frame", b"frame"):
            fixed.append(name)

    file.visititems(visit)
    for name in file.keys():
        file[name]  # where a link is dead, this says where it leads
    names = [name for name in file.keys() if name not in fixed]
    return names + [f"{name} (a table in pandas' fixed format: write it with format='table')" for name in fixed]
