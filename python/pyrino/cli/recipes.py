"""`pyrino recipes`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from pyrino.cli.parser import add_command, add_overwrite
from pyrino.errors import RinoError
from pyrino.files import whole_file
from pyrino.methods import about
from pyrino.recipe import CHANGED, Recipe
from pyrino.tables import aligned
from pyrino.training.pretrain import as_recipe

__all__ = ["add"]

_EXAMPLE = """
pyrino recipes
pyrino recipes show rino
pyrino recipes show rino-swapped --toml mine.toml
"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "recipes",
        _run,
        usage="[show RECIPE] [options]",
        summary="the presets; with show and a name, every number with unit, meaning and where it comes from",
        description='A TOML file chooses a preset by one line, preset = "rino-swapped"; its numbers below that line\n'
        "replace the preset's own.",
        example=_EXAMPLE,
    )
    parser.add_argument(
        "words", nargs="*", metavar="[show] RECIPE", help="preset or TOML file; without it, the presets are listed"
    )
    parser.add_argument(
        "--toml",
        metavar="FILE",
        help="write it as a TOML file to start from, with all meanings; - prints it (default: print a table)",
    )
    add_overwrite(parser, "FILE if it exists")


def _run(args: argparse.Namespace) -> None:
    words = args.words[1:] if args.words[:1] == ["show"] else args.words
    if len(words) > 1:
        raise RinoError(f"{' '.join(words)!r} are several recipes: write pyrino recipes show {words[-1]}")
    if words:
        if args.toml is None:
            print(_numbers(words[0]))
        else:
            _write(as_recipe(words[0]), args.toml, args.overwrite)
    elif args.words or args.toml is not None:
        what = "show" if args.words else "--toml"
        raise RinoError(f"{what} is without a recipe: write for example pyrino recipes show {Recipe().name}")
    else:
        print(_presets())


def _write(recipe: Recipe, file: str, overwrite: bool) -> None:
    if file == "-":
        sys.stdout.write(recipe.to_toml())
        return
    with whole_file(Path(file), overwrite=overwrite) as partial:
        partial.write_text(recipe.to_toml(), encoding="utf-8")
    # A name that is not taken for a preset.
    argument = file if file.endswith(".toml") or "/" in file else f"./{file}"
    print(f"change numbers in {file}, then: pyrino pretrain {argument} --train PATH --out FOLDER")


def _presets() -> str:
    catalogue = Recipe.catalogue()
    rows = [["recipe", "encoder", "what it is"]]
    for preset in catalogue:
        rows.append([preset.name, f"{Recipe.preset(preset.name).encoder_parameters:,} parameters", preset.summary])
    header, *lines = aligned(rows, numbers=(1,)).splitlines()
    shown = [header]
    summaries = {method.name: method.summary for method in Recipe.methods()}
    said = ("", "")
    for preset, line in zip(catalogue, lines, strict=True):
        if preset.method != said[0]:
            shown += ["", f"{preset.method}: {summaries[preset.method]}"]
        if (preset.method, preset.source) != said:
            shown += ["", f"{preset.source}:"]
        said = preset.method, preset.source
        shown.append(line)
    kinds = ", ".join(f'"{kind.kind}" ({kind.summary}, {kind.source})' for kind in Recipe.encoders())
    example = next((preset.name for preset in catalogue if "-" in preset.name), catalogue[-1].name)
    return "\n".join(
        [
            *shown,
            "",
            f'preset = "{example}" in a TOML file chooses one; numbers below that line replace its own.',
            f"encoder.kind is one of {kinds}.",
            "pyrino recipes show NAME prints every number, its meaning and where it comes from.",
        ]
    )


def _numbers(name: str) -> str:
    recipe = as_recipe(name)
    # A file is compared with what it starts from, a variant of a preset with that, others with their method's first.
    if name in Recipe.presets() and "-" in recipe.name and recipe.name.partition("-")[0] in Recipe.presets():
        base = Recipe.preset(recipe.name.partition("-")[0])
    elif name in Recipe.presets() or not recipe.name:
        base = Recipe(recipe.method)
    else:
        base = Recipe.preset(recipe.name)
    differs = recipe != base
    header = ["number", "value", *([f"in {base.name or base.method}"] if differs else []), "unit", "source", "meaning"]
    rows = [header]
    others = {other.key: other for other in base.describe()}
    for number in recipe.describe():
        other = others.get(number.key, number)  # which encoders of another kind do not have
        cells = [number.key, _text(number.value)]
        if differs:
            cells.append(_text(other.value) if other.value != number.value else "")
        source = "this file" if number.source == CHANGED else number.source
        rows.append([*cells, number.unit, source, number.meaning])
    return f"{aligned(rows)}\n\n{_networks(recipe)}"


def _networks(recipe: Recipe) -> str:
    """How large the networks are, in words."""
    size = recipe.encoder
    polar = size.kind == "transformer" and size.positions == "polar"
    positions = size.radial_bins * size.angular_bins * size.width if polar else 0
    inside = f", {positions:,} of them in the table of positions" if positions else ""
    return f"encoder: {recipe.encoder_parameters:,} parameters{inside}{about(recipe).networks}"


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value)) or "[]"
    return str(value).lower() if isinstance(value, bool) else str(value) or '""'
