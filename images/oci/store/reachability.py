"""Blobs reached from the index of a store: by the specification for `verify`, in any way for `gc`.

Specification: OCI Image Format 1.1, image-index.md ("manifests" may be indexes), manifest.md
("subject"), descriptor.md. A store is an OCI layout, and other programs may put into it what this
builder does not know: indexes of several platforms, signatures, media types to come. So `gc` does
not interpret documents: each digest that is written anywhere in one is kept, and the blob of that
digest is read in turn. Only of a document that cannot be read at all is it unknown what it needs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from images.oci.descriptor import INDEX_TYPE, MANIFEST_TYPE, digest_of
from images.oci.store.blobs import NOT_A_DOCUMENT, Blobs
from images.util import limits, untrusted_files, untrusted_json

UNDERSTOOD = frozenset(
    {
        MANIFEST_TYPE,
        INDEX_TYPE,
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    }
)
_ANY_DIGEST = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+")
"""A digest of any algorithm (OCI Image Format 1.1, descriptor.md, "Digests")."""

_NAMED = re.compile(rb"sha256:[0-9a-f]{64}")

Reference = tuple[str, dict[str, Any]]
"""The role of a referenced blob (`manifest`, `config`, `layer`), and its descriptor."""


@dataclass(frozen=True, slots=True)
class Reached:
    """Blobs that `gc` must keep.

    Attributes:
        digests: all that are named, whether they are there or not.
        unread: digests of documents that are missing or damaged: what they need is unknown.
    """

    digests: frozenset[str]
    unread: tuple[str, ...]


def references(blobs: Blobs, item: dict[str, Any]) -> Iterator[Reference]:
    """Yield an entry of the index and all that it refers to by the specification, itself first.

    Malformed descriptors are left out.
    """
    todo: list[Reference] = [("manifest", item)]
    seen = set()
    while todo:
        kind, descriptor = todo.pop()
        yield kind, descriptor
        digest = descriptor["digest"]
        if kind == "manifest" and digest not in seen and is_sha256(digest):
            seen.add(digest)
            with suppress(OSError, *NOT_A_DOCUMENT):
                content = untrusted_files.whole(blobs.path(digest), limits.DOCUMENT)
                todo += reversed(list(_in_document(untrusted_json.loads(content))))


def _in_document(document: dict[str, Any]) -> Iterator[Reference]:
    with suppress(*NOT_A_DOCUMENT):
        if "config" in document:
            yield "config", checked(document["config"])
        for kind in ("layers", "blobs", "manifests"):
            for inner in document.get(kind, []):
                yield kind.removesuffix("s"), checked(inner)


def checked(value: dict[str, Any]) -> dict[str, Any]:
    """Return a descriptor from outside if it has a digest, a size, and types that are text or null.

    Raises:
        One of `NOT_A_DOCUMENT`.
    """
    if not _ANY_DIGEST.fullmatch(value["digest"]):
        raise ValueError(f"{value['digest']!r} is not a digest")
    if type(value["size"]) is not int:
        raise TypeError(f"{value['size']!r} is not a size")
    for key in ("mediaType", "artifactType"):
        # Some programs write null for a type that they leave out.
        if not isinstance(found := value.get(key), (str, type(None))):
            raise TypeError(f"{found!r} is not a type")
    return value


def is_sha256(digest: str) -> bool:
    """Return whether a digest is of the one algorithm that is supported here."""
    return digest.startswith("sha256:")


def reached(blobs: Blobs, items: Sequence[dict[str, Any]]) -> Reached:
    """Return what entries of the index name, what is named there, and so on.

    Args:
        blobs: of the store.
        items: entries of the index. A manifest that only an index among them names may be missing:
            a copy of one platform leaves the others out.
    """
    roots = {item["digest"] for item in items}
    manifests = {
        descriptor["digest"]
        for item in items
        for kind, descriptor in references(blobs, item)
        if kind == "manifest" and is_sha256(descriptor["digest"])
    }
    found, unread = set(manifests), []
    todo = sorted(manifests)
    while todo:
        digest = todo.pop()
        content = _content(blobs, digest, digest in manifests)
        lost = content is None and digest in roots
        if lost or (content and digest in manifests and digest_of(content) != digest):
            unread.append(digest)
        new = {name.decode() for name in _NAMED.findall(content or b"")} - found
        found |= new
        todo += sorted(new)
    return Reached(frozenset(found), tuple(sorted(unread)))


def _content(blobs: Blobs, digest: str, is_manifest: bool) -> bytes | None:
    """Return a blob that may be a document; b"" if it is none, None if it cannot be read."""
    path = blobs.path(digest)
    try:
        with untrusted_files.open_regular(path) as stream:
            if os.fstat(stream.fileno()).st_size > limits.DOCUMENT:
                return b""
            if not is_manifest and stream.read(1) not in (b"{", b"[", b" ", b"\n"):
                return b""
        return untrusted_files.whole(path, limits.DOCUMENT)
    except OSError:
        return None
