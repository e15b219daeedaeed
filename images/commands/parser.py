"""The parser of the whole command line. Nothing is read or done here."""

from __future__ import annotations

import argparse
from pathlib import Path

from images.commands import analysis, build, export, fetch, registry, show, upkeep, usage
from images.commands.arguments import Parser
from images.commands.lock import command as lock
from images.commands.lock import propose
from images.commands.options import add_locations
from images.commands.test import command as test
from images.commands.test import prove

COMMANDS = (
    build.BUILD,
    fetch.FETCH,
    show.LIST,
    lock.LOCK,
    propose.PROPOSE,
    export.LOAD,
    export.BUNDLE,
    registry.PUSH,
    registry.PROMOTE,
    registry.PULL,
    show.SBOM,
    show.PROVENANCE,
    test.TEST,
    prove.PROVE,
    show.INSPECT,
    analysis.PLAN,
    analysis.DIFF,
    analysis.SIZES,
    upkeep.VERIFY,
    upkeep.GC,
)
"""All commands, in the order of the help."""


def parser(root: Path, description: str, only: str | None = None) -> Parser:
    """Return the parser of the whole command line; what it parses has the command as `run`.

    Args:
        root: the directory of the default matrix and store.
        description: of the program.
        only: the command whose options alone are needed: to declare all takes a while.
    """
    whole = Parser(
        prog="build.py",
        description=description,
        epilog=usage.epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    found = whole.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        text = command.run.__doc__
        one = found.add_parser(command.name, help=text, description=text, allow_abbrev=False)
        whole.commands[command.name] = one
        if only in (None, command.name):
            one.set_defaults(run=command.run)
            add_locations(one, root)
            command.add_options(one)
    return whole
