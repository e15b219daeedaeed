"""The parser of the whole command line. Nothing is read or done here."""

from __future__ import annotations

import argparse
from pathlib import Path

from images.commands import analysis, build, export, lock, registry, show, upkeep
from images.commands.arguments import Parser
from images.commands.options import add_locations
from images.commands.test import command as test

COMMANDS = (
    build.BUILD,
    build.FETCH,
    show.LIST,
    lock.LOCK,
    export.LOAD,
    export.BUNDLE,
    registry.PUSH,
    registry.PROMOTE,
    registry.PULL,
    show.SBOM,
    show.PROVENANCE,
    test.TEST,
    show.INSPECT,
    analysis.PLAN,
    analysis.DIFF,
    analysis.SIZES,
    upkeep.VERIFY,
    upkeep.GC,
)
"""In the order of the help."""

_EPILOG = """\
exit codes:
   0 done                        7 store, disk or output
   1 other failure               8 program missing or failed, or host unfit
   2 wrong usage                 9 Docker
   3 matrix.yaml                10 the image's tests failed
   4 lock missing or stale      11 a registry
   5 a file cannot be fetched   12 a registry wants a login, or another one
   6 bytes are not as locked    13 an image is larger than its budget
                               130 interrupted

examples:
  python build.py --target torch280-sglang052       build one image (the same as `build --target`)
  python build.py --target torch280-sglang052 --cache-from registry.example.com/team/roll-cache
                                                    build one image from what others made
  python build.py fetch --target torch280-sglang052 what it needs, to build it without a network
  python build.py list                              what can be built, and what has been
  python build.py diff torch280-sglang052 torch280-sglang055   what moving costs
  python build.py load --target torch280-sglang052  give it to the Docker daemon
  python build.py bundle --target torch280-sglang052 --out DIR   for a machine without a registry
  python build.py push --target torch280-sglang052 --to registry.example.com/team/roll-sglang
  python build.py promote --target torch280-sglang052 --to registry.example.com/team/roll-sglang
  python build.py test --target torch280-sglang052  test it, in a container where there is Docker
  python build.py test --target torch280-sglang052 --gpu    what needs a GPU; keeps evidence
  python build.py test --target torch280-sglang052-roll --gpu --roll CHECKOUT   ROLL itself in it
"""


def parser(root: Path, description: str, only: str | None = None) -> Parser:
    """Return the parser of the whole command line; what it parses has the command as `run`.

    Args:
        root: the directory that the matrix and the store lie in by default.
        description: of the program.
        only: the command whose options alone are needed: to declare all takes a while.
    """
    whole = Parser(
        prog="build.py",
        description=description,
        epilog=_EPILOG,
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
