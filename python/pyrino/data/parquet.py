"""Parquet: JetClass-II (`jet_label`) and pyrino's own files (JetClass's one-hot `label_*`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyrino.data.chunk import Chunk, reading
from pyrino.data.jetclass import columns_to_read, make_chunk
from pyrino.errors import RinoError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["iterate"]


def iterate(path: Path, extras: Sequence[str], rows: int) -> Iterator[Chunk]:
    """The jets of a file, at most `rows` at a time.

    Raises
    ------
    RinoError
        If the file is damaged or foreign, columns are missing or of another type, or values are missing.
    """
    import pyarrow.parquet as pq

    with reading(path, "parquet"), pq.ParquetFile(path) as file:
        ragged, labels = columns_to_read(path, file.schema_arrow.names, extras)
        first = 0
        for batch in file.iter_batches(rows, columns=[*ragged, *labels]):
            jets = _Columns(path, first, batch)
            yield make_chunk(path, first, ragged, labels, jets.constituents, jets.scalars)
            first += batch.num_rows


class _Columns:
    """Columns of a batch as arrays."""

    def __init__(self, path: Path, first: int, batch: pa.RecordBatch) -> None:
        self._path, self._first, self._batch = path, first, batch

    def constituents(self, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        import pyarrow as pa

        column = self._batch.column(name)
        kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
        if not any(kind(column.type) for kind in kinds):
            raise RinoError(f"{self._path}: {name} is of type {column.type}; it must be a list of numbers per jet")
        self._none_missing(name, column)
        values = column.flatten()
        if values.null_count:
            raise RinoError(f"{self._path}: {name} has missing values (null) within jets; write numbers")
        return self._numbers(name, values), column.value_lengths().to_numpy(zero_copy_only=False)

    def scalars(self, name: str) -> NDArray[Any]:
        column = self._batch.column(name)
        self._none_missing(name, column)
        return self._numbers(name, column)

    def _none_missing(self, name: str, column: pa.Array) -> None:
        if column.null_count:
            jet = self._first + int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
            raise RinoError(f"{self._path}: jet {jet} has no {name} (null); write a value for every jet")

    def _numbers(self, name: str, column: pa.Array) -> NDArray[Any]:
        import pyarrow as pa

        kinds = (pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean)
        if not any(kind(column.type) for kind in kinds):
            raise RinoError(f"{self._path}: {name} holds {column.type}; it must hold numbers")
        return column.to_numpy(zero_copy_only=False)
