"""The command line: `pyrino COMMAND ...`, one module per command."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence

import torch

import pyrino
from pyrino.cli import draw, embed, evaluate, finetune, generate, info, pretrain, recipe, study
from pyrino.cli.parser import HelpFormatter
from pyrino.errors import RinoError

__all__ = ["main", "make_parser"]

_COMMANDS = (generate, info, draw, recipe, pretrain, finetune, evaluate, embed, study)

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
        "--version", action="version", version=f"pyrino {pyrino.__version__} with torch {torch.__version__}"
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
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 2
    try:
        args.run(args)
        sys.stdout.flush()
    except RinoError as error:
        _say(f"error: {_as_options(str(error), args)}")
        return 2
    except KeyboardInterrupt as error:
        _say(_as_options(str(error), args) or "stopped")
        return 130
    except BrokenPipeError:
        # Python flushes standard output once more when it ends, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


def _say(message: str) -> None:
    print(f"pyrino: {' '.join(message.split())}", file=sys.stderr)


def _as_options(message: str, args: argparse.Namespace) -> str:
    """Messages name arguments of Python; those that the command has are named as its options."""

    def option(match: re.Match[str]) -> str:
        return f"--{match[1].replace('_', '-')}" if hasattr(args, match[1]) else match[0]

    return re.sub(r"\b(\w+)=True\b", option, message)
