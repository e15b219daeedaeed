"""References of custom bases: `REGISTRY/REPOSITORY[:TAG]@sha256:…`, `oci:DIRECTORY[:TAG]@sha256:…`.

The forms of `FROM` in a Dockerfile and of containers/image's `oci:` transport. Only the digest is
used: that of a manifest, or of an index with one for linux/amd64. A tag is for the reader.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from images.errors import UsageError
from images.oci import reference
from images.oci.descriptor import DIGEST
from images.oci.reference import Repository

_LAYOUT = "oci:"


@dataclass(frozen=True, slots=True)
class BaseReference:
    """An image by its digest, with its location.

    Attributes:
        name: the reference as written, without the digest.
        digest: `sha256:…`.
        repository: its repository in a registry; None if it is in an OCI layout.
        layout: the directory of the OCI layout, as written; "" if it is in a registry.
    """

    name: str
    digest: str
    repository: Repository | None
    layout: str

    def __str__(self) -> str:
        return f"{self.name}@{self.digest}"

    def directory(self, matrix: Path) -> Path:
        """Return the layout's directory; a relative one is relative to the matrix file."""
        return matrix.parent / self.layout


def parse(text: str) -> BaseReference:
    """Parse a reference.

    Raises:
        UsageError: the text is not a reference; the message has the command that finds the digest.
    """
    name, at, digest = text.partition("@")
    if not at:
        raise UsageError(
            f"{text!r} names no digest: a tag may move to another image",
            remedy=f"write {text}@sha256:…, with the digest that this prints: "
            f"skopeo inspect --format '{{{{.Digest}}}}' {_transport(text)}",
        )
    if not DIGEST.fullmatch(digest):
        raise UsageError(
            f"{text!r}: {digest!r} is no digest: sha256: and 64 hexadecimal digits",
            remedy="write the digest of the base's manifest in full",
        )
    if name.startswith(_LAYOUT):
        layout = name.removeprefix(_LAYOUT).partition(":")[0]
        if not layout:
            raise UsageError(f"{text!r} names no directory", remedy="write oci:DIRECTORY@sha256:…")
        return BaseReference(name, digest, None, layout)
    return BaseReference(name, digest, reference.parse(name)[0], "")


def wrong(text: str) -> str | None:
    """Check a reference; return its fault in one line, or None."""
    try:
        parse(text)
    except UsageError as error:
        return f"{error.message} ({error.remedy})" if error.remedy else error.message
    return None


def _transport(text: str) -> str:
    return text if text.startswith(_LAYOUT) else f"docker://{text}"
