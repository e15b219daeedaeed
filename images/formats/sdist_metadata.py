"""What an sdist requires, read from its documents: nothing of it is run.

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
    """The requirements, as PEP 508 strings; those of extras have a marker that says so.

    Args:
        path: the `.tar.gz`.

    Raises:
        LockError: it is no sdist, or its documents do not have their form.
    """
    try:
        documents = _documents(path)
        found = _of_setuptools(documents) or _of_metadata(documents)
        return [str(Requirement(line)) for line in found]
    except (*sdist_archive.MALFORMED, InvalidRequirement) as error:
        raise LockError(
            f"{path.name}: what it requires cannot be read from it: {error}",
            remedy="pin another version, or bring a wheel of it (`wheels:` in matrix.yaml)",
        ) from error


def _documents(path: Path) -> dict[str, bytes]:
    """The documents by their name, without the directory that holds all."""
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
    """Requirements; a section's name is `[EXTRA:MARKER]`, of which either may be missing."""
    section = ""
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("["):
            extra, _, marker = line.strip("[]").partition(":")
            parts = [f"({marker})"] if marker else []
            parts += [f'extra == "{extra}"'] if extra else []
            section = f" ; {' and '.join(parts)}"
        else:
            yield line + section
