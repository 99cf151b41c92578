"""`pyrino info`."""

from __future__ import annotations

import argparse
import json
import math
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from pyrino.bars import progress_bar
from pyrino.cli.common import as_json, plural, show_progress
from pyrino.cli.parser import add_command, add_overwrite
from pyrino.cli.pictures import check_picture, has_blocks, histograms, terminal_width
from pyrino.cli.reading import Classes, add_reading, reading_of
from pyrino.data.selection import Selection
from pyrino.data.source import Source
from pyrino.data.summary import Faults, Moments, Summary, summarize
from pyrino.errors import RinoError
from pyrino.files import whole_file
from pyrino.tables import aligned

__all__ = ["add"]

#: Classes that are listed by name; JetClass-II has 188.
_SHOWN = 12

_TITLES = {
    "multiplicity": "constituents of a jet",
    "pt": "pT [GeV]",
    "eta": "pseudorapidity eta",
    "mass": "mass [GeV]",
}
_AXES = {
    "multiplicity": "number of constituents",
    "pt": r"jet $p_T$ [GeV]",
    "eta": r"jet $\eta$",
    "mass": r"jet mass $m$ [GeV]",
}
#: In the order in which they are looked at first.
_DRAWN = ("pt", "eta", "mass", "multiplicity")

_EXAMPLE = """
pyrino info data/qcd
pyrino info JetClass/val_5M/TTBar_000.root --max-jets 10000 --plot ttbar.pdf
pyrino info "AOJ/*.h5" --pt 300 1000 --json
"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "info",
        _run,
        usage="PATH [PATH ...] [options]",
        summary="what is in files: layout, jets, constituents, labels, ranges, what is broken, sketches",
        description="pT, eta and mass are those of the sum of a jet's constituents. Files of one layout and one kind\n"
        "of labels are taken together. Numbers, labels and sketches are those of the jets that are sound and\n"
        "selected: broken jets (momenta that are not finite, E below |p|) and empty ones are counted and left out.\n"
        "Of more than 100,000 jets a random sample gives median and sketches. A file that cannot be read does not\n"
        "stop the others; it ends the command with status 2, unless --on-error skip is given.",
        example=_EXAMPLE,
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="files, folders, patterns, URLs, @LIST.txt")
    parser.add_argument("--json", action="store_true", help="print JSON, for other programs")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw distributions: .png, .pdf ... (default: do not)"
    )
    add_overwrite(parser, "the picture if it exists")
    add_reading(parser)


def _run(args: argparse.Namespace) -> None:
    if args.plot is not None:
        check_picture(args.plot, overwrite=args.overwrite)
    arguments = reading_of(args)
    layout, on_error = arguments.pop("layout"), arguments.pop("on_error")
    selection = Selection.of(**(arguments | {"drop_empty": True}))
    with progress_bar(unit=" jets", unit_scale=True, leave=False, disable=not show_progress()) as bar:
        groups, broken = summarize(args.paths, selection, layout=layout, max_jets=args.max_jets, progress=bar.update)
    drawn = args.plot is not None and _plot(groups, args)
    if args.json:
        document = {"groups": [_document(group) for group in groups], "unreadable": broken}
        print(as_json(document))
    elif groups:
        print("\n\n".join(_text(group, selection) for group in groups))
    if drawn and not args.json:
        print(f"\nthe distributions are drawn in {args.plot}")
    if broken:
        reason = next(iter(broken.values()))
        first = "" if len(broken) == 1 else f"{plural(len(broken), 'file')} cannot be read, the first: "
        if on_error == "raise":
            raise RinoError(f"{first}{reason}")
        if not args.json:
            print(f"\nskipped: {plural(len(broken), 'file')}, the first: {reason}")


def _text(group: Summary, selection: Selection) -> str:
    width = terminal_width()
    rows = [
        ["layout", f"{group.layout.name} ({group.layout.title})"],
        ["container", group.layout.container or "its own"],
        ["files", _files(group.files)],
        *([["size", f"{_bytes(group.size)}{_per_jet(group)}"]] if group.size else []),
        ["jets", str(group.entries)],
        *([["read", f"{group.seen} of them"]] if group.seen < group.entries else []),
        ["broken", _faults(group.faults)],
        *([["taken", f"{group.taken} by the selection"]] if _selects(selection) else []),
        ["labels", group.meaning or "none"],
        *_classes(group),
        *(["generated", f"{count}: {origin}"] for origin, count in _origins(group.files).items()),
        *_columns(group, width - 13),
    ]
    parts = [aligned(rows)]
    if group.taken:
        ranges = [["", "mean", "std", "median", "least", "greatest"]]
        ranges += [[_TITLES[name], *_cells(group, name, moments)] for name, moments in group.numbers.items()]
        parts.append(aligned(ranges, numbers=range(1, 6)))
        finite = {_TITLES[name]: _finite(group, name) for name in _DRAWN}
        sketches = {title: values for title, values in finite.items() if len(values)}
        parts.append(histograms(sketches, width, blocks=has_blocks()))
    return "\n\n".join(parts)


def _files(files: list[Source]) -> str:
    return f"{len(files)}: {files[0]}{f' ... {files[-1].name}' if len(files) > 1 else ''}"


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def _per_jet(group: Summary) -> str:
    return f", {_bytes(group.size / group.entries)} a jet" if group.entries else ""


def _faults(faults: Faults) -> str:
    parts = [f"{plural(faults.empty, 'jet')} without constituents"] if faults.empty else []
    wrong = {name: count for name, count in faults.not_finite.items() if count}
    if wrong:
        parts.append(f"not finite {', '.join(f'{name}: {count}' for name, count in wrong.items())}")
    if faults.below_momentum:
        parts.append(f"E < |p|: {faults.below_momentum}")
    words = [f"{plural(faults.jets, 'jet')} ({'; '.join(parts)})"] if faults.jets else []
    if faults.unread:
        words.append(f"{plural(faults.unread, 'jet')} that cannot be read")
    return ", ".join(words) or "none"


def _selects(selection: Selection) -> bool:
    return selection != Selection(drop_empty=True, seed=selection.seed)


def _classes(group: Summary) -> list[list[str]]:
    names = Classes(group.meaning, group.names)
    common = group.classes.most_common(_SHOWN)
    rows = [[f"  {names.name(number)}", f"{count} ({count / group.taken:.1%})"] for number, count in common]
    more = len(group.classes) - len(common)
    return [*rows, ["  others", f"{more} classes"]] if more else rows


def _columns(group: Summary, width: int) -> list[list[str]]:
    """Names of further columns, wrapped; with the number of files where not all have one."""
    rows = []
    for kind, title in (("constituent", "constituent"), ("jet", "jet")):
        names = [
            name if number == len(group.files) else f"{name} (in {plural(number, 'file')})"
            for name, (found, number) in group.columns.items()
            if found == kind
        ]
        lines = textwrap.wrap(", ".join(names), max(width - 4, 20), break_long_words=False)
        rows += [[f"{title} columns" if i == 0 else "", line] for i, line in enumerate(lines)]
    return rows


def _cells(group: Summary, name: str, moments: Moments) -> list[str]:
    if not moments.count:
        return ["-"] * 5
    digits = 0 if name == "multiplicity" else 2
    median = _median(group, name)
    ends = (f"{end:.{digits}f}" for end in (moments.least, moments.greatest))
    return [f"{round(moments.mean, 2) + 0.0:.2f}", f"{moments.std:.2f}", f"{median:.{digits}f}", *ends]


def _finite(group: Summary, name: str) -> Any:
    values = group.values[name]
    return values[np.isfinite(values)]


def _median(group: Summary, name: str) -> float:
    values = _finite(group, name)
    return float(np.median(values)) if len(values) else math.nan


def _document(group: Summary) -> dict[str, Any]:
    names = Classes(group.meaning, group.names)
    faults = group.faults
    numbers = {
        name: {
            "mean": moments.mean,
            "std": moments.std,
            "median": _median(group, name),
            "least": moments.least,
            "greatest": moments.greatest,
        }
        for name, moments in group.numbers.items()
        if moments.count
    }
    return {
        "layout": group.layout.name,
        "title": group.layout.title,
        "container": group.layout.container,
        "files": [str(file) for file in group.files],
        "bytes": group.size,
        "jets": group.entries,
        "read": group.seen,
        "taken": group.taken,
        "broken": {
            "jets": faults.jets,
            "empty": faults.empty,
            "not_finite": faults.not_finite,
            "below_momentum": faults.below_momentum,
            "unread": faults.unread,
        },
        "labels": group.meaning or None,
        "classes": {names.name(number): count for number, count in sorted(group.classes.items())},
        "columns": {name: kind for name, (kind, _) in group.columns.items()},
        "generated": dict(_origins(group.files)),
        "numbers": numbers,
    }


def _plot(groups: list[Summary], args: argparse.Namespace) -> bool:
    """Whether there was something to draw."""
    from pyrino.plots import distributions

    samples = {}
    for group in groups:
        if group.taken:
            labels = f", {group.meaning or 'no labels'}" if len(groups) > 1 else ""
            samples[f"{group.layout.name}{labels}"] = {name: _finite(group, name) for name in _DRAWN}
    if samples:
        kind = check_picture(args.plot, overwrite=args.overwrite)
        with whole_file(args.plot, overwrite=args.overwrite) as partial:
            distributions(samples, labels=_AXES, log=["pt"]).savefig(partial, format=kind, dpi=150)
    return bool(samples)


def _origins(files: list[Source]) -> Counter[str]:
    """What `pyrino generate` wrote into the files' metadata, in words -> number of jets."""
    found: Counter[str] = Counter()
    for file in files:
        if not file.name.lower().endswith(".parquet"):
            continue
        import pyarrow.parquet as pq

        from pyrino.generate.files import METADATA_KEY

        with file.open() as opened:
            metadata = pq.read_metadata(opened)
        text = (metadata.metadata or {}).get(METADATA_KEY)
        if text is not None:
            document = json.loads(text)
            made = document["configuration"]
            origin = f"{made['domain']['name']} {made['process']}, seed {document['seed']}, Pythia {made['pythia8mc']}"
            found[origin] += metadata.num_rows
    return found
