"""Parquet: JetClass-II (``jet_label``) and files with JetClass's columns, pyrino's own among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyrino.data.chunk import Broken, Chunk, reading
from pyrino.data.jetclass import GENERATED, MOMENTA, Columns, Lists, make_chunk
from pyrino.data.labels import LABELS, NUMBER, meaning_of
from pyrino.data.layout import Layout, Reader
from pyrino.data.source import Source
from pyrino.errors import RinoError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ArrowColumns", "JetClass2", "JetClassParquet", "kinds_of"]


class JetClassParquet(Layout):
    """JetClass's columns in parquet, as `pyrino.generate` writes them; labels from one-hot ``label_*``."""

    name, title, container = "jetclass-parquet", "JetClass's columns in parquet", "parquet"
    suffixes = (".parquet",)

    def recognise(self, file: Any) -> bool:
        names = file.schema_arrow.names
        return any(name in names for name in MOMENTA) and NUMBER not in names

    def reader(self, source: Source, file: Any) -> Reader:
        return _Reader(source, file)


class JetClass2(JetClassParquet):
    """JetClass-II: the same with class numbers in ``jet_label``."""

    name, title = "jetclass2", "JetClass-II: parquet with jet_label"

    def recognise(self, file: Any) -> bool:
        names = file.schema_arrow.names
        return any(name in names for name in MOMENTA) and NUMBER in names


class _Reader(Reader):
    def __init__(self, source: Source, file: Any) -> None:
        self._source, self._file = source, file
        metadata = file.metadata
        self.entries = metadata.num_rows
        schema = _plain(file.schema_arrow)
        self._names = schema.names
        self._columns = Columns(source, kinds_of(schema), dict(zip(schema.names, schema.types, strict=True)))
        self.columns, self.unfit = self._columns.others, self._columns.unfit
        sizes = [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]
        self._kept: tuple[tuple[tuple[int, ...], tuple[str, ...]], pa.Table] | None = None
        self._ends = np.cumsum([0, *sizes])
        self.starts = np.unique(self._ends[:-1][np.asarray(sizes) > 0]) if any(sizes) else np.zeros(1, np.int64)

    def read(self, first: int, last: int, columns: Sequence[str] = ()) -> Chunk:
        import pyarrow as pa

        names = tuple(self._columns.to_read(self._source, columns))
        twice = [name for name in names if self._names.count(name) > 1]
        if twice:
            raise RinoError(f"{self._source} has several columns {twice[0]}: write it again with one of that name")
        groups = tuple(np.flatnonzero((self._ends[1:] > first) & (self._ends[:-1] < last)).tolist())
        with reading(self._source, "parquet"):
            table = self._groups(groups, names)
            begin = first - int(self._ends[groups[0]]) if groups else 0
            part = table.slice(begin, last - first).combine_chunks()
            if part.num_rows == table.num_rows:
                self._kept = None
            elif 2 * part.num_rows < table.num_rows:
                part = _copied(part)
            batches = part.to_batches()
            batch = batches[0] if batches else pa.RecordBatch.from_pylist([], schema=part.schema)
            jets = ArrowColumns(self._source, first, batch)
            return make_chunk(
                self._source, first, self._columns, columns, jets.lists, jets.scalars, jets.anything, jets.broken
            )

    def _groups(self, groups: tuple[int, ...], names: tuple[str, ...]) -> pa.Table:
        """Row groups, which can only be read whole: one of which a piece is read stays for the next piece."""
        if self._kept is None or self._kept[0] != (groups, names):
            self._kept = None
            table = self._file.read_row_groups(list(groups), columns=names, use_threads=False)
            plain = _plain(table.schema)
            self._kept = ((groups, names), table if plain.equals(table.schema) else table.cast(plain))
        return self._kept[1]

    def label_meaning(self) -> str | None:
        return meaning_of(self._columns.labels)  # without decompressing a whole piece

    @property
    def kept(self) -> int:
        return 0 if self._kept is None else self._kept[1].nbytes

    def forget(self) -> None:
        self._kept = None

    def close(self) -> None:
        self._kept = None
        self._file.close(force=True)  # what it did not open itself, too


