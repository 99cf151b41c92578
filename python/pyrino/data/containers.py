"""The containers of the field's files: told by their first bytes, opened by the field's libraries."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyrino._arguments import checked
from pyrino.data.source import Source
from pyrino.errors import RinoError

__all__ = ["CONTAINERS", "Container", "container_of"]


@dataclass(frozen=True)
class Container:
    """A kind of file.

    Attributes
    ----------
    name : str
        In words.
    magic : bytes
        What a file of it begins with.
    open : callable
        Source -> the library's own open file, which has a method `close`.
    content : callable
        That file -> what is in it, in words, for error messages.
    """

    name: str
    magic: bytes
    open: Callable[[Source], Any]
    content: Callable[[Any], str]


@checked
def container_of(source: Source) -> Container | None:
    """The container of a file by its first bytes, None if it is none of those known.

    Raises
    ------
    RinoError
        If the file is absent or empty.
    """
    if source.url.startswith("root://"):
        return CONTAINERS["ROOT"]  # a server of ROOT's own protocol: not every one speaks to fsspec
    if source.path is not None and source.path.is_dir():
        raise RinoError(f"{source} is a folder: give the name of a file")
    with source.open() as file:
        start = file.read(max(len(container.magic) for container in CONTAINERS.values()))
    if not start:
        raise RinoError(f"{source} is empty (0 bytes); fetch or write it again")
    return next((container for container in CONTAINERS.values() if start.startswith(container.magic)), None)


def _open_root(source: Source) -> Any:
    import uproot

    options: dict[str, Any] = {"array_cache": None}  # which would keep 100 MB of every open file
    if source.path is None:
        return uproot.open({source.url: None}, **options)
    # Not by fsspec, which would take names with colons apart; read by the thread that asks.
    options |= {"handler": uproot.source.file.MultithreadedFileSource, "use_threads": False}
    file = uproot.open({str(source.path): None}, **options)
    end = file.file.fEND
    if source.size < end:
        file.close()
        raise RinoError(f"{source} is truncated: it has {source.size} of {end} bytes; fetch it again")
    return file


def _root_content(file: Any) -> list[str]:
    return [f"{name} ({kind})" for name, kind in file.classnames(cycle=False).items()]


def _open_parquet(source: Source) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Local files by pyarrow's own reading, which needs no interpreter lock; opened here, because it takes names with
    # colons for URLs. Without pre_buffer, which would keep the compressed bytes of all that was read until the file is
    # closed.
    stream = source.open() if source.path is None else pa.OSFile(os.fsencode(source.path))
    try:
        return pq.ParquetFile(stream, memory_map=False, pre_buffer=False)
    except BaseException:
        stream.close()
        raise


def _open_hdf5(source: Source) -> Any:
    from pyrino.data._hdf5_file import File

    try:
        return File(str(source), source.open() if source.path is None else str(source.path))
    except OSError as error:
        if "unable to lock file" in str(error) or "already open for write" in str(error):
            raise RinoError(
                f"{source} is open for writing in another program, or was when that ended ({error}): wait until it is "
                "closed, or repair it with h5clear -s. Where the file system has no locks, set "
                "HDF5_USE_FILE_LOCKING=FALSE"
            ) from error
        raise


def _hdf5_content(file: Any) -> list[str]:
    from pyrino.data._hdf5_file import content

    return content(file)


def _open_npz(source: Source) -> Any:
    from numpy.lib.npyio import NpzFile

    stream = source.open()
    try:
        return NpzFile(stream, own_fid=True, allow_pickle=False)  # closing it closes the stream
    except BaseException:
        stream.close()
        raise


class _ArrowFile:
    """pyarrow's reader of an Arrow file, which lacks `close`."""

    def __init__(self, source: Source) -> None:
        import pyarrow as pa

        self._place = (
            pa.memory_map(os.fsencode(source.path))
            if source.path is not None
            else pa.PythonFile(source.open(), mode="r")
        )
        try:
            self._reader = pa.ipc.open_file(self._place)
        except BaseException:
            self._place.close()
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def close(self) -> None:
        self._place.close()


def _listed(what: str, names: Any) -> str:
    names = [str(name) for name in names]
    shown = ", ".join(names[:30]) + (", ..." if len(names) > 30 else "")
    return f"the {what} {shown}" if names else f"no {what}"


CONTAINERS = {
    container.name: container
    for container in (
        Container("ROOT", b"root", _open_root, lambda file: _listed("keys", _root_content(file))),
        Container("parquet", b"PAR1", _open_parquet, lambda file: _listed("columns", file.schema_arrow.names)),
        Container("HDF5", b"\x89HDF\r\n\x1a\n", _open_hdf5, lambda file: _listed("entries", _hdf5_content(file))),
        Container("npz", b"PK\x03\x04", _open_npz, lambda file: _listed("arrays", file.files)),
        Container("Arrow", b"ARROW1", _ArrowFile, lambda file: _listed("columns", file.schema.names)),
    )
}
