"""`pyrino recipe`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from pyrino.cli.common import plural, table
from pyrino.cli.parser import add_command, add_overwrite
from pyrino.files import whole_file
from pyrino.nn import JetEncoder
from pyrino.pretrain import as_recipe
from pyrino.recipe import Recipe

__all__ = ["add"]

_EXAMPLE = """
pyrino recipe
pyrino recipe base
pyrino recipe demo --toml mine.toml
"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "recipe",
        _run,
        usage="[RECIPE] [options]",
        summary="every number of a recipe, with default, unit and meaning; without a name, the presets",
        description="",
        example=_EXAMPLE,
    )
    parser.add_argument(
        "recipe", nargs="?", metavar="RECIPE", help=f"preset ({', '.join(Recipe.presets())}) or TOML file"
    )
    parser.add_argument(
        "--toml",
        metavar="FILE",
        help="write it as a TOML file to start from, with all meanings; - prints it (default: print a table)",
    )
    add_overwrite(parser, "FILE if it exists")


def _run(args: argparse.Namespace) -> None:
    if args.toml is not None:
        text = as_recipe(args.recipe or Recipe().name).to_toml()
        if args.toml == "-":
            sys.stdout.write(text)
            return
        with whole_file(Path(args.toml), overwrite=args.overwrite) as partial:
            partial.write_text(text, encoding="utf-8")
        print(
            f"change numbers in {args.toml}, then: pyrino pretrain {_as_argument(args.toml)} --train PATH --out FOLDER"
        )
    elif args.recipe is None:
        print(_presets())
    else:
        recipe = as_recipe(args.recipe)
        # A file is compared with the preset it starts from, a preset with the one that is there without any choice.
        base = Recipe() if args.recipe in Recipe.presets() else Recipe.preset(recipe.name)
        print(_numbers(recipe, base))


def _as_argument(file: str) -> str:
    """A name that is not taken for a preset."""
    return file if file.endswith(".toml") or "/" in file else f"./{file}"


def _presets() -> str:
    rows = [["preset", "encoder", "width", "layers", "prototypes", "epochs", "batch", "class token", "teacher's views"]]
    for name in Recipe.presets():
        recipe = Recipe.preset(name)
        parameters = sum(tensor.numel() for tensor in JetEncoder(recipe, seed=0).parameters())
        rows.append(
            [
                name,
                plural(parameters, "parameter"),
                str(recipe.encoder.width),
                str(recipe.encoder.layers),
                str(recipe.head.prototypes),
                str(recipe.training.epochs),
                plural(recipe.training.batch_size, "jet"),
                recipe.encoder.class_token,
                " ".join(map(str, recipe.views.teacher)),
            ]
        )
    return f"{table(rows, numbers=(1, 2, 3, 4, 5, 6))}\n\npyrino recipe NAME shows all numbers"


def _numbers(recipe: Recipe, base: Recipe) -> str:
    entries = list(recipe._core.entries())
    values, defaults = recipe.to_dict(), base.to_dict()
    differs = recipe != base
    rows = []
    for entry in entries:
        value, default = (_text(numbers[entry.section][entry.name]) for numbers in (values, defaults))
        cells = [f"{entry.section}.{entry.name}", value]
        if differs:
            cells.append(default if default != value else "")
        rows.append([*cells, entry.unit, entry.meaning])
    header = ["number", "value", *([f"in {base.name}"] if differs else []), "unit", "meaning"]
    return table([header, *rows])


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
