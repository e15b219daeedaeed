"""A wheel's RECORD, checked against the files in the wheel.

Specification: PyPA, "Recording installed projects", https://packaging.python.org/specifications/.
Some wheels are published with a wrong RECORD; installers do not check it. Here they are refused
unless the matrix names them (`misrecorded:`): the lock's hash of the whole wheel then vouches for
its content, and the image gets a correct RECORD.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import NamedTuple

from installer.records import Hash, InvalidRecordEntry, parse_record_file

from images.errors import IntegrityError

REMEDY = (
    "the wheel has its locked hash, so it was published like this: if you accept that, list the "
    "distribution under `misrecorded:` in matrix.yaml with the reason"
)


class Records(NamedTuple):
    """The content of a RECORD.

    Attributes:
        hashes: by path in the wheel; None where it has none.
        faulty: whether it cannot be read, or does not list exactly the wheel's files.
    """

    hashes: dict[str, Hash | None]
    faulty: bool = False


def read(
    name: str,
    text: Callable[[], str],
    members: Set[str],
    unlisted: Set[str],
    *,
    misrecorded: bool,
) -> Records:
    """Read a wheel's RECORD.

    Args:
        name: the wheel's file name, for messages.
        text: returns the RECORD.
        members: the files in the wheel.
        unlisted: those that it need not list.
        misrecorded: whether it may be wrong; a wrong one has no hashes.

    Raises:
        IntegrityError: it is wrong.
    """
    try:
        found = _parsed(name, text)
        _compare(name, members - found.keys() - unlisted, found.keys() - members)
    except IntegrityError:
        if misrecorded:
            return Records({}, faulty=True)
        raise
    return Records(found)


def _parsed(name: str, text: Callable[[], str]) -> dict[str, Hash | None]:
    try:
        return {
            path: Hash.parse(digest) if digest else None
            for path, digest, _ in parse_record_file(text().splitlines())
        }
    except (InvalidRecordEntry, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise IntegrityError(
            f"{name}: its RECORD cannot be read: {reason}", remedy=REMEDY
        ) from error


def _compare(name: str, omitted: Set[str], invented: Set[str]) -> None:
    faults = [f"{path}: not in RECORD" for path in sorted(omitted)]
    faults += [f"{path}: in RECORD, but not in the wheel" for path in sorted(invented)]
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise IntegrityError(f"{name}: {faults[0]}{more}", remedy=REMEDY)
