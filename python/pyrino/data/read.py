"""`read_jets`: jets of files into memory."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Generator, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pyrino import _core
from pyrino._columns import offsets_of, read_only
from pyrino.data.chunk import Chunk, chosen
from pyrino.data.layout import open_file, suffixes
from pyrino.data.nanoaod import JET
from pyrino.data.selection import Choice, Selection, Tally, checked_policy, read_piece
from pyrino.data.source import PathLike, Source, find_sources
from pyrino.errors import RinoError, RinoWarning, level_of_caller
from pyrino.jets import Jets

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["LabelRule", "find_files", "iterate", "read_jets"]

_LOG = logging.getLogger("pyrino")

#: Jets read at a time: about 50 MB of JetClass.
_ROWS = 65536


def read_jets(
    path: PathLike | Iterable[PathLike],
    *,
    max_jets: int | None = None,
    layout: str | None = None,
    on_error: str = "raise",
    **selection: Unpack[Choice],
) -> Jets:
    """Jets from files of any layout that pyrino knows; the content tells which.

    ====================  ================================================================================
    ``jetclass``          JetClass: ROOT, TTree or RNTuple ``tree``, one-hot ``label_*``
    ``jetclass2``         JetClass-II: parquet, ``jet_label``
    ``jetclass-parquet``  parquet with JetClass's columns: `pyrino.generate`
    ``jetnet``            JetNet: HDF5, 30 or 150 constituents; label by the file's name; each jet at a phi of its own,
                          ``layout="jetnet:phi=0"`` for all at one
    ``landscape``         top-tagging landscape: HDF5 written by pandas
    ``energyflow``        EnergyFlow's quark and gluon jets: npz
    ``aspen``             AspenOpenJets: HDF5, real collisions, no labels
    ``rs3l``              RS3L: HDF5, the nominal jets; ``layout="rs3l:seed"``, ``fsr_up``, ``fsr_down``, ``herwig``
                          or ``all`` for the re-simulated ones
    ``nanoaod``           CMS NanoAOD with candidates (PFNano): ROOT, TTree or RNTuple ``Events``, ``FatJet``;
                          ``layout="nanoaod:Jet"`` for AK4, ``"nanoaod:puppi"``, ``"nanoaod:Jet,puppi"`` weighted
    ``packed``            `pyrino.pack`'s cache: Arrow IPC
    ====================  ================================================================================

    Which layout was taken is logged (logger "pyrino", level INFO); `pyrino.data.layouts` has all,
    `pyrino.data.register` adds yours.

    Parameters
    ----------
    path : path or iterable of paths
        A file, a URL (``root://``, ``https://``, ``s3://``: what fsspec, and for ROOT uproot, can open), a folder (its
        files of known suffixes, by name; a folder ``NAME.parquet`` in it is a data set of several files), a pattern
        such as ``"data/*.root"`` (by name), ``"@files.txt"`` for a text file that names one of these a line, or
        several of these, read in the order given. A file is never read twice.
    max_jets : int, optional
        Stop after so many jets.
    layout : str, optional
        Name of the layout, where it should not be told by the content, with options behind a colon.
    on_error : {"raise", "skip"}
        What to do with a file that cannot be read, or does not fit the others, and with a broken jet. Skipping is
        never silent: what was skipped, and why, is a `RinoWarning` at the end.
    columns : str or iterable of str
        Columns beyond momenta and label: those of constituents, such as ``part_charge``, become ``jets.extras``, those
        of jets, such as ``jet_sdmass``, ``jets.values``. Of ``"charge|part_charge"`` the first that a file has is read;
        `Recipe.columns` are those that a recipe needs.
    labelled : bool
        False leaves labels out, so that files with different ones, or none, can be mixed. Default True: a jet without
        a label is broken in a file that has them.
    pt, eta, mass : (low, high), optional
        Ranges of the jet's transverse momentum (GeV), pseudorapidity and mass (GeV), those of the sum of all its
        constituents in the file; low is included, high is not, None is open.
    label : str, int or iterable of these, optional
        Classes to take, by name ("Tbqq") or number.
    constituent_pt : float
        Least transverse momentum of a constituent (GeV). Jets that have none left are cut.
    hardest : int, optional
        So many constituents of highest pT, in descending pT.
    fraction : float
        Share of the jets in [0, 1]; which ones depends on `seed`, the file's name and the jet's number there alone.
    seed : int
        Of the draw, 0 or more.
    drop_empty : bool
        Leave out jets without constituents, which are an error otherwise.
    scale : float
        What the files' momenta and energies are multiplied with to be in GeV: 1e-3 for MeV. Columns stay as they are.

    Returns
    -------
    Jets
        In the order of the files; momenta in GeV, float64, with `Jets.origins` (file and entry). Labels are class
        numbers as the data set has them (`JETCLASS_CLASSES`, `JETNET_CLASSES` ...); None if there are none.

    Raises
    ------
    RinoError
        If a file is absent, damaged, of no known layout or without jets; columns are missing; a jet is empty; a
        momentum is not finite or an energy is below it; labels are missing in, or mean something else in, some of
        several files (all of these unless `on_error` is "skip"); or no jet is left. The message names the file, and
        the jet by its row in the file.

    Examples
    --------
    >>> jets = rino.read_jets("JetClass/val_5M/TTBar_*.root", max_jets=10_000, columns=["part_charge", "jet_sdmass"])
    >>> jets = rino.read_jets("AOJ/*.h5", pt=(300, 1000), eta=(-2, 2), hardest=100, fraction=0.1, seed=3)
    """
    if max_jets is not None and (isinstance(max_jets, bool) or not isinstance(max_jets, (int, np.integer))):
        raise RinoError(f"max_jets = {max_jets!r} is of type {type(max_jets).__name__}: give an integer or None")
    if max_jets is not None and max_jets < 1:
        raise RinoError(f"max_jets = {max_jets}: give 1 or more, or None for all")
    chosen = Selection.of(**selection)
    tally = Tally()
    assembly = _Assembly()
    most = 4 * _ROWS if max_jets is None else min(4 * _ROWS, max_jets)
    pieces = iterate(find_files(path), chosen, tally, layout=layout, on_error=on_error, most=most)
    for source, chunk, entries in pieces:
        left = len(entries) if max_jets is None else min(len(entries), max_jets - assembly.jets)
        if left < len(entries):
            chunk, entries = chunk.select(np.arange(len(entries)) < left), entries[:left]
        assembly.add(source, chunk, entries)
        if assembly.jets == max_jets:
            break
    tally.jets = assembly.jets  # without those of the last piece that max_jets left out
    _LOG.info("read %s", tally)
    if not tally.complete:
        warnings.warn(f"reading left out what is broken: {tally}", RinoWarning, stacklevel=level_of_caller())
    if not assembly.jets:
        raise RinoError(f"no jet is left: {tally}: check the files and the selection")
    return assembly.finish()


def find_files(path: PathLike | Iterable[PathLike]) -> list[Source]:
    """The files that a path, folder, pattern, URL or several of these stand for.

    Raises
    ------
    RinoError
        If there is none.
    """
    return find_sources(path, suffixes())


class LabelRule:
    """Labels of several files must mean the same, and columns be of the same kind; the first file says what."""

    def __init__(self) -> None:
        self._first: tuple[Source, str | None] | None = None
        self._kinds: tuple[Source, dict[str, str]] | None = None

    @property
    def meaning(self) -> str | None:
        """What labels mean."""
        return self._first and self._first[1]

    def check_columns(self, source: Source, columns: Iterable[str], kinds: Mapping[str, str]) -> None:
        """Raise `RinoError` unless the columns are of constituents or of jets as in the first file."""
        mine = {name: kinds[name] for name in columns if name in kinds}
        if self._kinds is None:
            self._kinds = (source, mine)
        other, before = self._kinds
        for name, kind in mine.items():
            if before.get(name, kind) != kind:
                raise RinoError(
                    f"{name} is a column of {before[name]}s in {other} and of {kind}s in {source}: read such files one "
                    "by one"
                )

    def check(self, source: Source, meaning: str | None) -> None:
        """Raise `RinoError` unless the labels of a file mean the same as those of the first; None: it has none."""
        if self._first is None:
            self._first = (source, meaning)
        other, before = self._first
        if meaning != before:
            raise RinoError(
                f"the labels of {other} are {before or 'absent'}, those of {source} {meaning or 'absent'}: leave "
                "labels out with labelled=False, or read such files one by one, set labels with Jets.with_labels, "
                "then join them with Jets.concatenate"
            )


def iterate(
    sources: Iterable[Source],
    selection: Selection,
    tally: Tally,
    *,
    layout: str | None = None,
    on_error: str = "raise",
    most: int = 4 * _ROWS,
    identified: bool = False,
) -> Generator[tuple[Source, Chunk, NDArray[np.int64]]]:
    """What `selection` takes of files, in their order: (file, at most `most` jets, their numbers in the file).

    `tally` counts what was taken and what was not. With `identified` the column `JET` comes by itself where a file has
    several jets an entry.

    Raises
    ------
    RinoError
        As `read_jets`.
    """
    checked_policy(on_error)
    rule = LabelRule()
    for source in sources:
        first = 0
        try:
            with open_file(source, layout) as (found, reader):
                if reader.entries == 0:
                    tally.add(Tally(files=1, layouts={found.name: 1}, without=[str(source)]))
                columns = chosen(selection.columns, reader.columns)
                if identified and JET in reader.columns and JET not in columns:
                    columns = (*columns, JET)
                rule.check_columns(source, columns, reader.columns)
                for first, last in reader.spans(min(_ROWS, most), most):
                    chunk, entries = read_piece(reader, first, last, columns)
                    if selection.labelled is not False:
                        rule.check(source, None if chunk.labels is None else chunk.labels.meaning)
                    chunk, entries = selection.take(source, chunk, entries, tally, on_error)
                    if not first:
                        tally.add(Tally(files=1, layouts={found.name: 1}))
                    yield source, chunk, entries
        except RinoError as error:
            if on_error == "raise":
                raise
            tally.skip(str(source), f"{error}; jets 0 to {first - 1} were read" if first else str(error))


class _Assembly:
    """Chunks on their way to one `Jets`; kept in the files' precision until the end."""

    def __init__(self) -> None:
        self._chunks: list[Chunk] = []
        self._files: dict[str, int] = {}
        self._file: list[NDArray[np.int32]] = []
        self._entry: list[NDArray[np.int64]] = []
        self.jets = 0

    def add(self, source: Source, chunk: Chunk, entries: NDArray[np.int64]) -> None:
        """Takes a chunk."""
        files, file, entry = chunk.origins or ((str(source),), np.zeros(len(entries), np.int32), entries)
        numbers = [self._files.setdefault(name, len(self._files)) for name in files]
        self._file.append(np.asarray(numbers, dtype=np.int32)[file])
        self._entry.append(entry)
        self._chunks.append(chunk)
        self.jets += len(entries)

    def finish(self) -> Jets:
        """All jets."""
        offsets = offsets_of(np.concatenate([chunk.counts for chunk in self._chunks]))
        first = self._chunks[0]
        labels = None
        if first.labels is not None:
            labels = np.concatenate([chunk.labels.values for chunk in self._chunks if chunk.labels is not None])
        extras = {name: np.concatenate([c.extras[name] for c in self._chunks]) for name in first.extras}
        values = {name: np.concatenate([c.values[name] for c in self._chunks]) for name in first.values}
        p4 = np.empty((offsets[-1], 4), order="F")
        begin = 0
        self._chunks.reverse()
        while self._chunks:
            # Each chunk goes as soon as it is copied, so that the momenta are not held twice.
            momenta = self._chunks.pop().momenta
            end = begin + len(momenta[0])
            for c in range(4):
                p4[begin:end, c] = momenta[c]
            begin = end
        jets = Jets._wrap(_core.Jets.from_p4(p4, offsets), read_only(p4))
        if labels is not None:
            jets = jets.with_labels(labels)
        for name, column in extras.items():
            jets = jets.with_extra(name, column)
        for name, column in values.items():
            jets = jets.with_value(name, column)
        return jets.with_origins(list(self._files), np.concatenate(self._file), np.concatenate(self._entry))
