"""Comparison of an image of the store with the images of a Docker daemon."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from images.errors import BuildError, UsageError
from images.oci.image import Image
from images.oci.reference import NAME, TAG
from images.oci.store.store import Store
from images.util import untrusted_json

_FULL_NAME = re.compile(
    r"(?:(?P<host>[A-Za-z0-9.-]+(?::\d+)?)/)?(?P<path>[A-Za-z0-9._/-]+)"
    rf"(?::(?P<tag>{TAG.pattern}))?"
)


def full_name(name: str) -> str:
    """Return a name with the parts that Docker lets people leave out: registry, namespace, tag.

    Raises:
        UsageError: it is not an image name; some daemons would keep it all the same, and could
            then never be rid of it.
    """
    match = _FULL_NAME.fullmatch(name)
    if match is None:
        raise UsageError(
            f"{name!r} is not an image name", remedy="for example --tag registry:5000/team/name:tag"
        )
    host, path, tag = match["host"], match["path"], match["tag"] or "latest"
    if host and not ("." in host or ":" in host or host == "localhost"):
        host, path = None, f"{host}/{path}"
    if host is None:
        host, path = "docker.io", path if "/" in path else f"library/{path}"
    if NAME.fullmatch(path) is None:
        raise UsageError(
            f"{name!r} is not an image name", remedy="its path has lower-case letters only"
        )
    return f"{host}/{path}:{tag}"


def is_same(attributes: Mapping[str, Any], image: Image) -> bool:
    """Return whether the daemon's image has the same layers and config, whatever its id."""
    config = attributes.get("Config") or {}
    return (
        attributes["RootFS"].get("Layers") == [layer.blob.diff_id for layer in image.layers]
        and config.get("Env") == [f"{name}={value}" for name, value in image.env.items()]
        and config.get("Labels") == dict(image.labels)
    )


def blobs_of(manifest_digest: str, store: Store) -> list[str]:
    """Return the digests of an image's layers; none if the store does not have its manifest."""
    try:
        manifest = untrusted_json.loads(store.blobs.read(manifest_digest))
        return [str(layer["digest"]) for layer in manifest["layers"]]
    except (BuildError, ValueError, KeyError):
        return []


def common(ours: Sequence[str], theirs: Sequence[str]) -> int:
    """Return the length of the common prefix of two lists."""
    pairs = enumerate(zip(ours, theirs, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(ours), len(theirs)))
