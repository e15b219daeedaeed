"""Reader of wheels: the files that a wheel installs, straight from the zip.

Specification: PyPA binary distribution format and recording installed projects,
https://packaging.python.org/specifications/. The `installer` library reads the wheel's metadata,
makes its scripts and writes its RECORD; nothing is unpacked to disk.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import stat
import zipfile
from collections.abc import Collection, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

from installer.exceptions import InstallerError
from installer.records import Hash
from installer.scripts import Script
from installer.sources import WheelFile
from installer.utils import fix_shebang, parse_metadata_file

from images import image_paths
from images.errors import IntegrityError
from images.formats import (
    entry_points,
    wheel_changes,
    wheel_licence,
    wheel_record,
    zip_errors,
    zip_member,
)
from images.formats.wheel_changes import Changes
from images.oci.layer.entry import Entry, is_whiteout, of_bytes
from images.util import limits

_INSTALLER = b"roll-sglang-images\n"
_PYTHON = f"/{image_paths.BIN}/python"
_ROOTS = {
    "purelib": image_paths.SITE_PACKAGES,
    "platlib": image_paths.SITE_PACKAGES,
    "scripts": image_paths.BIN,
    "data": image_paths.PREFIX,
}
_HEADERS = f"{image_paths.PREFIX}/include/site/python{image_paths.PYTHON}"
_HASHES = frozenset({"sha256", "sha384", "sha512"})  # RECORD's must be SHA-256 or better
_MALFORMED = (*zip_errors.MALFORMED, InstallerError, KeyError)


@dataclass(frozen=True)
class Wheel:
    """An open wheel whose structure was checked.

    Attributes:
        path: the file.
        members: the zip's members by their name in the zip.
        records: the content of RECORD.
        scripts: those that its entry points declare.
        misrecorded: whether RECORD is known to be wrong. Then the lock's hash of the whole wheel
            vouches for its content, and the image's RECORD gets the true paths and hashes.
    """

    path: Path
    source: WheelFile
    members: dict[str, zipfile.ZipInfo] = field(repr=False)
    records: wheel_record.Records = field(repr=False)
    scripts: tuple[Script, ...] = field(repr=False)
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
        misrecorded: whether its RECORD is known to be wrong.

    Raises:
        IntegrityError: it is not a zip, or has no wheel metadata, a member that leaves the prefix,
            is a link or device or occurs twice, names that differ in case alone, more or larger
            files than software has, a RECORD that does not list exactly the zip's files, or
            content with another hash than RECORD's.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(path, archive)
            source = WheelFile(archive)
            version = str(parse_metadata_file(source.read_dist_info("WHEEL"))["Wheel-Version"])
            if not version.startswith("1."):
                raise ValueError(f"Wheel-Version {version}")
            yield Wheel(
                path,
                source,
                members,
                wheel_record.read(
                    path.name,
                    lambda: source.read_dist_info("RECORD"),
                    members.keys(),
                    _not_recorded(source),
                    misrecorded=misrecorded,
                ),
                tuple(_scripts(path.name, source)),
                misrecorded,
            )
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
        if info.header_offset < 0:  # neither zipfile nor seek() reports it
            raise zipfile.BadZipFile(f"{info.filename}: its header is before the file's start")
        if info.is_dir():
            continue
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise IntegrityError(f"{name}: {info.filename}: a link or device, not a file")
        parts = info.filename.split("/")
        if "\\" in info.filename or any(part in ("", ".", "..") for part in parts):
            raise IntegrityError(f"{name}: {info.filename}: leaves the prefix")
        if is_whiteout(info.filename):  # the layer writer refuses it too, without the wheel's name
            raise IntegrityError(
                f"{name}: {info.filename}: named like a whiteout, for which an engine would remove "
                "a file of a lower layer",
                remedy="lock another version of the distribution, or leave it out",
            )
        if info.filename in members:
            raise IntegrityError(f"{name}: {info.filename}: occurs twice")
        # One file would replace the other on a case-insensitive disk: no image depends on that.
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


def _scripts(name: str, source: WheelFile) -> list[Script]:
    if "entry_points.txt" not in source.dist_info_filenames:
        return []
    return entry_points.scripts(name, source.read_dist_info("entry_points.txt"))


def _not_recorded(source: WheelFile) -> set[str]:
    """Return the signatures' paths. They sign RECORD, so it cannot list them, and the image gets
    another RECORD, which they would not fit."""
    return {f"{source.dist_info_dir}/{name}" for name in ("RECORD.jws", "RECORD.p7s")}


def entries(
    wheel: Wheel, left_out: Container[str] = (), changes: Changes | None = None
) -> Iterator[Entry]:
    """Yield what the wheel installs in the image, in a fixed order; content is read lazily.

    Args:
        wheel: the wheel.
        left_out: paths in the image that belong to another distribution.
        changes: to its files; RECORD has the hashes of what is installed.

    Raises:
        IntegrityError: RECORD is correct although `misrecorded`, or the wheel's licence is not the
            one that permits the changes; reading content raises it as well.
    """
    if changes and changes.licence:
        _check_licence(wheel, changes.licence)
    rows: list[wheel_record.Row] = []
    wrong = wheel.records.faulty
    for member in _to_install(wheel):
        entry = _installed(wheel, member)
        digest = wheel.records.hashes.get(member)
        wrong |= wheel.misrecorded and not _is_recorded(wheel, member, digest)
        if entry.path in left_out:
            continue
        if wheel.misrecorded or entry.path.startswith(f"{image_paths.BIN}/"):
            digest = wheel_record.hash_of(entry)
        if changes and changes.leaves_out(entry, digest):
            continue
        again = partial(_content, wheel, wheel.members[member], checked=False)
        if changes and (changed := changes.changed(entry, digest, again)):
            rows.append(wheel_record.Row(changed.entry, changed.digest))
            yield changed.entry
        else:
            rows.append(wheel_record.Row(entry, digest))
            yield entry
    if wheel.misrecorded and not wrong:
        raise IntegrityError(
            f"{wheel.name}: its RECORD is correct",
            remedy="remove it from `misrecorded:` in matrix.yaml",
        )
    info = f"{image_paths.SITE_PACKAGES}/{wheel.source.dist_info_dir}"
    note = changes.note(f"{info}/{wheel_changes.NOTE}") if changes else None
    for entry in (*_generated(wheel), *((note,) if note else ())):
        if entry.path not in left_out:
            rows.append(wheel_record.Row(entry, wheel_record.hash_of(entry)))
            yield entry
    yield wheel_record.installed(f"{info}/RECORD", rows)


def _check_licence(wheel: Wheel, licence: str) -> None:
    info = wheel.source.dist_info_dir
    names = [name for name in wheel.members if wheel_licence.is_text(name, info)]
    texts = {name: _text(wheel, name) for name in names}
    metadata = parse_metadata_file(wheel.source.read_dist_info("METADATA"))
    wheel_licence.check(wheel.name, licence, texts, metadata)


def _text(wheel: Wheel, member: str) -> str:
    with _content(wheel, wheel.members[member]) as stream:
        return stream.read().decode("utf-8", "replace")


def _to_install(wheel: Wheel) -> list[str]:
    """Return the members that are installed, sorted.

    A script that an entry point of its name replaces is not among them: pip leaves it out as well.
    """
    replaced = {script.name for script in wheel.scripts}
    own = {f"{wheel.source.dist_info_dir}/RECORD", *_not_recorded(wheel.source)}
    return [
        member
        for member in sorted(wheel.members.keys() - own)
        if not (replaced and _script_name(member) in replaced)
    ]


def _script_name(member: str) -> str:
    """Return the name of a script in the wheel; "" for any other file."""
    head, _, rest = member.partition(".data/scripts/")
    return "" if "/" in head else rest


def _is_recorded(wheel: Wheel, member: str, recorded: Hash | None) -> bool:
    """Return whether RECORD has a member's true hash."""
    if recorded is None or recorded.name not in _HASHES:
        return False
    with _content(wheel, wheel.members[member]) as stream:
        return wheel_record.digest_of(stream, recorded.name) == recorded.value.rstrip("=")


