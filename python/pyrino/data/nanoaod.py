"""ROOT: CMS NanoAOD with candidates (PFNano): a TTree or RNTuple `Events` of jets and indices of their candidates."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyrino._columns import MASS_ROUNDING, energy_of, offsets_of
from pyrino.data.chunk import Broken, Chunk, need, not_negative, reading
from pyrino.data.layout import Layout, Reader
from pyrino.data.root import table_of, tables_of
from pyrino.data.source import Source
from pyrino.errors import RinoError
from pyrino.jets import Origins

__all__ = ["JET", "NanoAod"]

TREE = "Events"

#: Column with the number of the jet in its event, from 0: with the event's number it names a jet.
JET = "jet_in_event"

#: What the collection of candidates is called, and, in the table that joins jets with it, the number of the candidate.
_CANDIDATES = ("PFCands", "PFCand")
_INDEX = ("pFCandsIdx", "candIdx", "pFCandIdx", "pfCandIdx")
_KINEMATICS = ("pt", "eta", "phi", "mass")
_PUPPI = "puppiWeight"

#: Decisions of the trigger, hundreds a file, are no columns here.
_TRIGGERS = ("HLT_", "L1_")

#: Events read at a time, where the file's own pieces are smaller: an event has about 1,000 candidates.
_EVENTS = 4096


class NanoAod(Layout):
    """Every jet of ``FatJet_*`` in every event, in the file's order. Its constituents are the candidates ``PFCands_*``
    (pt, eta, phi, mass; GeV) that ``FatJetPFCands_jetIdx`` and ``FatJetPFCands_pFCandsIdx`` (``candIdx`` in older
    files) join with it. There are no labels.

    Columns have the names of their branches: those of candidates and of the joining table are the constituents',
    ``FatJet_*`` the jets', numbers of the event (``run``, ``luminosityBlock``, ``event`` ... but no trigger decisions)
    those of each of its jets. ``jet_in_event`` is the number of the jet in its event.

    `Jets.origins` has the event as the entry, so that several jets have the same one. ``fraction=`` takes whole events.

    ``layout="nanoaod:Jet"`` has the jets of ``Jet_*`` (AK4) by ``JetPFCands_*``, any other collection alike;
    ``"nanoaod:puppi"`` multiplies momenta by ``PFCands_puppiWeight`` and leaves candidates of weight 0 out;
    ``"nanoaod:Jet,puppi"`` does both.

    Masses of massless candidates are rounded: from -5 MeV on they count as 0.
    """

    name, title, container = "nanoaod", "CMS NanoAOD with candidates (PFNano): ROOT, TTree or RNTuple `Events`", "ROOT"
    suffixes = (".root",)

    def __init__(self, jets: str = "FatJet", *, puppi: bool = False) -> None:
        self._jets, self._puppi = jets, puppi

    def variant(self, options: str) -> Layout:
        names = [name for name in options.split(",") if name != "puppi"]
        if len(names) > 1 or not all(name.isidentifier() for name in names):
            raise RinoError(
                f"{options!r} is no option of the layout {self.name!r}: give the jets' name (Jet), puppi, or both "
                "(Jet,puppi)"
            )
        made = type(self)(*names, puppi="puppi" in options.split(","))
        made.name = f"{self.name}:{options}"  # type: ignore[misc]
        return made

    def recognise(self, file: Any) -> bool:
        return TREE in tables_of(file) and any(f"{name}_pt" in file[TREE].keys() for name in ("FatJet", "Jet"))

    def reader(self, source: Source, file: Any) -> Reader:
        need(source, [TREE], tables_of(file), "TTree or RNTuple")
        return _Reader(source, file, self._jets, self._puppi)


class _Reader(Reader):
    def __init__(self, source: Source, file: Any, jets: str, puppi: bool) -> None:
        self._source, self._file, self._table = source, file, table_of(file, TREE)
        kinds = {name: "list" for name, length in self._table.lists.items() if length is None}
        kinds |= dict.fromkeys(self._table.numbers, "number")
        candidates = next((name for name in _CANDIDATES if f"{name}_pt" in kinds), _CANDIDATES[0])
        link = f"{jets}{candidates}"
        index = next((name for name in _INDEX if f"{link}_{name}" in kinds), _INDEX[0])
        self._jet, self._candidate = f"{link}_jetIdx", f"{link}_{index}"
        self._momenta = [f"{candidates}_{name}" for name in _KINEMATICS]
        self._weight = [f"{candidates}_{_PUPPI}"] if puppi else []
        self._needed = [*self._momenta, *self._weight, self._jet, self._candidate]
        absent = [name for name in self._needed if kinds.get(name) != "list"]
        if absent:
            end = f"{candidates}_jetIdx"
            others = [name.removesuffix(end) for name in kinds if name.endswith(end)]
            hint = f"; it has them of {', '.join(others)}: layout='{NanoAod.name}:{others[0]}'" if others else ""
            raise RinoError(
                f"{source} lacks the branches {', '.join(absent)}, which join {jets} with candidates; NanoAOD has them "
                f"where PFNano's tables were asked for{hint}"
            )
        self._tables = _tables(kinds, jets, link, candidates)
        of_jets = ("jet", "event")
        self.columns = {JET: "jet"} | {
            name: "jet" if table in of_jets else "constituent" for name, table in self._tables.items()
        }
        with reading(source, "ROOT"):
            self._first = offsets_of(self._jets_of_events(jets))
            #: Where the pieces of all branches that are needed begin at once.
            self._pieces = self._table.starts(self._needed)
        self.entries = int(self._first[-1])
        begins = np.unique(self._first[self._pieces])
        self.starts = begins[begins < max(self.entries, 1)]

    def _jets_of_events(self, jets: str) -> NDArray[np.int64]:
        """(events,) number of jets."""
        counter, branch = f"n{jets}", f"{jets}_pt"
        if counter in self._table.numbers:
            return np.asarray(self._whole(counter), dtype=np.int64)
        need(self._source, [branch], self._table.lists, "branches")
        return _counts(self._whole(branch))

    def _whole(self, name: str) -> Any:
        return self._table.arrays([name], 0, self._table.entries)[name]

    @property
    def first_jets(self) -> NDArray[np.int64]:
        return self._first

    def label_meaning(self) -> str | None:
        return None

    def close(self) -> None:
        self._file.close()

    def read(self, first: int, last: int, columns: Sequence[str] = ()) -> Chunk:
        need(self._source, columns, self.columns, "columns")
        end = int(np.searchsorted(self._first, last, side="left"))
        begin = min(int(np.searchsorted(self._first, first, side="right")) - 1, end)
        chunks = [
            self._read(max(first, int(self._first[a])), min(last, int(self._first[b])), a, b, columns)
            for a, b in self._parts(begin, end)
        ]
        return Chunk.join(chunks)

    def _parts(self, begin: int, end: int) -> list[tuple[int, int]]:
        """Events `begin` to `end` - 1 in parts that end where pieces of the file do, of up to `_EVENTS` if they can."""
        cuts = [begin]
        inside = self._pieces[(self._pieces > begin) & (self._pieces < end)].tolist()
        for cut, following in itertools.pairwise([*inside, end]):
            if following - cuts[-1] > _EVENTS:
                cuts.append(cut)
        return list(itertools.pairwise([*cuts, end]))

    def _read(self, first: int, last: int, begin: int, end: int, columns: Sequence[str]) -> Chunk:
        """Jets `first` to `last` - 1, those of the events `begin` to `end` - 1."""
        wanted = [name for name in columns if name != JET]
        names = list(dict.fromkeys([*self._needed, *wanted]))
        with reading(self._source, "ROOT"):
            arrays = self._table.arrays(names, begin, end)
            sizes = {"jet": np.diff(self._first[begin : end + 1])}
            sizes |= {self._tables[name]: _counts(arrays[name]) for name in (self._momenta[0], self._jet)}
            flat = {name: self._flat(name, array, sizes) for name, array in arrays.items()}
        links, jet, candidate, broken = self._joined(first, last, begin, flat, sizes)
        numbers = np.arange(first, last)
        event = np.searchsorted(self._first, numbers, side="right") - 1
        rows = {"link": links, "candidate": candidate, "jet": numbers - self._first[begin], "event": event - begin}
        found = {name: flat[name][rows[self._tables[name]]] for name in names}
        extras = {name: found[name] for name in wanted if self.columns[name] == "constituent"}
        values = {name: found[name] for name in wanted if self.columns[name] == "jet"}
        if JET in columns:
            values[JET] = numbers - self._first[event]
        counts = np.bincount(jet - first, minlength=last - first)
        pt, eta, phi, mass = (found[name].astype(np.float64) for name in self._momenta)
        broken |= not_negative(self._source, first, mass, counts, "the mass", -MASS_ROUNDING)
        broken |= not_negative(self._source, first, pt, counts)
        with np.errstate(all="ignore"):  # what is not finite is found, and named, when the jets are made
            px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
            momenta = (px, py, pz, energy_of(px, py, pz, mass))
        origins = Origins((str(self._source),), np.zeros(last - first, np.int32), event)
        chunk = Chunk(momenta, counts, None, extras, values, origins, broken)
        return _weighted(chunk, found[self._weight[0]].astype(np.float64)) if self._weight else chunk

    def _flat(self, name: str, array: Any, sizes: Mapping[str, NDArray[np.int64]]) -> NDArray[Any]:
        """All values of a branch, which has as many in each event as the others of its table."""
        import awkward as ak

        table = self._tables[name]
        if table == "event":
            return ak.to_numpy(array)
        if not np.array_equal(_counts(array), sizes[table]):
            raise RinoError(f"{self._source}: {name} is not as long as the other branches of its table: write it again")
        return ak.to_numpy(ak.flatten(array))

    def _joined(
        self,
        first: int,
        last: int,
        begin: int,
        flat: Mapping[str, NDArray[Any]],
        sizes: Mapping[str, NDArray[np.int64]],
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], Broken]:
        """The constituents of the jets `first` to `last` - 1, jet after jet: rows of the joining table, numbers of the
        jets, rows of the candidates. Jets that numbers out of range may belong to are broken, and have none.
        """
        broken: Broken = {}
        jet, candidate = (flat[name].astype(np.int64) for name in (self._jet, self._candidate))
        event = np.repeat(np.arange(len(sizes["link"])), sizes["link"])
        before = self._first[begin + event]
        size = sizes["jet"][event]
        inside = (jet >= 0) & (jet < size)
        wrong = np.flatnonzero(~inside & (size > 0))
        for i in wrong[np.unique(event[wrong], return_index=True)[1]].tolist():
            # Which jet was meant is not known: any of the event may lack constituents.
            for one in range(max(first, before[i]), min(last, before[i] + size[i])):
                why = self._outside(self._jet, jet[i], begin + event[i], f"{size[i]} jets", one)
                broken[one - first] = why
        number = before + jet
        links = np.flatnonzero(inside & (number >= first) & (number < last))
        size = sizes["candidate"][event]
        wrong = links[(candidate[links] < 0) | (candidate[links] >= size[links])]
        for i in wrong[np.unique(number[wrong], return_index=True)[1]].tolist():
            why = self._outside(self._candidate, candidate[i], begin + event[i], f"{size[i]} candidates", number[i])
            broken.setdefault(int(number[i]) - first, why)
        sound = np.ones(last - first, dtype=bool)
        sound[list(broken)] = False
        links = links[sound[number[links] - first]]
        links = links[np.argsort(number[links], kind="stable")]
        return links, number[links], (offsets_of(sizes["candidate"])[event] + candidate)[links], broken

    def _outside(self, name: str, index: int, event: int, what: str, jet: int) -> str:
        return (
            f"{self._source}: {name} is {index} in event {event} (jet {jet} of the file), which has {what}; numbers "
            "run from 0 to below that"
        )


def _tables(kinds: Mapping[str, str], jets: str, link: str, candidates: str) -> dict[str, str]:
    """What a branch has values for: each "link" of a jet with a candidate, each "candidate", "jet", or "event"."""
    lists = {f"{link}_": "link", f"{candidates}_": "candidate", f"{jets}_": "jet"}
    tables = {}
    for name, kind in kinds.items():
        table = next((table for start, table in lists.items() if name.startswith(start)), None)
        if kind == "list" and table is not None:
            tables[name] = table
        elif kind == "number" and not name.startswith(_TRIGGERS) and not (name[0] == "n" and name[1:2].isupper()):
            tables[name] = "event"
    return tables


def _weighted(chunk: Chunk, weights: NDArray[np.float64]) -> Chunk:
    """Momenta times weights (t,); what has none is no constituent."""
    px, py, pz, e = (component * weights for component in chunk.momenta)
    return replace(chunk, momenta=(px, py, pz, e)).select(np.ones(len(chunk.counts), bool), weights != 0)


def _counts(array: Any) -> NDArray[np.int64]:
    """(events,) lengths of lists."""
    import awkward as ak

    return np.asarray(ak.num(array), dtype=np.int64)
