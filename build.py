#!/usr/bin/env python3
"""Build container images of SGLang rollout workers for ROLL from matrix.yaml.

The command line: runs a command of `images/commands` and turns its errors into a message and an
exit code.
"""

from __future__ import annotations

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
    # While modules are imported, Ctrl-C has nothing to clean up: it ends the process silently.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import sys
from collections.abc import Sequence
from contextlib import suppress

from images import requirements

if reason := requirements.missing():
    requirements.refuse(reason)

from images.commands import parser as command_line
from images.commands.arguments import Parser
from images.errors import BuildError
from images.repository import ROOT
from images.util import interrupts, output


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    output.prepare()
    try:
        return _run(list(sys.argv[1:] if arguments is None else arguments))
    finally:
        interrupts.ending()
        output.finish()


def parser(only: str | None = None) -> Parser:
    """Return the parser of the command line, with the options of all commands or of one only."""
    return command_line.parser(ROOT, (__doc__ or "").partition("\n")[0], only)


def _run(given: list[str]) -> int:
    if given and given[0].startswith("-") and given[0] not in ("-h", "--help"):
        given.insert(0, "build")
    try:
        options = parser(given[0] if given else None).read(given)
        code: int = options.run(options)
        return code
    except BuildError as error:
        return _failed(error)
    except ModuleNotFoundError as error:
        if not requirements.is_foreign(error):
            raise
        requirements.refuse(requirements.absent(error))
    except KeyboardInterrupt:
        with suppress(BrokenPipeError):
            kept = "finished work is kept"
            output.message(f"interrupted: {kept}; run the same command again to resume")
        return interrupts.EXIT_CODE
    except BrokenPipeError:
        return BuildError.exit_code
    except OSError as error:
        # The last resort, for errors that no stage has translated.
        return _failed(output.refused(error))


def _failed(error: BuildError) -> int:
    with suppress(BrokenPipeError):
        output.message(f"error: {error.message}")
        if error.remedy:
            output.message(f"fix: {error.remedy}")
    return error.exit_code


if __name__ == "__main__":
    interrupts.handle()
    sys.exit(main())