def _installed(wheel: Wheel, member: str) -> Entry:
    info = wheel.members[member]
    path, is_script = destination(wheel.name, wheel.source.distribution, member)
    if is_script:
        with _content(wheel, info) as stream:
            raw = io.BytesIO(stream.read())
        with fix_shebang(raw, _PYTHON) as fixed:
            return of_bytes(path, fixed.read(), 0o755)
    # A wheel's modes depend on who packed it; only "executable" is a property of the file.
    mode = 0o755 if info.external_attr >> 16 & 0o111 else 0o644
    return Entry(path, "file", mode, info.file_size, lambda: _content(wheel, info))


def destination(wheel: str, distribution: str, member: str) -> tuple[str, bool]:
    """Return the path of a member in the image, and whether it is a script.

    Args:
        wheel: the wheel's file name, for messages.
        distribution: the distribution's name, as the file name has it.
        member: a file in the wheel.

    Raises:
        IntegrityError: it has no path there.
    """
    head, _, rest = member.partition("/")
    if not (rest and head.endswith(".data")):  # like pip, whatever comes before `.data`
        return f"{image_paths.SITE_PACKAGES}/{member}", False
    scheme, _, path = rest.partition("/")
    if scheme not in ("headers", *_ROOTS) or not path:
        raise IntegrityError(f"{wheel}: {member}: no such installation scheme")
    if scheme == "headers":
        return f"{_HEADERS}/{distribution}/{path}", False
    return f"{_ROOTS[scheme]}/{path}", scheme == "scripts"


