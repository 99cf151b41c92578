"""ROOT files that uproot writes: new ones, and copies to which something is added."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyrino.data.source import Source
from pyrino.errors import RinoError

__all__ = ["checksums", "root_file", "uproot_writes"]


@contextmanager
def root_file(place: Path, original: Source | None, names: Collection[str]) -> Iterator[Any]:
    """A new ROOT file, or one that begins as a copy of another, for uproot to write to.

    uproot is given open files because it splits names at colons.

    Parameters
    ----------
    place
        The file.
    original
        What it begins as a copy of; None: it begins empty.
    names
        Of the objects that are to be written: what the copy has may not be called so.

    Raises
    ------
    RinoError
        If the copy cannot be added to, or did not keep what it had.
    """
    import uproot

    if original is None:
        with open(place, "w+b") as file, uproot.recreate(file) as root:
            yield root
        return
    with original.open() as source, open(place, "wb") as copy:
        shutil.copyfileobj(source, copy, 16 << 20)
    with uproot_writes(original):
        before = checksums(place)
    taken = sorted(set(names) & {name.split(";")[0] for name, _, _ in before})
    if taken:
        raise RinoError(f"{original} has {taken[0]!r} already: give another name of the tree")
    with open(place, "r+b") as file:
        with uproot_writes(original):
            root = uproot.update(file)
        with root:
            yield root
    with uproot_writes(original):
        after = checksums(place)
    if before != {piece: value for piece, value in after.items() if piece[0].split(";")[0] not in names}:
        raise RinoError(
            f"the copy of {original} did not keep all of its content when uproot {uproot.__version__} added a tree: "
            "leave append out, for a friend in a file of its own"
        )


@contextmanager
def uproot_writes(source: Source) -> Iterator[None]:
    """Whatever uproot raises over what it cannot write, or add to, as `RinoError`."""
    try:
        yield
    except (RinoError, OSError, MemoryError):
        raise
    except Exception as error:  # uproot's are of every kind, struct.error and AssertionError among them
        lines = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        raise RinoError(
            f"uproot cannot write a friend tree of {source} ({reason}): give a ROOT file of its own, without append, "
            "or a name that ends in .parquet"
        ) from error


def checksums(place: Path) -> dict[tuple[str, int, int], int]:
    """CRC-32 of all objects of a ROOT file and all baskets of its trees: {(name, where, bytes): checksum}."""
    import uproot

    places: list[tuple[str, int, int]] = []
    with open(place, "rb") as file, uproot.open(file) as root:
        for name in root.keys(recursive=True):
            key = root.key(name)
            # The record of a folder is written again whenever something is put into it.
            if key.fClassName.startswith("TDirectory"):
                continue
            places.append((name, key.fSeekKey, key.fNbytes))
            if key.fClassName in ("TTree", "TNtuple", "TNtupleD"):
                for branch in root[name].itervalues(recursive=True):
                    written = branch.member("fWriteBasket")
                    seeks, sizes = (branch.member(part)[:written] for part in ("fBasketSeek", "fBasketBytes"))
                    places += [(name, int(a), int(n)) for a, n in zip(seeks, sizes, strict=True) if n]
    with open(place, "rb") as file:
        found = {}
        for name, seek, size in sorted(places, key=lambda piece: piece[1]):
            file.seek(seek)
            found[name, seek, size] = zlib.crc32(file.read(size))
    return found
