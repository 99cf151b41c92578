"""What the Python benchmarks share: arguments, the table, the JSON, and the failure of a run whose sides disagree."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

import pyrino as rino
from pyrino.bench import Timing, describe_machine, multiplicities
from pyrino.files import whole_file
from pyrino.tables import aligned

#: Where results go unless told otherwise: the build folder of this checkout.
RESULTS = Path(__file__).resolve().parents[1] / "build" / "bench"


def parser(description: str | None) -> argparse.ArgumentParser:
    """The arguments of every benchmark."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    made.add_argument("--quick", action="store_true", help="fewer jets and repetitions, as `make bench` has them")
    made.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON")
    made.add_argument("--repetitions", type=int, default=9, help="of every measurement; medians are reported")
    return made


class Report:
    """The result of one benchmark: rows of times, figures with their aims, and the checks that the outputs are equal.

    Parameters
    ----------
    name
        Of the benchmark and of its JSON.
    jets
        What it ran on.
    device
        Where.
    """

    def __init__(self, name: str, jets: rino.Jets | None = None, device: torch.device | str = "cpu") -> None:
        self.name = name
        self.document: dict[str, Any] = {"benchmark": name, "machine": describe_machine(device)}
        if jets is not None:
            self.document["multiplicities"] = multiplicities(jets)
        self.document |= {"rows": [], "figures": [], "checks": []}

    def row(self, name: str, timing: Timing, jets: int | None = None, **more: float) -> None:
        """One side: its median time; per jet, where it is the time of so many."""
        row = {"name": name, "seconds": timing.seconds, "repetitions": timing.repetitions, "spread": timing.spread}
        if jets is not None:
            row |= {"jets_per_second": jets / timing.seconds, "us_per_jet": 1e6 * timing.seconds / jets}
        self.document["rows"].append(row | more)

    def figure(self, name: str, value: float, aim: float | None = None, unit: str = "x") -> None:
        """What the benchmark is for; the aim is the least it should be, the most for a time (unit us)."""
        self.document["figures"].append({"name": name, "value": value, "unit": unit, "aim": aim})

    def check(self, what: str, difference: float, tolerance: float) -> None:
        """Both sides must agree: ends the program with a message if they do not."""
        self.document["checks"].append({"what": what, "difference": float(difference), "tolerance": tolerance})
        if not difference <= tolerance:
            sys.exit(f"{self.name}: {what} differ by {difference:g}, more than {tolerance:g}: the times mean nothing")

    def finish(self, folder: Path) -> None:
        """Print the table and write the JSON."""
        print(as_text(self.document))
        with whole_file(folder / f"{self.name}.json") as partial:
            partial.write_text(json.dumps(self.document, indent=1) + "\n", encoding="utf-8")


def as_text(document: dict[str, Any]) -> str:
    """A benchmark's result for the eye."""
    machine = document["machine"]
    lines = [f"== {document['benchmark']}: {machine['processor']}, {machine['cores']} cores, torch {machine['torch']}"]
    if "multiplicities" in document:
        jets = document["multiplicities"]
        lines.append(
            f"{jets['jets']} toy jets, {jets['mean']:.1f} +- {jets['std']:.1f} constituents; "
            f"{', '.join(jets['quantiles'])}: {' '.join(map(str, jets['quantiles'].values()))}"
        )
    columns = {
        "median s": ("seconds", ".4g"),
        "spread": ("spread", ".0%"),
        "n": ("repetitions", "d"),
        "jets/s": ("jets_per_second", ",.0f"),
        "us/jet": ("us_per_jet", ",.2f"),
        "GFLOP/s": ("GFLOP_per_s", ",.1f"),
        "of it Python, us": ("python_us", ",.0f"),
        "waited %": ("waited_percent", ".2g"),
    }
    shown = {name: at for name, at in columns.items() if any(at[0] in row for row in document["rows"])}
    rows = [[r["name"], *(format(r[k], f) if k in r else "" for k, f in shown.values())] for r in document["rows"]]
    lines.append(aligned([["", *shown], *rows], numbers=range(1, len(shown) + 1)))
    lines += [f"{check['what']}: differ by {check['difference']:.2g}" for check in document["checks"]]
    lines += [f"{figure['name']}: {show(figure)}{_aim(figure)}" for figure in document["figures"]]
    return "\n".join(lines)


def show(figure: dict[str, Any]) -> str:
    """A figure's value with its unit."""
    if figure["unit"] == "%":
        return f"{100 * figure['value']:.3g}%"
    if figure["unit"] in ("us", "jets/s", "B"):
        return f"{figure['value']:,.0f} {figure['unit']}"
    return f"{figure['value']:.3g}{figure['unit']}"


def show_aim(figure: dict[str, Any]) -> str:
    """Its aim, "" where there is none."""
    if figure["aim"] is None:
        return ""
    return ("at most " if figure["unit"] == "us" else "at least ") + show(figure | {"value": figure["aim"]})


def _aim(figure: dict[str, Any]) -> str:
    return f" (aim: {show_aim(figure)})" if figure["aim"] is not None else ""


def largest_difference(one: np.ndarray, other: np.ndarray) -> float:
    """max |a - b| / (1 + |b|); infinite for arrays of other shapes."""
    if one.shape != other.shape:
        return float("inf")
    return float(np.max(np.abs(one - other) / (1 + np.abs(other)), initial=0.0))
