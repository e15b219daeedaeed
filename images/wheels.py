"""A wheel to the files that it installs, read straight from the zip.

Specification: PyPA binary distribution format and recording installed projects,
https://packaging.python.org/specifications/. The `installer` library reads the wheel's metadata,
makes its scripts and writes its RECORD; nothing is unpacked to disk.
"""

from __future__ import annotations

import base64
import binascii
import configparser
import hashlib
import io
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from installer.exceptions import InstallerError
from installer.records import Hash, InvalidRecordEntry, RecordEntry, parse_record_file
from installer.scripts import Script
from installer.sources import WheelFile
from installer.utils import (
    Scheme,
    construct_record_file,
    fix_shebang,
    parse_entrypoints,
    parse_metadata_file,
)

from images import layout, limits, zipfaults, zipmember
from images.entry import Entry, of_bytes
from images.errors import IntegrityError

_INSTALLER = b"roll-sglang-images\n"
_PYTHON = f"/{layout.BIN}/python"
_CHUNK = 1 << 20
_HASHES = frozenset({"sha256", "sha384", "sha512"})  # RECORD's must be SHA-256 or better
_MALFORMED = (
    *zipfaults.MALFORMED,
    InstallerError,
    InvalidRecordEntry,
    configparser.Error,
    AssertionError,  # what `installer` says of an entry point that it cannot read
    KeyError,
)


@dataclass(frozen=True)
class Wheel:
    """An open wheel whose structure was checked.

    Attributes:
        path: the file.
        members: the zip's members by their name in the zip.
        records: the hash that RECORD gives for each of them.
        misrecorded: whether RECORD is known to be wrong. Then the lock's hash of the whole wheel
            stands for its content, and the image's RECORD gets the true hashes.
    """

    path: Path
    source: WheelFile
    members: dict[str, zipfile.ZipInfo] = field(repr=False)
    records: dict[str, Hash | None] = field(repr=False)
    misrecorded: bool = False

    @property
    def name(self) -> str:
        """The file's name, for messages."""
        return self.path.name


