"""The image as a standard OCI layout directory.

Specification: OCI image layout 1.0 (image-layout.md), OCI image manifest 1.1. skopeo, podman and
umoci open it as `oci:DIR:REF`. The index names the image only when all of it is there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Sequence

from images.errors import UsageError
from images.unbundle.destinations import disk
from images.unbundle.document import Bundle, Layer, digest
from images.unbundle.sources.layer_source import LayerSource
from images.util import limits, untrusted_files

ORIGINAL = "roll.bundle.manifest"
"""Annotation of a manifest of uncompressed layers: the digest of the original manifest."""

_REF = "org.opencontainers.image.ref.name"
_TAR = "application/vnd.oci.image.layer.v1.tar"
_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class Layout:
    """A destination: blobs, each named by its digest once it is complete.

    Args:
        path: a new or empty directory, or a layout that the image is added to.
        bundle: the bundle.
        layers: false for the manifest and the config alone.

    Raises:
        UsageError: the directory has other content, or another run is writing there.
    """

    def __init__(self, path: Path, bundle: Bundle, *, layers: bool = True) -> None:
        self.path = path.absolute()
        self._bundle, self._layers = bundle, layers
        ours = {"blobs", "index.json", "index.json.new", "oci-layout", ".unpack-lock", ".roll"}
        if self.path.exists() and (
            not self.path.is_dir() or {child.name for child in self.path.iterdir()} - ours
        ):
            raise UsageError(f"{self.path}: not an OCI layout", remedy="name another directory")
        self._blobs = self.path / "blobs" / "sha256"
        self._blobs.mkdir(parents=True, exist_ok=True)
        busy = f"{self.path}: another run is writing there"
        self._lock = self.path / ".unpack-lock"
        self._locked = disk.hold(self._lock, busy)
        self._manifest: str | None = None

    def has(self, layer: Layer) -> bool:
        """Return whether a layer's blob or tar is there."""
        return not self._layers or self._found(layer) is not None

    def ready(self, layer: Layer) -> bool:
        """Return true: a blob needs no other."""
        return True

    def take(self, layer: Layer, source: LayerSource) -> None:
        """Write a layer: its blob or, if that is not available, its tar."""
        pieces = source.tar() if source.blob is None else source.blob()
        name = layer.diff_id if source.blob is None else layer.digest
        try:
            with disk.unfinished(self._blobs / name[7:]) as out:
                for piece in pieces:
                    out.write(piece)
        finally:
            disk.close(pieces)

    def finish(self) -> None:
        """Write manifest and config, and name the image in the index; all layers are there."""
        for content in (self._bundle.manifest, self._bundle.config):
            self._put(content.encode())
        manifest = self._bundle.manifest.encode()
        if self._layers and self.rebuilt():
            manifest = self._manifest_of_tars()
            self._put(manifest)
        self._manifest = digest(manifest)
        descriptor = {
            "annotations": {_REF: self._bundle.ref},
            "digest": self._manifest,
            "mediaType": _MANIFEST,
            "platform": {"architecture": "amd64", "os": "linux"},
            "size": len(manifest),
        }
        index = self._index()
        others = [item for item in index["manifests"] if _name(item) != self._bundle.ref]
        index["manifests"] = [*others, descriptor]
        disk.replace(self.path / "index.json", json.dumps(index, indent=1).encode())
        disk.replace(self.path / "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        for left in [*self._blobs.glob("*.new"), self._lock]:
            left.unlink()

    def rebuilt(self) -> list[Layer]:
        """Return the layers that are here as tars, since their blobs were not in the bundle."""
        return [layer for layer in self._bundle.layers if self._found(layer) == layer.diff_id]

    def flush(self) -> None:
        """Do nothing: every blob was synced before it was named."""

    def how_to(self) -> Sequence[str]:
        """Return commands that use it, for people."""
        if not self._layers:
            return (f"{self.path}: manifest and config only",)
        ref, name = self._bundle.ref, f"roll-sglang:{self._bundle.ref}"
        lines = [
            f"skopeo copy oci:{self.path}:{ref} docker-daemon:{name}",
            f"podman pull oci:{self.path}:{ref}",
            f"tar -C {self.path} -c blobs index.json oci-layout | docker load"
            "  # Docker 25 or later with the containerd image store",
        ]
        rebuilt = self.rebuilt()
        if rebuilt:
            lines.append(
                f"note: {len(rebuilt)} layers were rebuilt from files of this machine and are "
                f"uncompressed here; so the manifest is {self._manifest}; the image id is the "
                f"same: {self._bundle.config_digest}"
            )
        return lines

    def _found(self, layer: Layer) -> str | None:
        if self._size(layer.digest) == layer.size:
            return layer.digest
        return layer.diff_id if self._size(layer.diff_id) is not None else None

    def _manifest_of_tars(self) -> bytes:
        head = json.loads(self._bundle.manifest)
        for item, layer in zip(head["layers"], self._bundle.layers):
            if self._found(layer) == layer.diff_id:
                item.update(digest=layer.diff_id, mediaType=_TAR, size=self._size(layer.diff_id))
        head.setdefault("annotations", {})[ORIGINAL] = self._bundle.manifest_digest
        return json.dumps(head, sort_keys=True, separators=(",", ":")).encode()

    def _index(self) -> dict[str, Any]:
        path = self.path / "index.json"
        try:
            index: dict[str, Any] = json.loads(untrusted_files.whole(path, limits.LIST))
            index["manifests"] = list(index["manifests"])
            for item in index["manifests"]:
                _name(item)
        except FileNotFoundError:
            return {"manifests": [], "mediaType": _INDEX, "schemaVersion": 2}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UsageError(
                f"{path}: not an OCI image index: {error!r}", remedy="name another directory"
            ) from error
        return index

    def _put(self, content: bytes) -> None:
        path = self._blobs / digest(content)[7:]
        if not path.is_file() or path.stat().st_size != len(content):
            disk.replace(path, content)

    def _size(self, name: str) -> int | None:
        try:
            return (self._blobs / name[7:]).stat().st_size
        except FileNotFoundError:
            return None


def _name(item: Any) -> str | None:
    return (item.get("annotations") or {}).get(_REF) if isinstance(item, dict) else None
