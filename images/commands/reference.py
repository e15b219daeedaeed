"""docs/commands.md, written from the parser.

`python -m images.commands.reference > docs/commands.md` renews it; a test fails when it differs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from images.commands import parser, usage
from images.commands.arguments import Parser
from images.util import output

DOCUMENTS = {
    "build": "target manifest_digest config_digest layout complete size created env labels layers",
    "inspect": "target manifest_digest config_digest layout complete size created env labels "
    "layers",
    "load": "target tags id",
    "push": "target reference tag manifest_digest before blobs attached bytes_sent notes",
    "pull": "target manifest_digest layout fetched bytes",
    "fetch": "target cache present fetched missing",
    "plan": "target layers to_make bytes",
    "list": "targets",
    "sizes": "targets images files largest",
    "diff": "from to packages layers pull",
    "bundle": "target manifest_digest out parts bytes unpack left_out left_out_layers recipes",
    "promote": "target reference tag manifest_digest before evidence",
    "verify": "layout faults elsewhere notes",
}
"""Keys of the JSON document of each command that has one."""

_HEAD = """\
# Commands

<!-- Written by `python -m images.commands.reference > docs/commands.md`: edit the help instead. -->

A command is the first argument of `python build.py`. Options without one are those of `build`:
`python build.py --target ID` builds an image. A target is a row of `matrix.yaml`.
"""

_JSON = """\
## JSON

With `--json` a command prints one document on standard output; all messages go to standard error.
For one image or target it is an object with the keys below. For several, `build`, `load`, `push`
and `pull` print `{"images": [...]}`, and `fetch` and `plan` print `{"targets": [...]}`. `inspect`,
unless one `--target` is named, prints `{"images": [...], "others": [...]}`: `others` are the names
of images in the store that another program made.
"""

_LAYERS = """\
Each of the `layers` of `build` and `inspect` has `title`, `digest`, `diff_id`, `size`, `media_type`
and `elsewhere`, the registry that has its bytes if the store has not; of `build` also `reused`.
Each of the `blobs` of `push` has `digest`, `size` and `state`: `sent`, `mounted` or `present`.
"""

_EVERY_COMMAND = ("--help", "--matrix", "--store")


def text() -> str:
    """Return the document; it is the same on every machine."""
    commands = parser.parser(Path(), "").commands
    sections = [_HEAD, _index(commands.values()), "## Options of every command\n"]
    sections.append(_options(commands["list"], _EVERY_COMMAND))
    sections += [_section(name, one) for name, one in commands.items()]
    codes = [(str(code), meaning) for code, meaning in usage.EXIT_CODES.items()]
    sections += ["## Exit codes\n", _table(("exit code", "meaning"), codes)]
    keys = [(f"`{name}`", _coded(text.split())) for name, text in DOCUMENTS.items()]
    sections += [_JSON, _table(("command", "keys"), keys), _LAYERS]
    examples = [f"# {meaning}\npython build.py {line}\n" for line, meaning in usage.EXAMPLES]
    sections += [f"## Examples\n\n```sh\n{''.join(examples)}```\n"]
    return "\n".join(sections)


def _index(commands: Iterable[Parser]) -> str:
    names = [(one.prog.split()[-1], one.description or "") for one in commands]
    return _table(
        ("command", "what it does"), [(f"[{name}](#{name})", about) for name, about in names]
    )


def _section(name: str, one: Parser) -> str:
    head = f"## {name}\n\n{one.description}\n\n```\n{_synopsis(name, one)}\n```\n"
    own = [word for word in _by_name(one) if word not in _EVERY_COMMAND]
    return f"{head}\n{_options(one, own)}" if own else head


def _synopsis(name: str, one: Parser) -> str:
    """Return a command with what it requires; `[OPTIONS]` stands for the rest."""
    words, optional = [name], False
    groups = [group for group in one._mutually_exclusive_groups if group.required]
    words += [f"({' | '.join(map(_invocation, group._group_actions))})" for group in groups]
    grouped = [action for group in groups for action in group._group_actions]
    for action in one._actions:
        if action in grouped:
            continue
        if action.required and action.nargs != "*":
            words.append(_invocation(action))
        else:
            optional = True
    return " ".join([*words, "[OPTIONS]"] if optional else words)


def _invocation(action: argparse.Action) -> str:
    """Return an option as it is typed: `--target ID`, `--all`, `FROM`, `-- ...`."""
    value = [] if action.nargs == 0 else [str(action.metavar or action.dest.upper())]
    if not action.option_strings:
        return "-- ..." if action.nargs == "*" else value[0]
    return " ".join([action.option_strings[-1], *value])


def _options(one: Parser, names: Sequence[str]) -> str:
    options = _by_name(one)
    rows = [(_option(options[name]), _help(options[name])) for name in names]
    return _table(("option", "meaning"), rows)


def _by_name(one: Parser) -> dict[str, argparse.Action]:
    return {(action.option_strings or [action.dest])[-1]: action for action in one._actions}


def _option(action: argparse.Action) -> str:
    if action.nargs == 0 and len(action.option_strings) > 1:
        return _coded(action.option_strings)
    return f"`{_invocation(action)}`"


def _help(action: argparse.Action) -> str:
    return (action.help or "") % vars(action)


def _coded(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    output.result(text(), end="")