@contextmanager
def opened(path: Path, *, misrecorded: bool = False) -> Iterator[Wheel]:
    """Open a wheel; everything that is read from it while it is open is checked.

    Args:
        path: the wheel.
        misrecorded: its RECORD is known to give a wrong hash for some of its files.

    Raises:
        IntegrityError: not a zip, no wheel's metadata, a member that leaves the prefix, is a
            link or device or comes twice, names that differ in case alone, more or larger files
            than software has, a RECORD that does not list exactly what the zip holds, or content
            with another hash than RECORD's.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(path, archive)
            source = WheelFile(archive)
            version = str(parse_metadata_file(source.read_dist_info("WHEEL"))["Wheel-Version"])
            if not version.startswith("1."):
                raise ValueError(f"Wheel-Version {version}")
            records = _records(path.name, source, members)
            yield Wheel(path, source, members, records, misrecorded)
    except _MALFORMED as error:
        raise IntegrityError(f"{path.name}: not a valid wheel: {error}") from error


def _members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    name = path.name
    members: dict[str, zipfile.ZipInfo] = {}
    cases: dict[str, str] = {}
    infos = archive.infolist()
    unpacked = sum(info.file_size for info in infos)
    limits.check(name, len(infos), unpacked, path.stat().st_size)
    for info in infos:
        if info.header_offset < 0:  # neither zipfile nor the system takes it for damage
            raise zipfile.BadZipFile(f"{info.filename}: its header lies before the file")
        if info.is_dir():
            continue
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise IntegrityError(f"{name}: {info.filename}: a link or device, not a file")
        parts = info.filename.split("/")
        if "\\" in info.filename or any(part in ("", ".", "..") for part in parts):
            raise IntegrityError(f"{name}: {info.filename}: leaves the prefix")
        if info.filename in members:
            raise IntegrityError(f"{name}: {info.filename}: comes twice")
        # One file would replace the other on a disk that knows no case: no image depends on it.
        first = cases.setdefault(info.filename.casefold(), info.filename)
        if first != info.filename:
            raise IntegrityError(
                f"{name}: {info.filename}: differs from {first} in upper and lower case alone"
            )
        if info.file_size > limits.IN_MEMORY and _is_read_whole(info.filename):
            raise IntegrityError(
                f"{name}: {info.filename}: {info.file_size} bytes; {limits.IN_MEMORY} are the "
                "limit of a source, a script or metadata"
            )
        members[info.filename] = info
    return members


def _is_read_whole(member: str) -> bool:
    head, _, rest = member.partition("/")
    return member.endswith(".py") or head.endswith(".dist-info") or rest.startswith("scripts/")


def _records(
    name: str, source: WheelFile, members: dict[str, zipfile.ZipInfo]
) -> dict[str, Hash | None]:
    records = {
        path: Hash.parse(digest) if digest else None
        for path, digest, _ in parse_record_file(source.read_dist_info("RECORD").splitlines())
    }
    for path in members.keys() - records.keys() - _not_recorded(source):
        raise IntegrityError(f"{name}: {path}: not in RECORD")
    for path in records.keys() - members.keys():
        raise IntegrityError(f"{name}: {path}: in RECORD, but not in the wheel")
    return records


def _not_recorded(source: WheelFile) -> set[str]:
    """Signatures, which sign RECORD and so cannot be in it; they do not hold for ours."""
    return {f"{source.dist_info_dir}/{name}" for name in ("RECORD.jws", "RECORD.p7s")}


def entries(wheel: Wheel) -> Iterator[Entry]:
    """What installing the wheel puts into the image, in a fixed order; content is read lazily."""
    rows = []
    wrong = 0
    record = f"{wheel.source.dist_info_dir}/RECORD"
    left_out = {record, *_not_recorded(wheel.source)}
    for member in sorted(wheel.members):
        if member not in left_out:
            entry = _installed(wheel, member)
            digest = wheel.records[member]
            if entry.path.startswith(f"{layout.BIN}/"):
                digest = _hash_of(entry)
            elif wheel.misrecorded:
                digest, said = _hash_of(entry), digest
                wrong += digest != said
            rows.append(_row(entry.path, digest, entry.size))
            yield entry
    if wheel.misrecorded and not wrong:
        raise IntegrityError(
            f"{wheel.name}: its RECORD is right", remedy="take it off `misrecorded:` in matrix.yaml"
        )
    for entry in _generated(wheel):
        rows.append(_row(entry.path, _hash_of(entry), entry.size))
        yield entry
    record = f"{layout.SITE_PACKAGES}/{record}"
    with construct_record_file([*rows, _row(record, None, None)]) as stream:
        yield of_bytes(record, stream.read())


def _installed(wheel: Wheel, member: str) -> Entry:
    info = wheel.members[member]
    path, is_script = _destination(wheel, member)
    if is_script:
        with _content(wheel, info) as stream:
            raw = io.BytesIO(stream.read())
        with fix_shebang(raw, _PYTHON) as fixed:
            return of_bytes(path, fixed.read(), 0o755)
    # A wheel's own modes say who packed it; only "executable" is a property of the file.
    mode = 0o755 if info.external_attr >> 16 & 0o111 else 0o644
    return Entry(path, "file", mode, info.file_size, lambda: _content(wheel, info))


def _destination(wheel: Wheel, member: str) -> tuple[str, bool]:
    """Where a member goes in the image, and whether it is a script."""
    head, _, rest = member.partition("/")
    if not (rest and head.endswith(".data")):  # as pip has it, whatever stands before it
        return f"{layout.SITE_PACKAGES}/{member}", False
    scheme, _, path = rest.partition("/")
    roots = {
        "purelib": layout.SITE_PACKAGES,
        "platlib": layout.SITE_PACKAGES,
        "scripts": layout.BIN,
        "data": layout.PREFIX,
        "headers": f"{layout.PREFIX}/include/site/python{layout.PYTHON}/"
        f"{wheel.source.distribution}",
    }
    if scheme not in roots or not path:
        raise IntegrityError(f"{wheel.name}: {member}: no such installation scheme")
    return f"{roots[scheme]}/{path}", scheme == "scripts"


def _generated(wheel: Wheel) -> Iterator[Entry]:
    if "entry_points.txt" in wheel.source.dist_info_filenames:
        text = wheel.source.read_dist_info("entry_points.txt")
        for name, module, attribute, section in sorted(parse_entrypoints(text)):
            file_name, content = Script(name, module, attribute, section).generate(_PYTHON, "posix")
            yield of_bytes(f"{layout.BIN}/{file_name}", content, 0o755)
    yield of_bytes(f"{layout.SITE_PACKAGES}/{wheel.source.dist_info_dir}/INSTALLER", _INSTALLER)


def _row(path: str, digest: Hash | None, size: int | None) -> tuple[Scheme, RecordEntry]:
    """A line of RECORD, whose paths are relative to site-packages."""
    scheme = Scheme("purelib")
    inside = path.removeprefix(f"{layout.SITE_PACKAGES}/")
    if inside == path:
        inside = "../../../" + path.removeprefix(f"{layout.PREFIX}/")
    return scheme, RecordEntry(inside, digest, size)


def _hash_of(entry: Entry) -> Hash:
    found = hashlib.sha256()
    with entry.open() as stream:
        while piece := stream.read(_CHUNK):
            found.update(piece)
    value = base64.urlsafe_b64encode(found.digest())
    return Hash("sha256", value.decode().rstrip("="))


def _content(wheel: Wheel, info: zipfile.ZipInfo) -> IO[bytes]:
    if wheel.misrecorded:
        return cast(IO[bytes], zipmember.Member(wheel.path, info))
    where = f"{wheel.name}: {info.filename}"
    expected = wheel.records[info.filename]
    if expected is None or expected.name not in _HASHES:
        raise IntegrityError(f"{where}: RECORD gives no hash for it")
    return cast(IO[bytes], _Checked(zipmember.Member(wheel.path, info), expected, where))


class _Checked:
    """A member's content; reading its end compares the hash with RECORD's."""

    def __init__(self, stream: zipmember.Member, expected: Hash, where: str) -> None:
        self._stream = stream
        self._expected = expected
        self._where = where
        self._hash = hashlib.new(expected.name)

    def __enter__(self) -> _Checked:
        return self

    def __exit__(self, *exc: Any) -> None:
        self._stream.close()

    def read(self, size: int = -1, /) -> bytes:
        piece = self._stream.read(size)
        if piece:
            self._hash.update(piece)
        if not piece or size < 0:
            self._compare()
        return piece

    def _compare(self) -> None:
        try:
            padded = self._expected.value + "=" * (-len(self._expected.value) % 4)
            expected = base64.urlsafe_b64decode(padded)
        except (binascii.Error, ValueError):
            expected = b""
        if self._hash.digest() != expected:
            raise IntegrityError(
                f"{self._where}: its content does not have the hash that RECORD gives",
                remedy="it was published so, as the wheel has its locked hash: if that is meant to "
                "be, list the distribution under `misrecorded:` in matrix.yaml with the reason",
            )
