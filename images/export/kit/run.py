"""`prove.py` on the machine with a GPU: unpacks images one by one, and runs their GPU tests."""

from __future__ import annotations

import argparse
import fcntl
import shutil
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType

from images.errors import BuildError, ImageTestError, UsageError
from images.export.kit import document
from images.export.kit.proving import FAILED, LATER, PROVEN, Result, Session
from images.export.kit.python_path import python_path
from images.export.kit.queue import Queue
from images.export.kit.stages import Clock
from images.util import output

NOT_REACHED = 3
INTERRUPTED = 130

DESCRIPTION = """\
Run the GPU tests in every image of this kit: unpack, test, keep the evidence, remove, go on.

Bundles may arrive one by one: each run does what is possible with those that have arrived, and
skips what its evidence proves already. It may be killed at any time; the next run resumes.
Default directories are in the kit.
"""
EPILOG = """\
exit codes:
  0 all are proven         3 some were not reached: run it again
  2 wrong usage            6 a file of the kit is damaged
  10 the tests of one failed
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup does
        signal.signal(signal.SIGHUP, _interrupt)
    try:
        return _run(_parser().parse_args(arguments))
    except BuildError as error:
        output.message(f"error: {error.message}")
        if error.remedy:
            output.message(f"fix: {error.remedy}")
        return error.exit_code
    except KeyboardInterrupt:
        output.message("interrupted: run the same command again to resume")
        return INTERRUPTED


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="prove.py",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--kit", type=Path, required=True, help=argparse.SUPPRESS)
    add(
        "--seconds",
        type=float,
        metavar="LIMIT",
        help="end after this time, and begin nothing that took longer so far",
    )
    add(
        "--work",
        type=Path,
        metavar="DIR",
        help="directory for the layers of all images and the files of one (default: work)",
    )
    add("--evidence", type=Path, metavar="DIR", help="output directory (default: evidence)")
    add(
        "--roll",
        type=Path,
        metavar="CHECKOUT",
        help="run the code of this checkout of ROLL as well, in images whose names end in -roll",
    )
    add("--remove-parts", action="store_true", help="remove each part after its last use")
    add(
        "--together",
        type=int,
        default=1,
        metavar="N",
        help="images to test at a time, each on the GPU with the fewest: tests that measure the "
        "memory of a whole GPU wait for their turn, those that need two GPUs are skipped, and "
        "seconds are not those of a quiet machine",
    )
    return parser


def _run(options: argparse.Namespace) -> int:
    kit = document.read(options.kit)
    work = (options.work or options.kit / "work").absolute()
    evidence = (options.evidence or options.kit / document.EVIDENCE).absolute()
    if options.roll is not None and not options.roll.is_dir():
        raise UsageError(f"{options.roll}: not a directory", remedy="name a checkout of ROLL")
    if options.together < 1:
        raise UsageError(
            f"--together {options.together}: not a number of images", remedy="name 1 or more"
        )
    for directory in (work, evidence):
        directory.mkdir(parents=True, exist_ok=True)
    with (work / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"{work}: another run works there", remedy="wait for it, or end it"
            ) from None
        for left in work.glob("removed-*"):
            shutil.rmtree(left)
        session = Session(
            kit=kit,
            directory=options.kit,
            work=work,
            evidence=evidence,
            clock=Clock(options.seconds),
            python_path=python_path(kit, options.kit, work),
            roll=options.roll.absolute() if options.roll else None,
            remove_parts=options.remove_parts,
            together=options.together,
        )
        return _report(_prove(session))


def _prove(session: Session) -> list[Result]:
    targets = session.kit.targets
    results = {number: Result(one, LATER, "not begun") for number, one in enumerate(targets)}
    # Those that failed before come last: an image that nothing is known of is worth more.
    queue = Queue(sorted(results, key=session.failed_before))
    with ThreadPoolExecutor(session.together) as pool:
        lanes = [pool.submit(_lane, session, queue, results) for _ in range(session.together)]
        try:
            for lane in lanes:
                lane.result()
        except BaseException:
            session.clock.end()  # or the other threads would go on
            raise
    return [results[number] for number in sorted(results)]


def _lane(session: Session, queue: Queue, results: dict[int, Result]) -> None:
    """Prove one target after another, until none is left or a result ends the run."""
    while (number := queue.take()) is not None:
        result = Result(session.kit.targets[number], LATER, "not begun")
        try:
            if not any(other.ends for other in list(results.values())):
                result = results[number] = session.prove(number)
                if not result.waits:
                    session.clock.message(f"{result.target.id}: {result.state}")
        finally:
            queue.put_back(number) if result.waits else queue.done()


def _report(results: Sequence[Result]) -> int:
    head = ("TARGET", "DIGEST", "RESULT", "SECONDS", "")
    rows = [head, *(result.cells() for result in results)]
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, wide, strict=True))
        output.result("  ".join(cells).rstrip())
    states = {result.state for result in results}
    if FAILED in states:
        return ImageTestError.exit_code
    return 0 if states == {PROVEN} else NOT_REACHED


if __name__ == "__main__":
    sys.exit(main())
