"""The command line: `pyrino COMMAND ...`, one module per command."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import NoReturn

import torch

from pyrino import _core
from pyrino.cli import (
    bench,
    compare,
    draw,
    embed,
    evaluate,
    finetune,
    generate,
    info,
    pack,
    predict,
    pretrain,
    recipes,
    study,
)
from pyrino.cli.parser import HelpFormatter
from pyrino.errors import RinoError, RinoWarning

__all__ = ["main", "make_parser"]

_COMMANDS = (generate, info, compare, draw, pack, recipes, pretrain, finetune, evaluate, predict, embed, study, bench)

_EXAMPLE = """\
example, from collisions to a tagger:
  pyrino generate --domain collisions --process qcd --jets 10000 --seed 3 --out data/qcd
  pyrino generate --domain simulation-wide --process qcd --jets 5000 --seed 4 --out data/simulation
  pyrino generate --domain simulation-wide --process top --jets 5000 --seed 4 --out data/simulation
  pyrino pretrain nano --train data/qcd --epochs 5 --out runs/nano
  pyrino finetune runs/nano --train data/simulation --out runs/tagger
"""


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="pyrino",
        description="Pretraining on jets without labels, along the renormalisation-group flow.",
        epilog=_EXAMPLE,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", action="version", version=f"pyrino {_core.__version__} with torch {torch.__version__}"
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    for command in _COMMANDS:
        command.add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv
        Arguments without the program's name; None: those of the process.

    Returns
    -------
    int
        Exit status: 0; 2 after an error, which standard error tells in one line; 130 after Ctrl-C; 141 if the
        reader of standard output went away. Wrong usage exits with 2 from within (argparse).
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names may have what the terminal has not
    try:
        try:
            return _run(argv)
        finally:
            sys.stdout.flush()
    except OSError as error:  # of standard output, or of a place that no message of ours foresees
        gone = isinstance(error, BrokenPipeError)
        if not gone:
            _say(f"error: {error}")
        try:
            sys.stdout.flush()
        except OSError:
            # Python flushes standard output once more when it ends, and would complain then.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141 if gone else 2


def _run(argv: Sequence[str] | None) -> int:
    parser = make_parser()
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        _refuse(unknown, args.parser if args.command else parser)
    if args.command is None:
        parser.print_help()
        return 2
    try:
        with _heard(logging.WARNING if args.command == "study" else logging.INFO, args):
            args.run(args)
    except RinoError as error:
        _say(f"error: {_as_options(str(error), args)}")
        return 2
    except KeyboardInterrupt as error:
        _say(_as_options(str(error), args) or "stopped")
        return 130
    return 0


@contextlib.contextmanager
def _heard(level: int, args: argparse.Namespace) -> Iterator[None]:
    """What pyrino logs is printed from this level on; what it warns of is said as errors are."""
    log, handler = logging.getLogger("pyrino"), _Printing()
    before = log.level
    log.addHandler(handler)
    log.setLevel(level)
    shown = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: object, **more: object) -> None:
        if issubclass(category, RinoWarning):
            _say(f"warning: {_as_options(str(message), args)}")
        else:
            shown(message, category, *place, **more)  # type: ignore[arg-type]

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", RinoWarning)
            warnings.showwarning = show
            yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


class _Printing(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage(), flush=True)


def _refuse(arguments: list[str], parser: argparse.ArgumentParser) -> NoReturn:
    """End with the usage of the command that does not know the arguments, not with that of the whole program."""
    options = [option for option in arguments if option.startswith("--")]
    close = difflib.get_close_matches(options[0].split("=")[0], parser._option_string_actions, n=1) if options else []
    hint = f" (did you mean {close[0]}?)" if close else ""
    parser.error(f"unrecognized arguments: {' '.join(arguments)}{hint}")


def _say(message: str) -> None:
    print(f"pyrino: {' '.join(message.split())}", file=sys.stderr)


def _as_options(message: str, args: argparse.Namespace) -> str:
    """Messages name arguments of Python; those that the command has are named as its options.

    None has `labelled`: what takes labels needs them.
    """

    def option(match: re.Match[str]) -> str:
        value = "" if match[2] == "True" else f" {match[3]}"
        return f"--{match[1].replace('_', '-')}{value}" if hasattr(args, match[1]) else match[0]

    message = re.sub(r": leave labels out with labelled=False(,? or)?", lambda m: ";" if m[1] else "", message)
    return re.sub(r"\b(\w+)=(True\b|'([\w:,]+)')", option, message)
