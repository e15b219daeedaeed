#!/usr/bin/env python3
"""Build container images of SGLang rollout workers for ROLL from matrix.yaml.

This file is the command line: it runs a command of `images/commands` and turns what that raises
into a message and an exit code.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from images import requirements

if reason := requirements.missing():
    requirements.refuse(reason)

from images.commands import build, documents, keep, lock, send, show, test
from images.errors import BuildError, StoreError

HERE = Path(__file__).resolve().parent
INTERRUPTED = 130

COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "build": build.build,
    "fetch": build.fetch,
    "list": show.list_targets,
    "lock": lock.lock_targets,
    "load": send.load,
    "bundle": send.bundle,
    "push": send.push,
    "promote": send.promote,
    "pull": send.pull,
    "sbom": documents.sbom,
    "provenance": documents.provenance,
    "test": test.test,
    "inspect": show.inspect,
    "plan": show.plan,
    "diff": show.diff,
    "sizes": show.sizes,
    "verify": keep.verify,
    "gc": keep.gc,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0].startswith("-") and given[0] not in ("-h", "--help"):
        given.insert(0, "build")
    options = parser().parse_args(given)
    try:
        code: int = options.run(options)
        return code
    except BuildError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.remedy:
            print(f"mend it: {error.remedy}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        if not requirements.is_foreign(error):
            raise
        requirements.refuse(requirements.absent(error))
    except KeyboardInterrupt:
        print("interrupted: what was finished is kept, the same command goes on", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away; Python would complain once more when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        # The last resort, for places that no stage answers for.
        print(f"error: {error}", file=sys.stderr)
        return StoreError.exit_code if error.errno == errno.ENOSPC else BuildError.exit_code


def parser() -> argparse.ArgumentParser:
    """The command line's parser."""
    from images import options

    return options.parser(HERE, (__doc__ or "").partition("\n")[0], COMMANDS)


if __name__ == "__main__":
    sys.exit(main())
