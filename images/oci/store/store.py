"""A content-addressed store that is a standard OCI image layout directory.

Specification: OCI image layout 1.0, https://github.com/opencontainers/image-spec (image-layout.md).
skopeo, umoci and podman open it as `oci:STORE:TARGET`. Beside the layout's own files there is
`.roll/`: the layer keys (which blob was made from which inputs), the layers that are in a registry
instead, unfinished blobs, and locks.

Nothing is ever changed in place. A blob gets its name only when it is whole and on disk; the index
is replaced by a rename under a lock. So a build may be killed at any moment, and builds may run
side by side.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from images.errors import IntegrityError, StoreError, UsageError
from images.oci import image, referrer
from images.oci.descriptor import MANIFEST_TYPE, REF_NAME
from images.oci.image import Image
from images.oci.referrer import Referrer
from images.oci.store.blobs import NOT_A_DOCUMENT, Blobs
from images.oci.store.files import PRIVATE, Files, disk
from images.oci.store.index import Index
from images.oci.store.layer_keys import LayerKeys
from images.oci.store.remote_layers import RemoteLayers
from images.util import limits, untrusted_json

_LAYOUT = {"imageLayoutVersion": "1.0.0"}


class ForeignError(IntegrityError):
    """An image that another program put into the store: it is kept and not used."""


class Store:
    """A store on disk, with its images and the documents about them.

    `open_store` makes or opens one; `images.oci.store.maintenance` verifies it and removes what no
    image needs.

    Args:
        path: its directory.

    Attributes:
        path: its directory.
        files: private files, locks, and files that appear whole.
        blobs: by digest.
        index: names of images.
        layer_keys: which blob was made from a set of inputs.
        remote_layers: layers that are in a registry instead.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = Files(path)
        self.blobs = Blobs(self.files)
        self.index = Index(self.files, self.blobs)
        self.layer_keys = LayerKeys(self.files, self.blobs)
        self.remote_layers = RemoteLayers(self.files, self.blobs)

    def building(self) -> AbstractContextManager[None]:
        """Exclude `gc` while a build relies on blobs that no image names yet."""
        return self.files.building()

    def workdir(self) -> AbstractContextManager[Path]:
        """Make a temporary directory; it is removed at the end, or by a later build."""
        return self.files.workdir()

    def images(self) -> dict[str, str]:
        """Return manifest digests by name."""
        return self.index.images()

    def save(self, value: Image) -> None:
        """Write an image's config and manifest, and its name to the index."""
        self.blobs.put(value.config)
        self.blobs.put(value.manifest)
        self.index.tag(
            {
                "annotations": {REF_NAME: value.ref},
                "digest": value.manifest_digest,
                "mediaType": MANIFEST_TYPE,
                "platform": {"architecture": "amd64", "os": "linux"},
                "size": len(value.manifest),
            }
        )

    def load(self, ref: str) -> Image:
        """Return the image with that name.

        Raises:
            UsageError: there is none.
            StoreError, IntegrityError: its documents are missing or damaged.
        """
        return self.load_several([ref])[0]

    def load_several(self, refs: Iterable[str]) -> list[Image]:
        """Return several images by name; reads once what the store knows of layers.

        Raises:
            As `load`.
        """
        names, sizes, found = self.index.images(), self._unpacked_sizes(), []
        for ref in refs:
            if ref not in names:
                raise UsageError(
                    f"{self.path}: holds no image {ref}", remedy=f"python build.py --target {ref}"
                )
            found.append(self._image(ref, names[ref], sizes))
        return found

    def load_all(self) -> tuple[list[Image], list[str]]:
        """Return all images that builders made, and the names of what other programs put there.

        Raises:
            StoreError, IntegrityError: documents of one are missing or damaged.
        """
        sizes, found, others = self._unpacked_sizes(), [], []
        for ref, digest in sorted(self.index.images().items()):
            try:
                found.append(self._image(ref, digest, sizes))
            except ForeignError:
                others.append(ref)
        return found, others

    def load_digest(self, prefix: str) -> Image:
        """Return the image whose manifest has that digest, also one that a newer build replaced.

        Args:
            prefix: `sha256:…` or its beginning, as long as no other small blob begins so.

        Raises:
            UsageError: there is none, or several.
            IntegrityError: it is damaged, or not an image of this builder.
        """
        value = prefix.removeprefix("sha256:")
        found = [
            path.name
            for path in self.blobs.paths()
            if path.name.startswith(value) and path.stat().st_size <= limits.DOCUMENT
        ]
        if len(found) != 1:
            what = "several blobs that begin with" if found else "no image"
            raise UsageError(
                f"{self.path}: holds {what} {prefix}",
                remedy="python build.py list  # what the store holds",
            )
        return self._image(prefix, f"sha256:{found[0]}", self._unpacked_sizes())

    def _image(self, ref: str, digest: str, sizes: Mapping[str, int]) -> Image:
        manifest = self.blobs.read(digest)
        try:
            head = untrusted_json.loads(manifest)
            config = self.blobs.read(head["config"]["digest"])
            unpacked = [sizes.get(layer["digest"], 0) for layer in head["layers"]]
            found = image.parse(ref, manifest, config, unpacked)
            if found.config != config:  # then a push would send another image
                raise ValueError("its config has another form")
            return found
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ForeignError(
                f"{self.path}: {ref}: not an image of this builder: {error!r}",
                remedy=f"another program put it there, and it is kept: skopeo inspect "
                f"oci:{self.path}:{ref}",
            ) from error

    def _unpacked_sizes(self) -> dict[str, int]:
        """Return bytes of the tars of known layers, by digest: no OCI document has them."""
        sizes = {item.blob.digest: item.blob.unpacked for item in self.remote_layers.recorded()}
        return sizes | {blob.digest: blob.unpacked for blob in self.layer_keys.all_known()}

    def attach(self, referrers: Sequence[Referrer]) -> None:
        """Keep documents about an image beside it; they are removed when it is."""
        for item in referrers:
            for content in (referrer.EMPTY, item.content, item.manifest):
                self.blobs.put(content)
        self.index.add(item.descriptor for item in referrers)

    def attached(self, subject: str) -> list[Referrer]:
        """Return our documents about the image with that manifest digest, sorted by type.

        One that is damaged is left out, as if it were not there: `verify` reports it.
        """
        return self.all_attached([subject])[subject]

    def all_attached(self, subjects: Iterable[str]) -> dict[str, list[Referrer]]:
        """Return the same for several images, by their manifests' digests; reads the index once."""
        found: dict[str, list[Referrer]] = {subject: [] for subject in subjects}
        for item in self.index.entries():
            if "artifactType" in item:
                with suppress(IntegrityError, *NOT_A_DOCUMENT):
                    manifest = self.blobs.read(item["digest"])
                    if (subject := referrer.subject_of(manifest)) in found:
                        (content,) = referrer.content_of(manifest)
                        document = self.blobs.read(content)
                        found[subject].append(referrer.parse(manifest, document))
        for items in found.values():
            items.sort(key=lambda item: (item.artifact_type, item.digest))
        return found

    def layers_of(self, name: str) -> tuple[str, ...]:
        """Return the digests of an image's layers, also of one that a newer build replaced.

        Args:
            name: the image's name, or the digest of its manifest.

        Raises:
            UsageError: the store does not have it.
            IntegrityError: its manifest is damaged or not a manifest.
        """
        digest = self.index.images().get(name, name)
        if not digest.startswith("sha256:") or not self.blobs.path(digest).is_file():
            raise UsageError(
                f"{self.path}: holds no image {name}",
                remedy="python build.py list  # what the store holds",
            )
        try:
            return tuple(
                str(layer["digest"])
                for layer in untrusted_json.loads(self.blobs.read(digest))["layers"]
            )
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(f"{self.path}: {name}: not a manifest: {error!r}") from error


