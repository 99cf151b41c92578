"""What an encoder or a tagger says of the jets of files, written so that it can be joined with the source."""

from __future__ import annotations

import itertools
import json
import os
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyrino import _core
from pyrino._arguments import checked
from pyrino._root_files import root_file, uproot_writes
from pyrino.bars import progress_bar
from pyrino.data.chunk import Chunk
from pyrino.data.containers import CONTAINERS, container_of
from pyrino.data.layout import open_file
from pyrino.data.nanoaod import JET
from pyrino.data.read import find_files, iterate
from pyrino.data.selection import Choice, Selection, Tally, checked_policy
from pyrino.data.source import PathLike, Source
from pyrino.errors import RinoError, RinoWarning, level_of_caller, readable
from pyrino.files import whole_file
from pyrino.jets import Jets

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pyrino.nn import Encoder
    from pyrino.training.tagger import Point, Tagger

__all__ = ["TREE", "embed_files", "predict_files"]

#: Name of the tree in ROOT files, unless another is asked for.
TREE = "rino"

#: Jets in memory at a time: about 200 MB of JetClass.
_MOST = 65536
#: Rows of a row group of parquet, at least, and bytes of a basket of the widest branch, at most.
_GROUP = 65536
_BASKET = 4 << 20

#: Name of the column that says whether jets pass a working point.
_PASSES = "passes"

Entries = NDArray[np.int64]


@checked
def embed_files(
    encoder: Encoder,
    path: PathLike | Iterable[PathLike],
    out: PathLike,
    *,
    resolution: int | str = "all",
    batch_tokens: int = 65536,
    batch_size: int | None = None,
    threads: int = 1,
    append: bool = False,
    tree: str = TREE,
    overwrite: bool = False,
    progress: bool = True,
    about: Mapping[str, Any] | None = None,
    max_jets: int | None = None,
    layout: str | None = None,
    on_error: str = "raise",
    **selection: Unpack[Choice],
) -> Tally:
    """Write the embeddings of all jets of files; memory is bounded for any number of jets.

    Parameters
    ----------
    encoder
        Of width D.
    path
        Files, as `read_jets` takes them.
    out
        ``NAME.parquet``: one file, a row for each jet that was taken, in the order of the files: ``file`` (its name as
        `Jets.origins` has it; bytes that are no UTF-8 as ``\\xe9``), ``entry`` (number of the jet in that file,
        from 0), ``label`` (int64 as that file numbers classes, null where it has none) and ``embedding`` (list of D
        float32). Join on (file, entry); files with several jets an entry (NanoAOD) have ``jet_in_event``, too: the
        number of the jet among those of its entry.

        ``NAME.root``, for one source, or a folder (a name without a suffix) that gets ``STEM_rino.root`` for every
        source: a friend tree, for sources that are ROOT. Row i belongs to row i of the source's tree and there are as
        many: ``entry``, ``label`` (int64, -1 where there is none), ``valid`` and ``embedding[D]`` (float32), which is
        NaN where ``valid`` is false, that is for jets that were cut or skipped. A source that is skipped as a whole
        gets no friend. Take another folder than the sources', which `read_jets` reads whole. Of a source with several
        jets an entry (NanoAOD) row i belongs to jet i, counted through all entries as `awkward.flatten` does; ``entry``
        and ``jet_in_event`` say which it is.
    resolution, batch_tokens, batch_size, threads
        As `JetEncoder.embed` takes them.
    append
        Each ROOT file begins as a copy of its source, so that it holds the source's trees and the friend. The source
        itself is never changed; that the copy's trees kept every byte is checked.
    tree
        Name of the friend tree. What made it is in the string ``NAME_about`` beside it (JSON).
    overwrite
        Replace files that exist; a source is never replaced.
    progress
        Show a bar.
    about
        More for the file's metadata, such as the encoder's name; values that JSON has.
    max_jets
        At most so many jets of each path given.
    layout, on_error
        As `read_jets` takes them.
    **selection
        As `read_jets` takes them; ``columns`` has no meaning here.

    Returns
    -------
    Tally
        What was read and what was not.

    Raises
    ------
    RinoError
        As `read_jets` and `JetEncoder.embed`; if `out` is of another suffix, exists, is a source, or cannot be
        written (a full disk); or a friend is asked for of a source that is not ROOT. No partial file is left; of
        several friends those that were whole before stay.

    Warns
    -----
    RinoWarning
        If broken files or jets were skipped.

    Examples
    --------
    >>> embed_files(encoder, "JetClass/val_5M/*.root", "val.parquet")
    >>> embed_files(encoder, "JetClass/val_5M/*.root", "friends", on_error="skip")
    """

    def embed(jets: Jets) -> NDArray[np.float32]:
        made = encoder.embed(
            jets, resolution=resolution, batch_tokens=batch_tokens, batch_size=batch_size, threads=threads
        )
        return made.astype(np.float32, copy=False)

    column = _Column("embedding", np.dtype(np.float32), encoder.width, embed)
    made = {"resolution": str(resolution), **(about or {})}
    to = _Out(column, "embed", out, append, tree, overwrite, made)
    return _write(to, path, max_jets, layout, on_error, selection, progress, encoder.recipe.columns)


