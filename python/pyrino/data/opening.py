"""`open_dataset`: a stream of jets from what users name."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from inspect import signature
from typing import TYPE_CHECKING, Any

from pyrino.data.dataset import Dataset
from pyrino.data.mixture import Mixture
from pyrino.data.read import find_files, read_jets
from pyrino.data.selection import Choice, Selection
from pyrino.data.source import PathLike
from pyrino.errors import RinoError
from pyrino.jets import Jets

__all__ = ["IN_MEMORY", "open_dataset", "open_jets"]

if TYPE_CHECKING:
    from typing_extensions import Unpack

#: Jets that are read into memory where files may be read or streamed: 1.4 GB at 44 constituents.
IN_MEMORY = 1_000_000

_LOG = logging.getLogger("pyrino")


def open_dataset(
    path: PathLike | Iterable[PathLike] | Mapping[PathLike, float],
    *,
    window: int = 131072,
    shuffle_seed: int = 0,
    threads: int = 2,
    rank: int = 0,
    world_size: int = 1,
    layout: str | None = None,
    on_error: str = "raise",
    **selection: Unpack[Choice],
) -> Dataset | Mixture:
    """Open files as a shuffled stream of jets that holds a few windows of them in memory, however many there are.

    Every file is opened once, to count its jets; nothing else is read before jets are asked for. The stream's
    ``repr`` says which layouts were found.

    Parameters
    ----------
    path
        As `read_jets` takes it; or a mapping from such paths to weights, ``{"qcd/*.root": 0.9, "top/*.root": 0.1}``,
        for a `Mixture`: each jet comes from one of them, drawn with the weights.
    window : int
        Jets that are shuffled among each other; they take about 0.7 kB each. There are two windows at a time, up to
        seven where the containers' own pieces (row groups, baskets) are large: several files give to each window.
    shuffle_seed : int
        Of the order, another one for every pass.
    threads : int
        Threads that read ahead; they never change the order.
    rank, world_size : int
        This process and the number of processes: every jet goes to one of them in each pass, to each equally many.
    layout, on_error, **selection
        As in `read_jets`: ``columns, labelled, pt, eta, mass, label, constituent_pt, hardest, fraction, seed,
        drop_empty, scale``; labels are checked for who calls `take` or `batches`, not for trainers. With
        ``on_error="skip"`` a file that breaks, vanishes or does not fit the others is left out;
        `Dataset.report` counts what was, and a `RinoWarning` says it at the end of every pass.

    Returns
    -------
    Dataset or Mixture

    Raises
    ------
    RinoError
        For a bad argument, and as `read_jets` when a file is opened.

    Examples
    --------
    >>> dataset = rino.open_dataset("JetClass/train_100M/*.root", label=["QCD"], pt=(500, 1000))
    >>> run = rino.pretrain("base", dataset, out="runs/base")
    """
    chosen = Selection.of(**selection)

    def open_one(one: PathLike | Iterable[PathLike]) -> Dataset:
        dataset = Dataset(
            find_files(one),
            chosen,
            layout=layout,
            on_error=on_error,
            seed=shuffle_seed,
            window=window,
            threads=threads,
            rank=rank,
            world_size=world_size,
        )
        _LOG.info("streaming %r", dataset)
        return dataset

    if not isinstance(path, Mapping):
        return open_one(path)
    if len(path) < 2:
        raise RinoError(f"{len(path)} paths with weights cannot be mixed: give two or more, or a path alone")
    return Mixture([open_one(one) for one in path], list(path.values()), seed=shuffle_seed)


def open_jets(
    path: PathLike | Iterable[PathLike],
    *,
    stream: bool | None = None,
    labelled: bool | None = False,
    **arguments: Any,
) -> Jets | Dataset:
    """Jets of files, without labels unless they are asked for, in memory where they are few, else as a stream.

    In memory are all jets on every rank, of which `Trainer` takes the rank's share batch by batch; a stream is the
    rank's share of the jets.

    Parameters
    ----------
    stream : bool, optional
        Whether to stream; None: above `IN_MEMORY` jets in the files.

    Other parameters and errors are those of `open_dataset`.
    """
    files = find_files(path)
    options = {name: arguments.pop(name) for name in signature(open_dataset).parameters if name in arguments}
    reading = {name: options[name] for name in signature(read_jets).parameters if name in options}
    selection = Selection.of(labelled=labelled, **arguments)
    dataset = Dataset(files, selection, seed=options.pop("shuffle_seed", 0), **options)
    if stream or (stream is None and dataset._total() > IN_MEMORY):
        _LOG.info("streaming %r", dataset)
        return dataset
    dataset.close()
    return read_jets([str(f) for f in files], labelled=labelled, **reading, **arguments)
