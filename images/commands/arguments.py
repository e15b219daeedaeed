"""An argument parser that raises `UsageError`, with suggestions for misspelt words."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from images.errors import UsageError
from images.util import output, suggest, units

Run = Callable[[argparse.Namespace], int]
"""Runs a command with its options, and returns the exit code."""


class Parser(argparse.ArgumentParser):
    """A parser that raises `UsageError`, and prints its help as commands print results.

    Attributes:
        commands: the parsers of its commands, by name.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.commands: dict[str, Parser] = {}
        # Python 3.14 colours the help, with control characters that `output` escapes.
        self.color = False

    def error(self, message: str) -> NoReturn:
        """Refuse the command line."""
        raise UsageError(message, remedy=f"python {self.prog} --help")

    def print_help(self, file: object = None) -> None:
        """Print the help on standard output."""
        output.result(self.format_help(), end="")

    def read(self, given: Sequence[str]) -> argparse.Namespace:
        """Parse the whole command line.

        A misspelt word is refused first: argparse would report what is missing because of it.

        Args:
            given: the command and its options.

        Raises:
            UsageError: a command or option does not exist, or options exclude each other.
        """
        if given and given[0] not in self._option_string_actions:
            self._command(given[0])._check_options(given[1:])
        return self.parse_args(given)

    def _command(self, word: str) -> Parser:
        if word not in self.commands:
            raise UsageError(
                f"no command {word!r}{suggest.nearest(word, self.commands)}",
                remedy=f"python {self.prog} --help  # a target is named by --target ID",
            )
        return self.commands[word]

    def _check_options(self, given: Sequence[str]) -> None:
        for word in given:
            if word == "--":  # the rest is for another program
                return
            name = word.partition("=")[0]
            # A word with a space or a negative number is a value, as it is for argparse.
            option = name.startswith("-") and name.lstrip("-")[:1].isalpha() and " " not in word
            if option and name not in self._option_string_actions:
                near = suggest.nearest(name, self._option_string_actions)
                self.error(f"{self.prog} has no option {name}{near}")


class Command:
    """A command of the command line.

    Attributes:
        name: as it is typed.
        run: the function that runs it; its docstring is the command's help.
        add_options: declares its options, besides those of every command.
    """

    __slots__ = ("add_options", "name", "run")

    def __init__(self, name: str, run: Run, add_options: Callable[[Parser], None]) -> None:
        self.name = name
        self.run = run
        self.add_options = add_options


def one_of(words: Sequence[str]) -> str:
    """Return words as a metavar: `{zstd,gzip}`."""
    return f"{{{','.join(words)}}}"


def choice(known: Iterable[str]) -> Callable[[str], str]:
    """Return the type of an argument that is one of the known words."""
    words = tuple(known)

    def chosen(word: str) -> str:
        if word not in words:
            near = suggest.nearest(word, words)
            raise argparse.ArgumentTypeError(f"{word!r} is not one of {', '.join(words)}{near}")
        return word

    return chosen


def positive(text: str) -> int:
    """Return a whole number above zero: the type of an argument."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return int(text)


def capabilities(text: str) -> list[str]:
    """Return compute capabilities, separated by commas: the type of an argument."""
    from images.inputs.matrix import gpus

    found = gpus.split(text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no compute capability such as 9.0")
    for word in found:
        if wrong := gpus.wrong(word):
            raise argparse.ArgumentTypeError(wrong)
    return found


def size(text: str) -> int:
    """Return a number of bytes: the type of an argument."""
    try:
        if "." in text:
            raise ValueError
        return units.parse(text)
    except ValueError:
        message = f"{text!r} is not a size such as 60MB, 512MiB or 1000000"
        raise argparse.ArgumentTypeError(message) from None
