"""The function behind `pyrino.generate` and `pyrino generate`."""

from __future__ import annotations

import dataclasses
import difflib
import importlib.metadata
import importlib.util
import operator
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from ..errors import RinoError
from .domains import DOMAINS, PROCESSES, Domain

__all__ = ["generate"]


def generate(
    domain: str,
    process: str,
    jets: int,
    seed: int,
    out: str | os.PathLike[str],
    *,
    workers: int | None = None,
    progress: bool = True,
    mpi: bool | None = None,
) -> list[Path]:
    """Generate labelled jets with Pythia 8 and FastJet and write them as parquet files.

    The work is cut into units of `Domain.unit_jets` (1000) jets. Every unit has its own random seeds,
    derived from (domain, process, seed, number of the unit), and becomes one file, so the jets do not
    depend on `workers`, and the first N jets of a larger request are those of a request for N. A file that
    exists with the same configuration is reused: a second call generates nothing, and a call after an
    interruption goes on. Only the last file may hold fewer jets than a unit; it is generated anew when a
    later call needs more of it. Where the folder holds more jets than asked for, the last file returned
    may reach beyond `jets`.

    Parameters
    ----------
    domain : str
        A key of `DOMAINS`: "collisions", "simulation" or "simulation-wide".
    process : str
        "qcd" (jets of hard QCD scattering) or "top" (fully merged hadronic top quarks).
    jets : int
        Number of jets, at least 1.
    seed : int
        0 or larger. The same seed gives the same jets with the same versions of pythia8mc, fastjet and numpy.
    out : path
        Folder, made if need be. Files are named like ``collisions_qcd_s3_000.parquet``.
    workers : int, optional
        Number of processes; as many as there are cores to run on by default.
    progress : bool
        Whether to show a progress bar on standard error.
    mpi : bool, optional
        True: Pythia's multiparton interactions in place of the domain's overlay (about four times slower).
        False: none, the overlay stays. None: as the domain says, which is False for all in `DOMAINS`.

    Returns
    -------
    list of Path
        The files in the order of their units. Columns are JetClass's: ``part_*`` per constituent (float32
        momenta in GeV, by falling pT; ``part_deta`` is multiplied by the sign of the jet's eta), ``jet_*`` of
        the jet as clustered, ten one-hot ``label_*``. The metadata's key ``pyrino.generate`` holds the
        configuration, the seed and the versions as JSON.

    Raises
    ------
    RinoError
        A bad argument, a missing package, a file of another configuration under one of the names, a folder
        that cannot be written, a full disk. Finished files stay; no partial file has a final name.
    KeyboardInterrupt
        Passed on after the workers are stopped; finished files stay.
    """
    settings = _domain(domain, mpi)
    _known("process", process, PROCESSES)
    jets = _integer("jets", jets, 1)
    seed = _integer("seed", seed, 0)
    if workers is not None:
        workers = _integer("workers", workers, 1)
    _require_packages()

    from .files import configuration, stored_jets, unit_path, write_unit
    from .unit import Unit
    from .workers import Workers, default_workers

    folder = _folder(Path(out))
    units = [
        Unit(settings, process, seed, index, min(settings.unit_jets, jets - start))
        for index, start in enumerate(range(0, jets, settings.unit_jets))
    ]
    version = importlib.metadata.version("pythia8mc")
    paths = [unit_path(folder, unit) for unit in units]
    expected = [configuration(unit, version) for unit in units]
    # All files are looked at before any work is done: a wrong one is reported now, not in an hour.
    missing = [
        unit for unit, path, wanted in zip(units, paths, expected, strict=True) if stored_jets(path, wanted) < unit.jets
    ]
    if not missing:
        return paths

    from tqdm import tqdm

    new = sum(unit.jets for unit in missing)
    bar = tqdm(total=jets, initial=jets - new, unit="jet", desc=f"{domain} {process}", disable=not progress)
    with bar, Workers(min(workers or default_workers(), len(missing))) as pool:
        for unit, result in pool.run(missing, bar.update):
            write_unit(paths[unit.index], unit, result, expected[unit.index])
    return paths


def _known(what: str, value: object, names: Iterable[str]) -> None:
    names = list(names)
    if value not in names:
        close = difflib.get_close_matches(str(value), names, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise RinoError(f"unknown {what} {value!r}: {hint}known are {', '.join(names)}")


def _domain(name: str, mpi: bool | None) -> Domain:
    _known("domain", name, DOMAINS)
    if mpi is None:
        return DOMAINS[name]
    overlay = {"overlay_mean": 0.0} if mpi else {}
    return dataclasses.replace(DOMAINS[name], multiparton_interactions=bool(mpi), **overlay)


def _integer(what: str, value: int, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise RinoError(f"{what} = {value!r} is no integer; give a whole number >= {least}") from None
    if number < least:
        raise RinoError(f"{what} = {number}: give a whole number >= {least}")
    return number


def _require_packages() -> None:
    for package in ("pythia8mc", "fastjet", "awkward", "pyarrow", "tqdm"):
        if importlib.util.find_spec(package) is None:
            raise RinoError(f"generating jets needs the package {package}: pip install pyrino[generate]")


def _folder(out: Path) -> Path:
    """Make the folder and see that files can be written there."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise RinoError(
            f"cannot write to the output folder {out}: {error.strerror or error}; choose another"
        ) from error
    return out
