"""The requirements of an sdist, read from its metadata; none of its code runs.

Specification: core metadata, https://packaging.python.org/specifications/core-metadata/
(`PKG-INFO`); older setuptools write requirements into `NAME.egg-info/requires.txt` alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from email.parser import BytesHeaderParser
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from images.errors import LockError
from images.formats import sdist_archive
from images.util import limits


def requires(path: Path) -> list[str]:
    """Return the requirements as PEP 508 strings; those of extras have a marker that names it.

    Args:
        path: the `.tar.gz`.

    Raises:
        LockError: it is not an sdist, or its metadata is malformed.
    """
    try:
        documents = _documents(path)
        found = _of_setuptools(documents) or _of_metadata(documents)
        return [str(Requirement(line)) for line in found]
    except (*sdist_archive.MALFORMED, InvalidRequirement) as error:
        raise LockError(
            f"{path.name}: its requirements cannot be read: {error}",
            remedy="pin another version, or add a wheel of it (`wheels:` in matrix.yaml)",
        ) from error


def _documents(path: Path) -> dict[str, bytes]:
    """Return the metadata files by name, without the archive's top directory."""
    found = {}
    for archive, member in sdist_archive.members(path):
        name = member.name.partition("/")[2]
        if member.isfile() and name.endswith(("PKG-INFO", ".egg-info/requires.txt")):
            if member.size > limits.METADATA:
                raise ValueError(f"{member.name}: {member.size} bytes")
            content = archive.extractfile(member)
            found[name] = content.read() if content else b""
    return found


def _of_metadata(documents: dict[str, bytes]) -> list[str]:
    if (text := documents.get("PKG-INFO")) is None:
        raise ValueError("it has no PKG-INFO")
    return [str(line) for line in BytesHeaderParser().parsebytes(text).get_all("Requires-Dist", [])]


def _of_setuptools(documents: dict[str, bytes]) -> list[str]:
    texts = [text for name, text in documents.items() if name.endswith("requires.txt")]
    return [line for text in texts for line in _lines(text.decode())]


def _lines(text: str) -> Iterator[str]:
    """Yield requirements; a section's name is `[EXTRA:MARKER]`, of which either may be missing."""
    section = ""
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("["):
            extra, _, marker = line.strip("[]").partition(":")
            parts = [f"({marker})"] if marker else []
            parts += [f'extra == "{extra}"'] if extra else []
            section = f" ; {' and '.join(parts)}"
        else:
            yield line + section
