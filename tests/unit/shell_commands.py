"""Command lines of this repository in prose and scripts, checked by the real parsers."""

from __future__ import annotations

import argparse
import importlib.util
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path

import build
from images.errors import UsageError
from images.inputs.matrix.load import load
from images.inputs.matrix.records import Matrix
from images.repository import ROOT

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"^    \$ (.*)$", re.MULTILINE)
_INLINE = re.compile(r"`([^`\n]+)`")
_ENDS = frozenset(("&&", "||", "|", ";", "(", ")", ">", ">>", "<", "&"))


def of_markdown(text: str) -> Iterator[list[str]]:
    """Yield the commands in a document's fences, indented examples and inline code."""
    for _, block in _FENCE.findall(text):
        yield from of_shell(block)
    rest = _FENCE.sub("", text)
    for line in (*_INDENTED.findall(rest), *_INLINE.findall(rest)):
        yield from of_shell(line)


def of_shell(script: str) -> Iterator[list[str]]:
    """Yield the commands of `build.py` and `roll_runtime` in a script, each from its name on."""
    for line in script.replace("\\\n", " ").splitlines():
        if "build.py" not in line and "-m roll_runtime" not in line:
            continue
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        command: list[str] = []
        for word in [*lexer, ";"]:
            if word not in _ENDS:
                command.append(word)
                continue
            if found := _named(command):
                yield found
            command = []


def _named(command: Sequence[str]) -> list[str] | None:
    for position, word in enumerate(command):
        if Path(word).name == "build.py":
            return ["build.py", *command[position + 1 :]]
        if word == "roll_runtime" and command[position - 1 : position] == ["-m"]:
            return ["roll_runtime", *command[position + 1 :]]
    return None


def fault(command: Sequence[str]) -> str | None:
    """Return the fault of a command; None if it has none."""
    program, *arguments = command
    if not arguments:
        return None  # the program's name alone
    if program == "build.py":
        if arguments[0].startswith("-") and arguments[0] not in ("-h", "--help"):
            arguments.insert(0, "build")
        parser = _build_parser()
    else:
        parser = _runtime_parser()
    if any("[" in word for word in arguments):
        return _usage_fault(parser, arguments)
    printed = StringIO()
    try:
        with redirect_stderr(printed), redirect_stdout(StringIO()):
            parsed = parser.parse_args(arguments)
    except UsageError as error:
        return error.message
    except SystemExit:
        return printed.getvalue().strip().rpartition("\n")[2] or "asks for help only"
    targets = getattr(parsed, "target", None) or []
    for target in [targets] if isinstance(targets, str) else targets:
        if re.match(r"torch\d", target) and _matrix().find(target) is None:
            return f"{target}: no such target in matrix.yaml"
    return None


def _usage_fault(parser: argparse.ArgumentParser, words: Sequence[str]) -> str | None:
    """Return the options of a synopsis such as `smoke [--tp-size N]` that do not exist."""
    one = _commands(parser).get(words[0])
    known = one._option_string_actions if one else {}
    named = [word.strip("[]") for word in words if word.lstrip("[").startswith("--")]
    wrong = [word for word in named if word not in known]
    return f"{words[0]} has no {', '.join(wrong)}" if wrong else None


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (found,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return dict(found.choices)


@cache
def _build_parser() -> argparse.ArgumentParser:
    return build.parser()


@cache
def _runtime_parser() -> argparse.ArgumentParser:
    path = ROOT / "roll_runtime" / "src" / "roll_runtime" / "__main__.py"
    spec = importlib.util.spec_from_file_location("roll_runtime_command_line", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    parser: argparse.ArgumentParser = module.parser()
    return parser


@cache
def _matrix() -> Matrix:
    return load(ROOT / "matrix.yaml")