@checked
def predict_files(
    tagger: Tagger,
    path: PathLike | Iterable[PathLike],
    out: PathLike,
    *,
    prior: float | None = None,
    working_point: Point | None = None,
    batch_size: int = 1024,
    threads: int = 1,
    append: bool = False,
    tree: str = TREE,
    overwrite: bool = False,
    progress: bool = True,
    about: Mapping[str, Any] | None = None,
    max_jets: int | None = None,
    layout: str | None = None,
    on_error: str = "raise",
    **selection: Unpack[Choice],
) -> Tally:
    """Write a tagger's scores for all jets of files; memory is bounded for any number of jets.

    Parameters
    ----------
    tagger
        Written is what its `Tagger.predict` gives.
    path, out
        As for `embed_files`, with ``probability`` (float64; of a regression ``prediction``) in place of ``embedding``.
    prior, batch_size, threads
        As `Tagger.predict` takes them.
    working_point
        What `Evaluation.fix_working_point` gave, or its file: ``passes`` (bool) is written, too, in friend trees false
        where ``valid`` is.
    append, tree, overwrite, progress, about, max_jets, layout, on_error, **selection
        As for `embed_files`.

    Returns
    -------
    Tally
        What was read and what was not.

    Raises
    ------
    RinoError
        As `embed_files`.

    Warns
    -----
    RinoWarning
        If broken files or jets were skipped.

    Examples
    --------
    >>> predict_files(tagger, "JetClass/val_5M/TTBar_000.root", "TTBar_000_rino.root")
    """

    point = None if working_point is None else tagger.checked_point(working_point, prior)
    predict = partial(tagger.predict, prior=prior, batch_size=batch_size, threads=threads)
    kind = "prediction" if tagger.task == "regression" else "probability"
    width = None if tagger.outputs == 1 else tagger.outputs
    column = _Column(kind, np.dtype(np.float64), width, predict, None if point is None else point.threshold)
    of = {} if tagger.task == "binary" else {"of": ", ".join(tagger.targets or tagger.classes)}
    said = {} if point is None else {"working_point": point.to_dict()}
    made = {"head": tagger.kind, **({} if prior is None else {"prior": prior}), **of, **said, **(about or {})}
    to = _Out(column, "predict", out, append, tree, overwrite, made)
    return _write(to, path, max_jets, layout, on_error, selection, progress, tagger.encoder.recipe.columns)


@dataclass(frozen=True)
class _Column:
    """What is computed of each jet: `of` gives (n,) of `dtype`, or (n, width); with `cut` whether it is as large."""

    name: str
    dtype: np.dtype[Any]
    width: int | None
    of: Callable[[Jets], NDArray[Any]]
    cut: float | None = None

    def missing(self, n: int) -> NDArray[Any]:
        """Values of n jets that have none."""
        return np.full(n if self.width is None else (n, self.width), np.nan, dtype=self.dtype)

    def passes(self, values: NDArray[Any]) -> dict[str, NDArray[np.bool_]]:
        """Whether jets of these values pass the cut, where there is one; those without value do not."""
        return {} if self.cut is None else {_PASSES: values >= self.cut}


