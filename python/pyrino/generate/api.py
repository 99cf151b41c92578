"""The function behind `pyrino.generate` and `pyrino generate`."""

from __future__ import annotations

import dataclasses
import difflib
import importlib.metadata
import importlib.util
import operator
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._arguments import checked
from ..bars import progress_bar
from ..errors import RinoError
from .domains import DOMAINS, PROCESSES, Domain
from .layouts import LAYOUTS, PLAIN, FileLayout

if TYPE_CHECKING:
    from .unit import Unit

__all__ = ["generate"]


@checked
def generate(
    domain: str | None,
    process: str,
    jets: int,
    seed: int,
    out: str | os.PathLike[str],
    *,
    layout: str = PLAIN,
    workers: int | None = None,
    progress: bool = True,
    mpi: bool | None = None,
) -> list[Path]:
    """Generate labelled jets with Pythia 8 and FastJet and write them as parquet files, or as a public data set does.

    The work is cut into units of `Domain.unit_jets` (1000) jets. Every unit has its own random seeds,
    derived from (domain, process, seed, number of the unit), and becomes one file, so the jets do not
    depend on `workers`, and the first N jets of a larger request are those of a request for N. A file that
    exists with the same configuration is reused: a second call generates nothing, and a call after an
    interruption goes on. Only the last file may hold fewer jets than a unit; it is generated anew when a
    later call needs more of it. Where the folder holds more jets than asked for, the last file returned
    may reach beyond `jets`.

    With another `layout` than the default the same jets are written as the authors of a public data set document
    theirs, so that work on it can be rehearsed: names, types, padding and units, not the physics of the data set. The
    unit files stay in the folder ``.pyrino-units`` beside the files; without it a later call generates anew.

    Parameters
    ----------
    domain : str or None
        A key of `DOMAINS`: "collisions", "simulation" or "simulation-wide". None: that which is most like the data set
        of `layout`, "collisions" for the default.
    process : str
        "qcd": jets of hard QCD scattering. "quark", "gluon": those within `Domain.matching_radius` (0.8) of an outgoing
        light quark (d, u, s) or gluon of it. "top", "w", "z": with the particle and all quarks that it decays to within
        that radius.
    jets : int
        Number of jets, at least 1.
    seed : int
        0 or larger. The same seed gives the same jets with the same versions of pythia8mc, fastjet and numpy.
    out : path
        Folder, made if need be. Files are named like ``collisions_qcd_s3_000.parquet``, those of other layouts as the
        data set's. With another layout also the name of one file for all jets, where it ends in the layout's suffix.
    layout : str
        "jetclass-parquet" or a key of `LAYOUTS`: "jetclass", "jetclass2", "jetnet", "landscape", "energyflow", "aspen"
        or "rs3l". What a layout cannot hold is refused: "top" in jetclass2, energyflow and rs3l, "w" and "z" there and
        in landscape. In "rs3l" every jet is showered five times.
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
        the jet as clustered, ten one-hot ``label_*`` (``label_QCD`` for quarks and gluons, too). The metadata's key
        ``pyrino.generate`` holds the configuration, the seed and the versions as JSON. With another layout: its files.

    Raises
    ------
    RinoError
        A bad argument, a missing package, a file of another configuration under one of the names, a folder
        that cannot be written, a full disk. Finished files stay; no partial file has a final name.
    KeyboardInterrupt
        Passed on after the workers are stopped; finished files stay.
    """
    _known("layout", layout, [PLAIN, *LAYOUTS])
    written = LAYOUTS.get(layout)
    if domain is None:
        domain = written.domain if written else "collisions"
    settings = _domain(domain, mpi)
    _known("process", process, PROCESSES)
    jets = _integer("jets", jets, 1)
    seed = _integer("seed", seed, 0)
    if workers is not None:
        workers = _integer("workers", workers, 1)
    _require_packages(written)

    from .files import configuration
    from .unit import Unit

    kind = written.kind if written else "plain"
    units = [
        Unit(settings, process, seed, index, min(settings.unit_jets, jets - start), kind)
        for index, start in enumerate(range(0, jets, settings.unit_jets))
    ]
    expected = [configuration(unit, importlib.metadata.version("pythia8mc")) for unit in units]
    if written is None:
        return _units(units, expected, Path(out), workers, progress)

    from .writing import request_of, write_layout

    request = request_of(written, process, Path(out))
    _folder(request.folder)
    whole = {name: value for name, value in expected[0].items() if name != "unit"}
    return write_layout(
        request,
        units,
        whole,
        lambda: _units(units, expected, request.units_folder, workers, progress, written.showers),
    )


def _units(
    units: Sequence[Unit],
    expected: Sequence[dict[str, Any]],
    out: Path,
    workers: int | None,
    progress: bool,
    showers: int = 1,
) -> list[Path]:
    """The files of units, generated where they are absent."""
    from .files import stored_jets, unit_path, write_unit
    from .workers import Workers, default_workers

    folder = _folder(out)
    paths = [unit_path(folder, unit) for unit in units]
    # All files are looked at before any work is done: a wrong one is reported now, not in an hour.
    missing = [
        unit
        for unit, path, wanted in zip(units, paths, expected, strict=True)
        if stored_jets(path, wanted, showers) < unit.jets
    ]
    if not missing:
        return paths

    jets, new = (sum(unit.jets for unit in some) for some in (units, missing))
    title = f"{units[0].domain.name} {units[0].process}"
    bar = progress_bar(total=jets, initial=jets - new, unit="jet", desc=title, disable=not progress)
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
    overlay: dict[str, Any] = {"overlay_mean": 0.0} if mpi else {}
    return dataclasses.replace(DOMAINS[name], multiparton_interactions=bool(mpi), **overlay)


def _integer(what: str, value: int, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise RinoError(f"{what} = {value!r} is no integer: give a whole number >= {least}") from None
    if number < least:
        raise RinoError(f"{what} = {number}: give a whole number >= {least}")
    return number


def _require_packages(layout: FileLayout | None) -> None:
    for package in ("pythia8mc", "fastjet", "awkward", "pyarrow", "tqdm", *(layout.packages if layout else ())):
        if importlib.util.find_spec(package) is None:
            what = f"writing the layout {layout.name}" if layout and package in layout.packages else "generating jets"
            raise RinoError(f"{what} needs the package {package}: pip install pyrino[generate]")


def _folder(out: Path) -> Path:
    """Make the folder and see that files can be written there."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise RinoError(
            f"cannot write to the output folder {out}: {error.strerror or error}: choose another"
        ) from error
    return out
