"""ROOT: TTrees and RNTuples as tables of columns, each read by uproot in its own way."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Table", "table_of", "tables_of"]

_NUMBER = r"(?:bool|float|double|std::u?int(?:8|16|32|64)_t)"
#: Types of RNTuple's fields: lists of any length, numbers that may be missing, and lists of one length.
_RAGGED = re.compile(rf"(?:std::vector|ROOT::(?:VecOps::)?RVec)<{_NUMBER}>")
_OPTIONAL = re.compile(rf"std::optional<{_NUMBER}>")
_FIXED = re.compile(rf"std::array<{_NUMBER},\s*(\d+)>")


class Table(ABC):
    """A tree with an entry per jet or event.

    Attributes
    ----------
    entries : int
        Their number.
    lists : dict
        Columns with a list of numbers per entry -> the lists' length, None where each has its own.
    numbers : list of str
        Columns with one number per entry.
    optional : list of str
        Columns with one number per entry or none, which is masked.
    others : dict
        All other columns -> their type in C++.
    """

    entries: int

    def __init__(self, tree: Any) -> None:
        self._tree = tree
        self.entries = int(tree.num_entries)
        self.lists: dict[str, int | None] = {}
        self.numbers: list[str] = []
        self.optional: list[str] = []
        self.others: dict[str, str] = {}

    @abstractmethod
    def starts(self, names: Sequence[str]) -> NDArray[np.int64]:
        """Entries at which these columns can be read without reading what is before, the first of them 0."""

    @abstractmethod
    def arrays(self, names: Sequence[str], first: int, last: int) -> dict[str, Any]:
        """Awkward arrays of the entries `first` to `last` - 1."""


class _Tree(Table):
    """A TTree."""

    def __init__(self, tree: Any) -> None:
        import uproot
        from uproot.interpretation.numerical import TruncatedNumerical

        super().__init__(tree)
        for branch in tree.branches:
            found = branch.interpretation
            jagged = isinstance(found, uproot.AsJagged)
            content = found.content if jagged else found
            shape = None
            if isinstance(content, uproot.AsDtype) and content.to_dtype.base.kind in "fiub":
                shape = content.inner_shape
            elif isinstance(content, TruncatedNumerical):  # Double32_t, Float16_t
                shape = content.to_dims
            if shape is not None and jagged:
                shape = (None, *shape)
            if shape == ():
                self.numbers.append(branch.name)
            elif shape is not None and len(shape) == 1:
                self.lists[branch.name] = shape[0]
            else:
                self.others[branch.name] = branch.typename

    def starts(self, names: Sequence[str]) -> NDArray[np.int64]:
        # Where the baskets of all columns begin at once: elsewhere some would be decompressed twice.
        found = self._tree.common_entry_offsets(filter_name=list(names)) if self.entries else [0]
        return np.unique(np.asarray(found[:-1] or [0], dtype=np.int64))

    def arrays(self, names: Sequence[str], first: int, last: int) -> dict[str, Any]:
        return self._tree.arrays(names, entry_start=first, entry_stop=last, library="ak", how=dict)


class _Tuple(Table):
    """An RNTuple."""

    def __init__(self, tree: Any) -> None:
        super().__init__(tree)
        for field in tree.fields:
            kind = field.typename
            fixed = _FIXED.fullmatch(kind)
            if fixed or _RAGGED.fullmatch(kind):
                self.lists[field.name] = int(fixed[1]) if fixed else None
            elif re.fullmatch(_NUMBER, kind):
                self.numbers.append(field.name)
            elif _OPTIONAL.fullmatch(kind):
                self.optional.append(field.name)
            else:
                self.others[field.name] = kind or "record"

    def starts(self, names: Sequence[str]) -> NDArray[np.int64]:
        clusters = [cluster.num_first_entry for cluster in self._tree.cluster_summaries if cluster.num_entries]
        return np.unique(np.asarray(clusters or [0], dtype=np.int64))

    def arrays(self, names: Sequence[str], first: int, last: int) -> dict[str, Any]:
        return self._tree.arrays(filter_name=list(names), entry_start=first, entry_stop=last, library="ak", how=dict)


_KINDS: dict[str, type[Table]] = {"TTree": _Tree, "TNtuple": _Tree, "TNtupleD": _Tree, "ROOT::RNTuple": _Tuple}


def tables_of(file: Any) -> list[str]:
    """Names of what can be read as tables in a file that uproot opened: a histogram may be called tree, too."""
    return [name for name, kind in file.classnames(cycle=False).items() if kind in _KINDS]


def table_of(file: Any, name: str) -> Table:
    """One of `tables_of`."""
    tree = file[name]
    return _KINDS[tree.classname](tree)