@dataclass(frozen=True)
class _Out:
    """Where it goes."""

    column: _Column
    verb: str
    out: PathLike
    append: bool
    tree: str
    overwrite: bool
    made: Mapping[str, Any]

    def about(self, **more: Any) -> str:
        """What made a file, as JSON."""
        return json.dumps({"pyrino": _core.__version__, "command": self.verb, **self.made, **more}, default=str)

    def parquet(self) -> Path | None:
        """The one file of parquet, if that is what `out` names.

        Raises
        ------
        RinoError
            For a suffix of nothing that is written.
        """
        text = os.fsdecode(self.out)
        place = Path(text)
        suffix = place.suffix.lower()
        if suffix == ".parquet":
            if self.append:
                raise RinoError(f"append=True adds a tree to ROOT files but {place} is parquet: give NAME.root")
            return place
        if suffix not in ("", ".root") and not place.is_dir() and not text.endswith(os.sep):
            raise RinoError(
                f"{place} is of no kind that is written: give NAME.parquet, NAME.root for the friend tree of one "
                "ROOT file, or a folder for those of several"
            )
        return None

    def friends(self, sources: list[Source]) -> dict[Source, Path]:
        """The file of each source's friend tree.

        Raises
        ------
        RinoError
            If two would have one name.
        """
        place = Path(os.fsdecode(self.out))
        if place.suffix.lower() == ".root":
            if len(sources) > 1:
                raise RinoError(
                    f"{len(sources)} files have a friend tree each, which cannot all be in {place}: give a folder, "
                    f"for example {place.with_suffix('')}, or NAME.parquet for one file"
                )
            return {sources[0]: place}
        found: dict[Path, Source] = {}
        for source in sources:
            other = found.setdefault(place / f"{source.stem}_rino.root", source)
            if other != source:
                raise RinoError(f"the friends of {other} and {source} would have one name: give a folder to each")
        return {source: target for target, source in found.items()}


def _write(
    to: _Out,
    path: PathLike | Iterable[PathLike],
    max_jets: int | None,
    layout: str | None,
    on_error: str,
    selection: Mapping[str, Any],
    progress: bool,
    columns: Sequence[str],
) -> Tally:
    if "columns" in selection:
        raise RinoError("columns of the source are not written again: join on (file, entry), or by the row")
    if not isinstance(to.tree, str) or not to.tree.isidentifier():
        raise RinoError(f"tree = {to.tree!r}: give a name of letters, digits and _")
    reading = _Reading(
        Selection.of(columns=columns, **selection).passing_labels(), layout, checked_policy(on_error), max_jets
    )
    paths: list[Any]
    if isinstance(path, (str, os.PathLike)) or not isinstance(path, Iterable):
        paths = [path]
    else:
        paths = list(path)
    sources = find_files(paths)
    groups = [find_files(one) for one in paths]
    place = to.parquet()
    if place is None:
        targets = to.friends(sources)
        for source, target in targets.items():
            _check_friend(source, target, to, on_error)
        opened: Any = nullcontext(_Friends(to, targets))
    else:
        targets = {sources[0]: place}
        opened = _parquet_file(to, place, reading.several(sources))
    _spare(sources, targets.values())
    with progress_bar(desc=to.verb, unit=" jets", unit_scale=True, disable=not progress) as bar, opened as writer:
        number = 0
        for group in groups:
            reading.begin()
            for source in group:
                number += 1
                bar.set_postfix_str(f"file {number}/{len(sources)}", refresh=False)
                if not reading.full:
                    writer.take(source, reading, bar.update)
        if not reading.tally.jets and not writer.whole_without_jets(reading.tally):
            raise RinoError(f"no jet is left: {reading.tally}: check the files and the selection")
    if not reading.tally.complete:
        warnings.warn(f"{to.verb} left out what is broken: {reading.tally}", RinoWarning, stacklevel=level_of_caller())
    return reading.tally


def _check_friend(source: Source, target: Path, to: _Out, on_error: str) -> None:
    """Raise `RinoError` before hours of work that would end in one."""
    folder = None if source.path is None else source.path.resolve().parent
    if folder == target.resolve().parent and Path(os.fsdecode(to.out)).suffix.lower() != ".root":
        raise RinoError(
            f"{folder} has the files that are read, and would be read with their friends: give another folder"
        )
    if target.exists() and not to.overwrite:
        raise RinoError(f"{target} exists: give overwrite=True to replace it, or another name")
    try:
        container = container_of(source)
    except RinoError:
        if on_error == "raise":
            raise
        return
    if container is not None and container is not CONTAINERS["ROOT"]:
        raise RinoError(
            f"{source} is {container.name}, but a friend tree belongs to the tree of a ROOT file: "
            "give a name that ends in .parquet"
        )


def _spare(sources: list[Source], targets: Iterable[Path]) -> None:
    """Raise `RinoError` if a file to be written is one that is read."""
    mine = {source.path.resolve() for source in sources if source.path is not None}
    for target in targets:
        if target.resolve() in mine:
            raise RinoError(f"{target} exists and is a file that is read: give another name")


class _Look(NamedTuple):
    """Jets in a file, `Reader.first_jets`, and whether there may be several jets an entry."""

    entries: int
    first_jets: NDArray[np.int64] | None
    several: bool


