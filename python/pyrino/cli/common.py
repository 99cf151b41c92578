"""What the commands share when they run: recipes, devices, files, tables."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

from pyrino.errors import RinoError
from pyrino.recipe import Recipe
from pyrino.training.ranks import Ranks, Stopped, joined

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["as_json", "change_recipe", "on_ranks", "plural", "show_progress"]


def as_json(document: Any) -> str:
    """A document as JSON, which knows neither NaN nor infinity: null for both."""

    def known(part: Any) -> Any:
        if isinstance(part, dict):
            return {name: known(value) for name, value in part.items()}
        if isinstance(part, (list, tuple)):
            return [known(value) for value in part]
        return None if isinstance(part, float) and not math.isfinite(part) else part

    return json.dumps(known(document), indent=1, allow_nan=False)


def show_progress() -> bool:
    """Whether bars make sense: not in a log file."""
    return sys.stderr.isatty()


def change_recipe(recipe: Recipe, args: argparse.Namespace, sections: Sequence[str] = ()) -> Recipe:
    """The recipe with the numbers that the options of `add_recipe_numbers` give.

    Parameters
    ----------
    sections
        Those that have an effect on the command, where not all have.

    Raises
    ------
    RinoError
        For text that is no SECTION.NAME=VALUE, an unknown name, a section without effect, or a value of another type.
    """
    recipe = recipe.copy()
    for text in args.settings:
        key, equals, value = (part.strip() for part in text.partition("="))
        section, dot, _ = key.partition(".")
        if not (dot and equals):
            raise RinoError(f"--set {text!r} is no SECTION.NAME=VALUE: write for example {args.numbers[0]}=5")
        found, now = _value(value), recipe.sections().get(section, {}).get(key.partition(".")[2])
        recipe.update({key: [found] if isinstance(now, list) and not isinstance(found, list) else found})
        if sections and section not in sections:
            raise RinoError(f"--set {text!r} has no effect here: only numbers of {', '.join(sections)} have")
    recipe.update({key: getattr(args, key) for key in args.numbers if getattr(args, key) is not None})
    return recipe


def _value(text: str) -> Any:
    """A value as TOML has it; text needs no quotes and a list no brackets."""
    for attempt in (text, f"[{text}]" if "," in text else text):
        with contextlib.suppress(tomllib.TOMLDecodeError):
            return tomllib.loads(f"value = {attempt}")["value"]
    return [part.strip() for part in text.strip("[]").split(",")] if "," in text else text


def on_ranks(device: str, work: Callable[[Ranks], None]) -> None:
    """Do what a command does on the processes that torchrun started, or on one; its end is said once and is the exit
    status: 2 for errors, that of the signal that stopped it.
    """
    ranks = Ranks()
    try:
        with joined(device) as ranks:
            ranks.say = _say
            if not ranks.first:
                logging.getLogger("pyrino").setLevel(logging.WARNING)
            work(ranks)
    except RinoError:
        if ranks.alone:
            raise
        raise SystemExit(2) from None  # one rank has said it for all
    except Stopped as stopped:
        if ranks.alone:
            _say(stopped)
        raise SystemExit(stopped.status) from None


def _say(error: BaseException) -> None:
    """Print how the run ended, as the command line does it."""
    kind = "" if isinstance(error, Stopped) else "error: "
    message = " ".join(str(error).split()).replace("resume=True", "--resume").replace("overwrite=True", "--overwrite")
    print(f"pyrino: {kind}{message}", file=sys.stderr, flush=True)


def plural(number: int, singular: str) -> str:
    """ "1 jet", "2 jets"."""
    return f"{number} {singular}" if number == 1 else f"{number} {singular}s"
