"""A wheel's RECORD, checked against the files in the wheel, and the RECORD of an image.

Specification: PyPA, "Recording installed projects", https://packaging.python.org/specifications/.
Some wheels are published with a wrong RECORD; installers do not check it. Here they are refused
unless the matrix names them (`misrecorded:`): the lock's hash of the whole wheel then vouches for
its content, and the image gets a correct RECORD.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable, Iterable, Sequence, Set
from typing import IO, NamedTuple

from installer.records import Hash, InvalidRecordEntry, RecordEntry, parse_record_file
from installer.utils import Scheme, construct_record_file

from images import image_paths
from images.errors import IntegrityError
from images.oci.layer.entry import Entry, of_bytes

_CHUNK = 1 << 20

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


class Row(NamedTuple):
    """A row of an image's RECORD.

    Attributes:
        entry: a file that is installed.
        digest: its hash, or what returns it once the file was read.
    """

    entry: Entry
    digest: Hash | Callable[[], Hash] | None


_UNKNOWN = Hash("sha256", "0" * 43)
"""As long as the hash of a file that was not read yet."""


def installed(path: str, rows: Sequence[Row]) -> Entry:
    """Return the RECORD of an image; it is made when it is read, after the files of its rows.

    Args:
        path: of the RECORD.
        rows: all others.
    """

    def content(*, known: bool) -> bytes:
        found = []
        for entry, digest in rows:
            if callable(digest):
                digest = digest() if known else _UNKNOWN
            found.append(_row(entry.path, digest, entry.size))
        with construct_record_file([*found, _row(path, None, None)]) as stream:
            return stream.read()

    size = len(content(known=False))
    return Entry(path, "file", 0o644, size, lambda: io.BytesIO(content(known=True)))


def with_files(record: Entry, added: Iterable[Entry]) -> Entry:
    """Return a RECORD with the rows of further files, so that pip removes them with the others."""
    rows = [_row(entry.path, hash_of(entry), entry.size) for entry in added]
    with record.open() as stream, construct_record_file(rows) as more:
        content = stream.read() + more.read()
    return of_bytes(record.path, content)


def hash_of(entry: Entry) -> Hash:
    """Return the SHA-256 of a file, which is read in pieces."""
    with entry.open() as stream:
        return Hash("sha256", digest_of(stream, "sha256"))


def digest_of(stream: IO[bytes], algorithm: str) -> str:
    """Return the digest of a content as RECORD writes it."""
    found = hashlib.new(algorithm)
    while piece := stream.read(_CHUNK):
        found.update(piece)
    return written(found.digest())


def written(digest: bytes) -> str:
    """Return a digest as RECORD writes it."""
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _row(path: str, digest: Hash | None, size: int | None) -> tuple[Scheme, RecordEntry]:
    """Return a row, whose path is relative to site-packages."""
    scheme = Scheme("purelib")
    inside = path.removeprefix(f"{image_paths.SITE_PACKAGES}/")
    if inside == path:
        inside = "../../../" + path.removeprefix(f"{image_paths.PREFIX}/")
    return scheme, RecordEntry(inside, digest, size)