@dataclass
class _Reading:
    """How files are read."""

    selection: Selection
    layout: str | None
    on_error: str
    max_jets: int | None
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        number = self.max_jets
        if number is not None and (isinstance(number, bool) or not isinstance(number, (int, np.integer)) or number < 1):
            raise RinoError(f"max_jets = {number!r}: give an integer of 1 or more, or None for all")
        self._left = number
        self._last: tuple[Source, _Look] | None = None

    def begin(self) -> None:
        """A new path begins."""
        self._left = self.max_jets

    @property
    def full(self) -> bool:
        """Whether there are enough jets of this path."""
        return self._left == 0

    def pieces(self, source: Source) -> Generator[tuple[Chunk, Entries, int], None, None]:
        """(jets, their numbers in the file, number of the file's jets that were read so far)."""
        before = self.tally.entries
        pieces = iterate(
            [source],
            self.selection,
            self.tally,
            layout=self.layout,
            on_error=self.on_error,
            most=_MOST,
            identified=True,
        )
        with closing(pieces) as found:
            for _, chunk, entries in found:
                if self._left is not None:
                    extra = max(len(entries) - self._left, 0)
                    if extra:
                        keep = np.arange(len(entries)) < self._left
                        chunk, entries = chunk.select(keep), entries[keep]
                        self.tally.jets -= extra
                    self._left -= len(entries)
                yield chunk, entries, self.tally.entries - before
                if self.full:
                    break

    def look(self, source: Source) -> _Look:
        """What is in a file."""
        if self._last is None or self._last[0] != source:
            with open_file(source, self.layout) as (_, reader):
                self._last = (source, _Look(reader.entries, reader.first_jets, JET in reader.columns))
        return self._last[1]

    def several(self, sources: Iterable[Source]) -> bool:
        """Whether there are several jets an entry in the first file that can be opened."""
        for source in sources:
            try:
                return self.look(source).several
            except RinoError:
                continue  # reading it says why
        return False