def open_store(path: Path, *, create: bool = True) -> Store:
    """Open the store at `path`; make it if there is nothing yet.

    Raises:
        StoreError: the directory holds something else, or cannot be written.
        UsageError: there is no store and `create` is false.
    """
    path = path.absolute()
    with disk(path):
        return _opened(path, create)


def _opened(path: Path, create: bool) -> Store:
    store = Store(path)
    if (path / "oci-layout").is_file():
        _make_directories(path)
        if create:
            store.index.begin()
        return store
    if not create:
        raise UsageError(
            f"{path}: no store there", remedy="build first, or name the store with --store DIR"
        )
    if path.exists() and (not path.is_dir() or any(_foreign(path))):
        raise StoreError(
            f"{path}: not an OCI image layout, and not empty",
            remedy="choose another directory with --store DIR",
        )
    _make_directories(path)
    store.index.begin()
    with store.index.locked():
        # Last: a directory with this file is a whole layout.
        store.files.replace(path / "oci-layout", json.dumps(_LAYOUT).encode())
    return store


def _foreign(path: Path) -> Iterator[Path]:
    """Yield what is in a directory and is not of a store that was being made or has just been."""
    children = list(path.iterdir())
    if not (path / PRIVATE).is_dir():
        return iter(children)
    ours = {PRIVATE, "blobs", "index.json", "oci-layout"}
    return (child for child in children if child.name not in ours)


def _make_directories(path: Path) -> None:
    # The private ones first: a store whose making was cut short is recognized by them.
    for private in ("layers", "locks", "tmp"):
        (path / PRIVATE / private).mkdir(parents=True, exist_ok=True)
    (path / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