def hashes(wheel: Wheel, paths: Collection[str]) -> dict[str, str]:
    """Return the SHA-256, as RECORD writes it, of the files that are installed at some paths."""
    found, wanted = {}, set(paths)
    for member in _to_install(wheel):
        path, is_script = destination(wheel.name, wheel.source.distribution, member)
        if path in wanted:
            hashed = wheel.records.hashes.get(member)
            if not hashed or hashed.name != "sha256" or is_script or wheel.misrecorded:
                hashed = wheel_record.hash_of(_installed(wheel, member))
            found[path] = hashed.value
    for entry in _generated(wheel):
        if entry.path in wanted:
            found[entry.path] = wheel_record.hash_of(entry).value
    return found


def _generated(wheel: Wheel) -> Iterator[Entry]:
    for script in wheel.scripts:
        name, content = script.generate(_PYTHON, "posix")
        yield of_bytes(f"{image_paths.BIN}/{name}", content, 0o755)
    yield of_bytes(
        f"{image_paths.SITE_PACKAGES}/{wheel.source.dist_info_dir}/INSTALLER", _INSTALLER
    )


def _content(wheel: Wheel, info: zipfile.ZipInfo, *, checked: bool = True) -> IO[bytes]:
    """Open a member; without `checked` its CRC alone is compared, not its hash in RECORD."""
    if wheel.misrecorded or not checked:
        return cast(IO[bytes], zip_member.Member(wheel.path, info))
    where = f"{wheel.name}: {info.filename}"
    expected = wheel.records.hashes[info.filename]
    if expected is None or expected.name not in _HASHES:
        raise IntegrityError(f"{where}: RECORD has no hash for it", remedy=wheel_record.REMEDY)
    return cast(IO[bytes], _Checked(zip_member.Member(wheel.path, info), expected, where))


class _Checked:
    """A member's content; reading its end checks the hash against RECORD."""

    def __init__(self, stream: zip_member.Member, expected: Hash, where: str) -> None:
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
                f"{self._where}: its content does not have the hash in RECORD",
                remedy=wheel_record.REMEDY,
            )