@contextmanager
def _parquet_file(to: _Out, place: Path, several: bool) -> Iterator[_Parquet]:
    """One file of parquet for all sources, with `several` jets an entry or one; whole or absent."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    column = to.column
    kind = pa.from_numpy_dtype(column.dtype)
    schema = pa.schema(
        [
            ("file", pa.dictionary(pa.int32(), pa.string())),
            ("entry", pa.int64()),
            *([(JET, pa.int64())] if several else []),
            ("label", pa.int64()),
            (column.name, kind if column.width is None else pa.list_(kind, column.width)),
            *([] if column.cut is None else [(_PASSES, pa.bool_())]),
        ],
        metadata={f"pyrino.{to.verb}": to.about()},
    )
    with (
        whole_file(place, overwrite=to.overwrite) as partial,
        open(partial, "wb") as file,  # pyarrow would take a name apart at colons
        pq.ParquetWriter(file, schema, use_dictionary=["file"]) as writer,
    ):
        rows = _Parquet(writer, column, several)
        yield rows
        rows.flush()


class _Parquet:
    """All sources in one file of parquet."""

    def __init__(self, writer: Any, column: _Column, several: bool) -> None:
        self._writer, self._column, self._several = writer, column, several
        self._rows: list[Any] = []
        self._number = 0

    def take(self, source: Source, reading: _Reading, say: Callable[[int], Any]) -> None:
        """Write what is read of a source."""
        for chunk, entries, _ in reading.pieces(source):
            if not len(entries):
                continue
            origins = chunk.origins or ((str(source),), np.zeros(len(entries), np.int32), entries)
            if (JET in chunk.values) != self._several:
                raise RinoError(
                    f"{source} has {'one jet' if self._several else 'several jets'} an entry, unlike the first file: "
                    "write the two kinds into a file each"
                )
            labels = None if chunk.labels is None else chunk.labels.values
            self._rows.append((*origins, labels, self._column.of(chunk.jets()), chunk.values.get(JET)))
            self._number += len(entries)
            say(len(entries))
            if self._number >= _GROUP:
                self.flush()

    def whole_without_jets(self, tally: Tally) -> bool:
        """Whether what was read has no jets, and that is no error."""
        return False

    def flush(self) -> None:
        """Write what was gathered as a row group: cuts may leave few jets of a piece."""
        import pyarrow as pa

        if not self._rows:
            return
        names: dict[str, int] = {}
        numbers = [
            np.array([names.setdefault(readable(name), len(names)) for name in files], dtype=np.int32)[file]
            for files, file, *_ in self._rows
        ]
        labels = [
            pa.nulls(len(row[2]), pa.int64()) if row[3] is None else pa.array(row[3], mask=row[3] < 0)
            for row in self._rows
        ]
        values = np.concatenate([row[4] for row in self._rows])
        flat = pa.array(values.ravel())
        columns = [
            pa.DictionaryArray.from_arrays(np.concatenate(numbers), list(names)),
            pa.array(np.concatenate([row[2] for row in self._rows])),
            *([pa.array(np.concatenate([row[5] for row in self._rows]))] if self._several else []),
            pa.concat_arrays(labels),
            flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1]),
            *(pa.array(passes) for passes in self._column.passes(values).values()),
        ]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._writer.schema))
        self._rows, self._number = [], 0


class _Friends:
    """A ROOT file for each source."""

    def __init__(self, to: _Out, targets: Mapping[Source, Path]) -> None:
        self._to, self._targets = to, targets

    def take(self, source: Source, reading: _Reading, say: Callable[[int], Any]) -> None:
        """Write the friend of a source."""
        to, place, before = self._to, self._targets[source], reading.tally.jets
        try:
            with whole_file(place, overwrite=to.overwrite) as partial, closing(reading.pieces(source)) as pieces:
                # Most broken sources show in the first piece: they are not copied.
                begin = list(itertools.islice(pieces, 1))
                if str(source) in reading.tally.skipped:
                    raise _Skipped
                with root_file(partial, source if to.append else None, (to.tree, _about(to.tree))) as root:
                    look = reading.look(source)
                    rows = _Rows(root, to, source, look.first_jets)
                    for chunk, entries, end in itertools.chain(begin, pieces):
                        rows.extend(chunk, entries, end)
                        say(len(entries))
                    if str(source) in reading.tally.skipped:
                        raise _Skipped
                    # Behind the last piece that gave jets: what max_jets leaves out, and what is broken.
                    rows.pad(look.entries)
        except _Skipped:
            reading.tally.jets = before

    def whole_without_jets(self, tally: Tally) -> bool:
        """As `_Parquet` has it: the friend of a tree without entries has none."""
        return not tally.entries and tally.complete


class _Skipped(Exception):
    """A source turned out to be broken; it has no friend."""


class _Rows:
    """A tree that has a row for every jet of a source's tree."""

    def __init__(self, root: Any, to: _Out, source: Source, first_jets: NDArray[np.int64] | None) -> None:
        self._source, self._column, self._end = source, to.column, 0
        self._first_jets = first_jets
        column = to.column
        self._step = max(1, _BASKET // (column.dtype.itemsize * (column.width or 1)))
        kind = column.dtype if column.width is None else np.dtype((column.dtype, (column.width,)))
        integer = np.dtype(np.int64)
        with uproot_writes(source):
            root[_about(to.tree)] = to.about(source=str(source))
            boolean = np.dtype(np.bool_)
            branches = {"entry": integer, "label": integer, "valid": boolean, column.name: kind}
            branches |= {} if column.cut is None else {_PASSES: boolean}
            self._tree = root.mktree(to.tree, branches if first_jets is None else branches | {JET: integer})

    def extend(self, chunk: Chunk, entries: Entries, end: int) -> None:
        """Rows up to `end`: those of `entries` are the chunk's jets, the others have no value."""
        n = end - self._end
        rows = entries - self._end
        values, labels, valid = self._column.missing(n), np.full(n, -1, dtype=np.int64), np.zeros(n, dtype=bool)
        if len(rows):
            values[rows] = self._column.of(chunk.jets())
            valid[rows] = True
            if chunk.labels is not None:
                labels[rows] = chunk.labels.values
        self._write(labels, valid, values)

    def pad(self, end: int) -> None:
        """Rows without values up to `end`."""
        while self._end < end:
            n = min(end - self._end, self._step)
            self._write(np.full(n, -1, dtype=np.int64), np.zeros(n, dtype=bool), self._column.missing(n))

    def _write(self, labels: NDArray[np.int64], valid: NDArray[np.bool_], values: NDArray[Any]) -> None:
        for i in range(0, len(valid), self._step):
            part = slice(i, i + self._step)
            jet = np.arange(self._end, self._end + len(valid[part]), dtype=np.int64)
            branches = {"entry": jet, "label": labels[part], "valid": valid[part], self._column.name: values[part]}
            branches |= self._column.passes(values[part])
            if self._first_jets is not None:
                event = np.searchsorted(self._first_jets, jet, side="right") - 1
                branches |= {"entry": event, JET: jet - self._first_jets[event]}
            with uproot_writes(self._source):
                self._tree.extend(branches)
            self._end += len(jet)


def _about(tree: str) -> str:
    return f"{tree}_about"
