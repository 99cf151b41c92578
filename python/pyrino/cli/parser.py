"""What the commands' parsers share."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable
from typing import Any

from pyrino.recipe import Recipe

__all__ = ["HelpFormatter", "add_command", "add_device", "add_overwrite", "add_recipe_numbers", "default_of"]


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Examples stay as they are written; every option shows its default, or that it is required."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help or ""
        if isinstance(action, argparse._StoreTrueAction):
            default = "off"
        elif isinstance(action.default, list):
            default = " ".join(map(str, action.default))
        else:
            default = action.default
        if action.required and action.option_strings:
            return f"{text} (required)"
        if default in (None, argparse.SUPPRESS) or "(default" in text:
            return text
        return f"{text} (default: {str(default).replace('%', '%%')})"


def add_command(
    commands: Any,
    name: str,
    run: Callable[[argparse.Namespace], None],
    *,
    usage: str,
    summary: str,
    description: str,
    example: str,
) -> argparse.ArgumentParser:
    """The parser of a command, which `run` carries out.

    Parameters
    ----------
    commands
        What `argparse.ArgumentParser.add_subparsers` returned.
    usage
        Arguments in the order to write them: argparse would put those without a dash behind options that take
        several values, where they would be swallowed.
    summary
        One line for the list of all commands.
    description
        What `pyrino NAME --help` says below it.
    example
        Command lines, one a line.
    """
    title = "example" if "\n" not in example.strip() else "examples"
    lines = "\n".join(f"  {line}" for line in example.strip().splitlines())
    parser = commands.add_parser(
        name,
        usage=f"pyrino {name} {usage}",
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.\n\n{description.strip()}".strip(),
        epilog=f"{title}:\n{lines}",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run, parser=parser)
    return parser


def add_device(parser: argparse.ArgumentParser) -> None:
    """--device."""
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 ...")


def add_overwrite(parser: Any, what: str) -> None:
    """--overwrite, for commands that never replace anything unasked."""
    parser.add_argument("--overwrite", action="store_true", help=f"replace {what}")


def add_recipe_numbers(parser: argparse.ArgumentParser, options: dict[str, str], examples: str) -> None:
    """Options for some numbers of the recipe, {option: "section.name"}, and --set for all others.

    Meanings and defaults are the recipe's own.
    """
    entries = {f"{entry.section}.{entry.name}": entry for entry in Recipe()._core.entries()}
    for option, key in options.items():
        entry = entries[key]
        unit = "" if entry.unit in entry.meaning else f" [{entry.unit}]"
        parser.add_argument(
            option,
            dest=key,
            type=type(entry.value),
            metavar="N",
            help=f"{key}: {entry.meaning}{unit} (default: the recipe's; {entry.value} in nano)",
        )
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="SECTION.NAME=VALUE",
        help=f"any number of the recipe, such as {examples}; can be given several times; 'pyrino recipes show NAME' "
        "lists all, with units (default: the recipe's)",
    )
    parser.set_defaults(numbers=list(options.values()))


def default_of(function: Callable[..., Any], name: str) -> Any:
    """Default value of a function's argument, so that the command line has the same one."""
    return inspect.signature(function).parameters[name].default