def _copied(table: pa.Table) -> pa.Table:
    """The rows of a slice in memory of their own: it would keep the whole row group's."""
    import pyarrow as pa

    return table.take(pa.array(np.arange(table.num_rows)))


def _plain(schema: pa.Schema) -> pa.Schema:
    """The schema as the file has it: awkward's own types are there or not, as awkward was imported before or not."""
    import pyarrow as pa

    def plain(kind: pa.DataType) -> pa.DataType:
        if isinstance(kind, pa.BaseExtensionType):
            return plain(kind.storage_type)
        if not _is_list(kind) or plain(kind.value_type) == kind.value_type:
            return kind
        if pa.types.is_fixed_size_list(kind):
            return pa.list_(plain(kind.value_type), kind.list_size)
        return (pa.large_list if pa.types.is_large_list(kind) else pa.list_)(plain(kind.value_type))

    return pa.schema([pa.field(column.name, plain(column.type), column.nullable) for column in schema])


def kinds_of(schema: pa.Schema) -> dict[str, str]:
    """Columns of a schema that hold a list of numbers per jet ("constituent") or one number ("jet").

    The momenta and the labels are there whatever they hold: reading them says what is wrong.
    """
    kinds = {}
    for column in schema:
        numbers = _is_list(column.type) and _is_number(column.type.value_type)
        if column.name in LABELS or _is_number(column.type):
            kinds[column.name] = "jet"
        elif column.name in MOMENTA or (numbers and GENERATED not in column.name):
            kinds[column.name] = "constituent"
    return kinds


def _is_list(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return any(test(kind) for test in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list))


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return any(test(kind) for test in (pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean))


class ArrowColumns:
    """Columns of a record batch as arrays; jets for which a number is missing are in `broken`."""

    def __init__(self, source: Source, first: int, batch: pa.RecordBatch) -> None:
        self._source, self._first, self._batch = source, first, batch
        self.broken: Broken = {}

    def lists(self, name: str) -> Lists:
        """A column of lists."""
        import pyarrow as pa

        column = self._batch.column(name)
        if not _is_list(column.type):
            raise RinoError(f"{self._source}: {name} is of type {column.type}; it must be a list of numbers per jet")
        self._missing(name, column)
        values = column.flatten()
        counts = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
        missing = values.is_null().to_numpy(zero_copy_only=False) if values.null_count else None
        return Lists(self._numbers(name, values), counts, pa.types.is_fixed_size_list(column.type), missing)

    def scalars(self, name: str) -> NDArray[Any]:
        """(m,) values of a column of numbers."""
        column = self._column(name)
        self._missing(name, column)
        return self._numbers(name, column)

    def anything(self, name: str) -> NDArray[Any]:
        """(m,) values of a column of any type; None where there is none."""
        column = self._column(name)
        if _is_number(column.type) and not column.null_count:
            return column.to_numpy(zero_copy_only=False)
        values = np.empty(len(column), dtype=object)
        values[:] = column.to_pylist()
        return values

    def _column(self, name: str) -> pa.Array:
        """One value per jet: lists of one by their type are what they hold."""
        import pyarrow as pa
        import pyarrow.compute as pc

        column = self._batch.column(name)
        single = pa.types.is_fixed_size_list(column.type) and column.type.list_size == 1
        return pc.list_element(column, 0) if single else column

    def _missing(self, name: str, column: pa.Array) -> None:
        if column.null_count:
            for jet in np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)).tolist():
                self._break(jet, f"jet {self._first + jet} has no {name} (null): write a value for every jet")

    def _break(self, jet: int, why: str) -> None:
        self.broken.setdefault(jet, f"{self._source}: {why}")

    def _numbers(self, name: str, column: pa.Array) -> NDArray[Any]:
        if not _is_number(column.type):
            raise RinoError(f"{self._source}: {name} holds {column.type}; it must hold numbers")
        if column.null_count:  # of jets that are broken; as they are, integers would become floating point
            column = column.fill_null(False if str(column.type) == "bool" else 0)
        return column.to_numpy(zero_copy_only=False)
