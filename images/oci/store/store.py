"""A content-addressed store that is a standard OCI image layout directory.

Specification: OCI image layout 1.0, https://github.com/opencontainers/image-spec (image-layout.md).
skopeo, umoci and podman open it as `oci:STORE:TARGET`. Beside the layout's own files there is
`.roll/`: the layer keys (which blob a set of inputs gave), the layers that lie in a registry
instead, unfinished blobs, and locks.

Nothing is ever changed in place. A blob gets its name only when it is whole and on disk; the index
is replaced by a rename under a lock. So a build may be killed at any moment, and builds may run
side by side.

Here are opening a store, and its images. Each of the modules below adds one thing to the one before
it: files that appear whole (`store_files`), blobs (`store_blobs`), then layers (`store_layers`) and
the index (`store_index`), then `verify` and `gc` (`store_upkeep`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from images.errors import IntegrityError, StoreError, UsageError
from images.oci import image, referrer
from images.oci.descriptor import MANIFEST_TYPE, REF_NAME
from images.oci.image import Image
from images.oci.referrer import Referrer
from images.oci.store.blobs import NOT_A_DOCUMENT
from images.oci.store.files import disk
from images.oci.store.index import EMPTY, name_of
from images.oci.store.maintenance import Upkeep
from images.util import limits, untrusted_json

_LAYOUT = {"imageLayoutVersion": "1.0.0"}


class ForeignError(IntegrityError):
    """An image that another program put into the store: it is kept, and nothing is done with it."""


class Store(Upkeep):
    """A store on disk, with its images. `open_store` makes or opens one."""

    def save(self, value: Image) -> None:
        """Put an image's config and manifest in, and its name in the index."""
        self.put(value.config)
        self.put(value.manifest)
        descriptor = {
            "annotations": {REF_NAME: value.ref},
            "digest": value.manifest_digest,
            "mediaType": MANIFEST_TYPE,
            "platform": {"architecture": "amd64", "os": "linux"},
            "size": len(value.manifest),
        }
        with self._index_locked():
            index = self._index()
            others = [item for item in index["manifests"] if name_of(item) != value.ref]
            if [descriptor] == [item for item in index["manifests"] if name_of(item) == value.ref]:
                return
            self._replace_index(index, [*others, descriptor])

    def load(self, ref: str) -> Image:
        """The image with that name.

        Raises:
            UsageError: there is none.
            StoreError, IntegrityError: its documents are missing or damaged.
        """
        return self.load_all([ref])[0]

    def load_all(self, refs: Iterable[str]) -> list[Image]:
        """Several images by name; what the store knows of layers is read once.

        Raises:
            As `load`.
        """
        names, sizes, found = self.images(), self._unpacked_sizes(), []
        for ref in refs:
            if ref not in names:
                raise UsageError(
                    f"{self.path}: holds no image {ref}", remedy=f"python build.py --target {ref}"
                )
            found.append(self._image(ref, names[ref], sizes))
        return found

    def load_every(self) -> tuple[list[Image], list[str]]:
        """All images that builders made, by name, and the names of what other programs put there.

        Raises:
            StoreError, IntegrityError: documents of one are missing or damaged.
        """
        sizes, found, others = self._unpacked_sizes(), [], []
        for ref, digest in sorted(self.images().items()):
            try:
                found.append(self._image(ref, digest, sizes))
            except ForeignError:
                others.append(ref)
        return found, others

    def load_digest(self, prefix: str) -> Image:
        """The image whose manifest has that digest, also one that lost its name to a newer build.

        Args:
            prefix: `sha256:…`, or how it begins, as long as no other small blob begins so.

        Raises:
            UsageError: there is none, or several.
            IntegrityError: it is damaged, or no manifest of ours.
        """
        value = prefix.removeprefix("sha256:")
        found = [
            path.name
            for path in self._blobs.iterdir()
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
        manifest = self.read(digest)
        try:
            head = untrusted_json.loads(manifest)
            config = self.read(head["config"]["digest"])
            unpacked = [sizes.get(layer["digest"], 0) for layer in head["layers"]]
            found = image.parse(ref, manifest, config, unpacked)
            if found.config != config:  # then what we would push is another image
                raise ValueError("its config has another form")
            return found
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ForeignError(
                f"{self.path}: {ref}: not a manifest of ours: {error!r}",
                remedy=f"another program put it there, and it is kept: skopeo inspect "
                f"oci:{self.path}:{ref}",
            ) from error

    def attach(self, referrers: Sequence[Referrer]) -> None:
        """Keep documents about an image beside it; they go when it goes."""
        for item in referrers:
            for content in (referrer.EMPTY, item.content, item.manifest):
                self.put(content)
        with self._index_locked():
            index = self._index()
            new = {item.digest: item.descriptor for item in referrers}
            others = [item for item in index["manifests"] if item["digest"] not in new]
            self._replace_index(index, [*others, *new.values()])

    def attached(self, subject: str) -> list[Referrer]:
        """The documents of ours about the image with that manifest digest, sorted by type.

        One that is damaged is left out, as if it were not there: `verify` tells of it.
        """
        return self.all_attached([subject])[subject]

    def all_attached(self, subjects: Iterable[str]) -> dict[str, list[Referrer]]:
        """The same for several images, by their manifests' digests; the index is read once."""
        found: dict[str, list[Referrer]] = {subject: [] for subject in subjects}
        for item in self._index()["manifests"]:
            if "artifactType" in item:
                with suppress(IntegrityError, *NOT_A_DOCUMENT):
                    manifest = self.read(item["digest"])
                    if (subject := referrer.subject_of(manifest)) in found:
                        (content,) = referrer.content_of(manifest)
                        found[subject].append(referrer.parse(manifest, self.read(content)))
        for items in found.values():
            items.sort(key=lambda item: (item.artifact_type, item.digest))
        return found

    def layers_of(self, name: str) -> tuple[str, ...]:
        """Digests of the layers of an image, also of one that lost its name to a newer build.

        Args:
            name: the image's name, or the digest of its manifest.

        Raises:
            UsageError: the store does not have it.
            IntegrityError: its manifest is damaged or not a manifest.
        """
        digest = self.images().get(name, name)
        if not digest.startswith("sha256:") or not self.blob_path(digest).is_file():
            raise UsageError(
                f"{self.path}: holds no image {name}",
                remedy="python build.py list  # what the store holds",
            )
        try:
            return tuple(
                str(layer["digest"]) for layer in untrusted_json.loads(self.read(digest))["layers"]
            )
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(f"{self.path}: {name}: not a manifest: {error!r}") from error


def open_store(path: Path, *, create: bool = True) -> Store:
    """Open the store at `path`; make it where there is nothing yet.

    Raises:
        StoreError: the place holds something else, or cannot be written.
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
            _need_index(store)
        return store
    if not create:
        raise UsageError(
            f"{path}: no store there", remedy="build first, or name the store with --store DIR"
        )
    if path.exists() and (not path.is_dir() or any(_foreign(path))):
        raise StoreError(
            f"{path}: not an OCI image layout, and not empty",
            remedy="choose another place with --store DIR",
        )
    _make_directories(path)
    _need_index(store)
    with store._index_locked():
        # Last: a directory with this file is a whole layout.
        store._replace(path / "oci-layout", json.dumps(_LAYOUT).encode())
    return store


def _need_index(store: Store) -> None:
    """Begin an index where there is none: of a new store, or where a damaged one was moved away."""
    path = store.path / "index.json"
    if not path.exists():
        with store._index_locked():
            if not path.exists():
                store._replace(path, json.dumps(EMPTY, indent=1).encode())


def _foreign(path: Path) -> Iterator[Path]:
    """What lies in a directory and is not a store that was being made or has just been."""
    children = list(path.iterdir())
    if not (path / ".roll").is_dir():
        return iter(children)
    ours = {".roll", "blobs", "index.json", "oci-layout"}
    return (child for child in children if child.name not in ours)


def _make_directories(path: Path) -> None:
    # `.roll` first: by it, a store whose making was cut short is known as ours.
    for part in (".roll/layers", ".roll/locks", ".roll/tmp", "blobs/sha256"):
        (path / part).mkdir(parents=True, exist_ok=True)
