"""A content-addressed store that is a standard OCI image layout directory.

Specification: OCI image layout 1.0, https://github.com/opencontainers/image-spec (image-layout.md).
skopeo, umoci and podman open it as `oci:STORE:TARGET`. Beside the layout's own files there is
`.roll/`: the layer keys (which blob a set of inputs gave), the layers that lie in a registry
instead (`images.remote`), unfinished blobs, and locks.

Nothing is ever changed in place. A blob gets its name only when it is whole and on disk; the index
is replaced by a rename under a lock. So a build may be killed at any moment, and builds may run
side by side.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, cast

from images import image, jsontext, referrer, remote
from images.errors import IntegrityError, StoreError, UsageError
from images.image import INDEX_TYPE, MANIFEST_TYPE, Image
from images.layer import Blob
from images.referrer import Referrer
from images.remote import Remote

_REF = "org.opencontainers.image.ref.name"
_LAYOUT = {"imageLayoutVersion": "1.0.0"}
_EMPTY_INDEX: dict[str, Any] = {"manifests": [], "mediaType": INDEX_TYPE, "schemaVersion": 2}
_CHUNK = 1 << 20
_LARGEST_MANIFEST = 4 << 20  # what registries must take: OCI distribution spec, "Pushing Manifests"
_NOT_A_DOCUMENT = (ValueError, KeyError, TypeError, AttributeError, StoreError)
"""What comes up when JSON has another form than an index or a manifest has."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What `gc` took away."""

    blobs: int
    keys: int
    bytes: int


class Store:
    """A store on disk. `open_store` makes or opens one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._blobs = path / "blobs" / "sha256"
        self._keys = path / ".roll" / "layers"
        self._remotes = path / ".roll" / "remotes.json"
        self._locks = path / ".roll" / "locks"
        self._tmp = path / ".roll" / "tmp"

    # -- blobs ---------------------------------------------------------------------------------

    def blob_path(self, digest: str) -> Path:
        """Where the blob `sha256:…` lies, whether it is there or not."""
        algorithm, _, value = digest.partition(":")
        if algorithm != "sha256" or len(value) != 64 or set(value) - set("0123456789abcdef"):
            raise StoreError(f"{self.path}: {digest!r} is not a sha256 digest")
        return self._blobs / value

    def has(self, digest: str, size: int) -> bool:
        """Whether the blob is there with its full size (its hash is for `verify`)."""
        try:
            return self.blob_path(digest).stat().st_size == size
        except OSError:
            return False

    def read(self, digest: str) -> bytes:
        """A small blob (a manifest or a config), checked against its digest."""
        try:
            content = self.blob_path(digest).read_bytes()
        except OSError as error:
            raise StoreError(f"{self.path}: blob {digest} cannot be read: {error}") from error
        if image.digest(content) != digest:
            raise IntegrityError(
                f"{self.path}: blob {digest} has other bytes than its name says",
                remedy=f"python build.py verify --store {self.path}  # names every damaged blob",
            )
        return content

    @contextmanager
    def new_file(self) -> Iterator[tuple[IO[bytes], Callable[[str], None]]]:
        """A file to write a blob to, and the function that gives it its digest as a name.

        A file that is left without a name is removed.
        """
        with _disk(self.path), self._unfinished() as out:
            yield out, lambda digest: _finish(out, self.blob_path(digest))

    def put(self, content: bytes) -> str:
        """Keep a small blob; gives its digest."""
        digest = image.digest(content)
        if not self.has(digest, len(content)):
            with self.new_file() as (out, commit):
                out.write(content)
                commit(digest)
        return digest

    def note(self, name: str, content: bytes) -> None:
        """Keep a small document of ours as `.roll/NAME`, whole or not at all."""
        path = self.path / ".roll" / name
        with _disk(self.path):
            path.parent.mkdir(exist_ok=True)
            self._replace(path, content)

    # -- layer keys ----------------------------------------------------------------------------

    def known(self, key: str) -> Blob | None:
        """The blob that these inputs gave before, if it is still here."""
        try:
            blob = Blob(**jsontext.loads((self._keys / key).read_bytes()))
            return blob if self.has(blob.digest, blob.size) else None
        except (OSError, ValueError, TypeError, AttributeError, StoreError):
            return None

    def remember(self, key: str, blob: Blob) -> None:
        """Note which blob a key gave."""
        with _disk(self.path):
            self._replace(self._keys / key, json.dumps(asdict(blob), sort_keys=True).encode())

    @contextmanager
    def making(self, key: str) -> Iterator[None]:
        """Hold the right to make the layer `key`: a second build waits and then finds it."""
        with _disk(self.path), (self._locks / key).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    # -- layers that lie elsewhere -----------------------------------------------------------------

    def remotes(self) -> dict[str, Remote]:
        """Layers that are known and lie in a registry, by digest; none whose blob is here."""
        found = {item.blob.digest: item for item in self._noted()}
        return {
            digest: item for digest, item in found.items() if not self.has(digest, item.blob.size)
        }

    def note_remotes(self, remotes: Iterable[Remote]) -> None:
        """Remember where layers lie whose blobs are not here."""
        new = {item.blob.digest: item for item in remotes}
        if new:
            with self._index_locked():
                self._keep_remotes({**self.remotes(), **new})

    def _noted(self) -> list[Remote]:
        try:
            found = remote.parse(self._remotes.read_bytes())
            for item in found:
                self.blob_path(item.blob.digest)
            return found
        except (OSError, *_NOT_A_DOCUMENT):  # then their blobs are missing, says `verify`
            return []

    def _keep_remotes(self, remotes: dict[str, Remote]) -> None:
        if remotes or self._remotes.exists():
            self._replace(self._remotes, remote.dump(remotes.values()))

    # -- images --------------------------------------------------------------------------------

    def save(self, value: Image) -> None:
        """Put an image's config and manifest in, and its name in the index."""
        self.put(value.config)
        self.put(value.manifest)
        descriptor = {
            "annotations": {_REF: value.ref},
            "digest": value.manifest_digest,
            "mediaType": MANIFEST_TYPE,
            "platform": {"architecture": "amd64", "os": "linux"},
            "size": len(value.manifest),
        }
        with self._index_locked():
            index = self._index()
            others = [item for item in index["manifests"] if _name(item) != value.ref]
            if [descriptor] == [item for item in index["manifests"] if _name(item) == value.ref]:
                return
            self._replace_index(index, [*others, descriptor])

    def images(self) -> dict[str, str]:
        """Manifest digests by name."""
        return {
            name: item["digest"]
            for item in self._index()["manifests"]
            if (name := _name(item)) is not None
        }

    def load(self, ref: str) -> Image:
        """The image with that name.

        Raises:
            UsageError: there is none.
            StoreError, IntegrityError: its documents are missing or damaged.
        """
        found = self.images().get(ref)
        if found is None:
            raise UsageError(
                f"{self.path}: holds no image {ref}", remedy=f"python build.py --target {ref}"
            )
        return self._image(ref, found)

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
            if path.name.startswith(value) and path.stat().st_size <= _LARGEST_MANIFEST
        ]
        if len(found) != 1:
            what = "several blobs that begin with" if found else "no image"
            raise UsageError(
                f"{self.path}: holds {what} {prefix}",
                remedy="python build.py list  # what the store holds",
            )
        return self._image(prefix, f"sha256:{found[0]}")

    def _image(self, ref: str, digest: str) -> Image:
        manifest = self.read(digest)
        try:
            head = jsontext.loads(manifest)
            config = self.read(head["config"]["digest"])
            sizes = self._unpacked_sizes()
            unpacked = [sizes.get(layer["digest"], 0) for layer in head["layers"]]
            return image.parse(ref, manifest, config, unpacked)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(
                f"{self.path}: {ref}: not a manifest of ours: {error!r}"
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
        found = []
        for item in self._index()["manifests"]:
            if "artifactType" in item:
                with suppress(IntegrityError, *_NOT_A_DOCUMENT):
                    manifest = self.read(item["digest"])
                    if referrer.subject_of(manifest) == subject:
                        (content,) = referrer.content_of(manifest)
                        found.append(referrer.parse(manifest, self.read(content)))
        return sorted(found, key=lambda item: (item.artifact_type, item.digest))

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
                str(layer["digest"]) for layer in jsontext.loads(self.read(digest))["layers"]
            )
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(f"{self.path}: {name}: not a manifest: {error!r}") from error

    def _unpacked_sizes(self) -> dict[str, int]:
        """Bytes of the tars of known layers, by digest: no OCI document tells them."""
        known = (self.known(path.name) for path in self._keys.iterdir())
        sizes = {digest: item.blob.unpacked for digest, item in self.remotes().items()}
        return sizes | {blob.digest: blob.unpacked for blob in known if blob}

    # -- upkeep --------------------------------------------------------------------------------

    def verify(self, progress: Callable[[int], None] = lambda _: None) -> list[str]:
        """Hash every blob again and follow every reference; gives all faults.

        A layer that is known to lie in a registry is not missing; whether it does is not asked.

        Args:
            progress: told of bytes as they are read.
        """
        faults = []
        for blob in sorted(self._blobs.iterdir()):
            try:
                found = _hash(blob, progress)
            except OSError as error:
                faults.append(f"blob sha256:{blob.name}: cannot be read: {error}")
                continue
            if found != blob.name:
                faults.append(f"blob sha256:{blob.name}: its bytes have the digest sha256:{found}")
        elsewhere = self.remotes()
        try:
            for item in self._index()["manifests"]:
                broken = self._broken(item, elsewhere)
                faults += [f"{_name(item) or 'unnamed'}: {fault}" for fault in broken]
        except StoreError as error:
            faults.append(error.message)
        return faults

    def _broken(self, item: dict[str, Any], elsewhere: dict[str, Remote]) -> Iterator[str]:
        for kind, descriptor in self._references(item):
            path, digest = self.blob_path(descriptor["digest"]), descriptor["digest"]
            if digest in elsewhere and not path.exists():
                continue
            if not path.exists():
                yield f"{kind} {digest}: missing"
            elif (size := path.stat().st_size) != descriptor["size"]:
                yield f"{kind} {digest}: {size} bytes instead of {descriptor['size']}"

    def _references(self, item: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        yield "manifest", item
        with suppress(OSError, *_NOT_A_DOCUMENT):
            manifest = jsontext.loads(self.blob_path(item["digest"]).read_bytes())
            if "config" in manifest:
                yield "config", self._descriptor(manifest["config"])
            for kind in ("layers", "manifests"):
                for inner in manifest.get(kind, []):
                    yield kind.removesuffix("s"), self._descriptor(inner)

    def _descriptor(self, value: dict[str, Any]) -> dict[str, Any]:
        """A descriptor that has a digest and a size, whatever wrote it.

        Raises:
            One of `_NOT_A_DOCUMENT`.
        """
        self.blob_path(value["digest"])
        if not isinstance(value["size"], int):
            raise TypeError(f"{value['size']!r} is not a size")
        return value

    def size(self) -> int:
        """Bytes of all blobs."""
        return sum(path.stat().st_size for path in self._blobs.iterdir())

    def gc(self, *, damaged: bool = False) -> Swept:
        """Remove what no image in the index needs.

        Args:
            damaged: remove blobs whose bytes do not have their digest as well; the next build of
                the images that need them makes them anew.

        Raises:
            StoreError: a build is at work on this store.
        """
        with self._hold(fcntl.LOCK_EX), self._index_locked():
            needed = {digest.removeprefix("sha256:") for digest in self._needed()}
            blobs = [
                path
                for path in self._blobs.iterdir()
                if path.name not in needed or (damaged and _hash(path, lambda _: None) != path.name)
            ]
            freed = sum(path.stat().st_size for path in blobs)
            for path in [*blobs, *self._locks.iterdir()]:
                path.unlink()
            self._remove_abandoned()
            keys = [path for path in self._keys.iterdir() if self.known(path.name) is None]
            for path in keys:
                path.unlink()
            remotes = self.remotes()
            self._keep_remotes(
                {digest: item for digest, item in remotes.items() if digest[7:] in needed}
            )
        return Swept(len(blobs), len(keys), freed)

    def _needed(self) -> Iterator[str]:
        """The digests that the index's images need.

        A damaged manifest does not say what its layers were: then all that were made are kept.
        """
        for item in self._index()["manifests"]:
            yield from (descriptor["digest"] for _, descriptor in self._references(item))
            try:
                self.read(item["digest"])
            except (IntegrityError, StoreError):
                keys = (self.known(path.name) for path in self._keys.iterdir())
                yield from (blob.digest for blob in keys if blob)

    @contextmanager
    def building(self) -> Iterator[None]:
        """Keep `gc` away while a build relies on blobs that no image names yet."""
        with self._hold(fcntl.LOCK_SH):
            self._remove_abandoned()
            yield

    @contextmanager
    def workdir(self) -> Iterator[Path]:
        """A directory for what a layer is made from; removed at the end, or by a later build."""
        with _disk(self.path):
            path, held = self._new_directory()
            try:
                yield path
            finally:
                shutil.rmtree(path, ignore_errors=True)
                os.close(held)

    def _new_directory(self) -> tuple[Path, int]:
        while True:
            path = Path(tempfile.mkdtemp(dir=self._tmp))
            with suppress(FileNotFoundError):
                held = os.open(path, os.O_RDONLY)
                fcntl.flock(held, fcntl.LOCK_EX)
                if path.exists():
                    return path, held
                os.close(held)
            # Another build took it for abandoned before it was locked: try again.

    def _remove_abandoned(self) -> None:
        """What killed builds left unfinished: nobody holds its lock any more."""
        for path in self._tmp.iterdir():
            with suppress(OSError):
                held = os.open(path, os.O_RDONLY)
                try:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                finally:
                    os.close(held)

    @contextmanager
    def _hold(self, how: int) -> Iterator[None]:
        with _disk(self.path), (self.path / ".roll" / "in-use").open("ab") as lock:
            try:
                fcntl.flock(lock, how | fcntl.LOCK_NB)
            except BlockingIOError:
                busy = "a build or a push is at work" if how == fcntl.LOCK_EX else "gc is at work"
                raise StoreError(
                    f"{self.path}: {busy} on this store", remedy="wait for it, then try again"
                ) from None
            yield

    @contextmanager
    def _index_locked(self) -> Iterator[None]:
        with _disk(self.path), (self.path / ".roll" / "index-lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _index(self) -> dict[str, Any]:
        path = self.path / "index.json"
        try:
            index: dict[str, Any] = jsontext.loads(path.read_bytes())
            for item in index["manifests"]:
                self._descriptor(item)
                _name(item)
        except (OSError, *_NOT_A_DOCUMENT) as error:
            raise StoreError(f"{path}: not an OCI image index: {error}") from error
        return index

    def _replace_index(self, index: dict[str, Any], manifests: list[dict[str, Any]]) -> None:
        here = {item["digest"] for item in manifests}
        kept = [item for item in manifests if not self._is_lost(item, here)]
        index["manifests"] = sorted(kept, key=lambda item: _name(item) or "")
        self._replace(self.path / "index.json", json.dumps(index, indent=1).encode())

    def _is_lost(self, item: dict[str, Any], here: Collection[str]) -> bool:
        """Whether it is a document about an image that is gone, or itself damaged or missing."""
        if "artifactType" not in item:
            return False
        try:
            manifest = self.read(item["digest"])
            if (subject := referrer.subject_of(manifest)) is None:
                return False
            for digest in referrer.content_of(manifest):
                self.read(digest)
            return subject not in here
        except (IntegrityError, StoreError):
            return True
        except _NOT_A_DOCUMENT:
            return False  # somebody else's

    def _replace(self, path: Path, content: bytes) -> None:
        with self._unfinished() as out:
            out.write(content)
            _finish(out, path)

    @contextmanager
    def _unfinished(self) -> Iterator[IO[bytes]]:
        """A new file that is removed unless it gets another name; locked while it is written."""
        while True:
            with tempfile.NamedTemporaryFile(dir=self._tmp, delete=False) as out:
                fcntl.flock(out, fcntl.LOCK_EX)
                if os.fstat(out.fileno()).st_nlink == 0:
                    continue  # another build took it for abandoned before it was locked
                try:
                    yield cast(IO[bytes], out)
                finally:
                    Path(out.name).unlink(missing_ok=True)
                return


def open_store(path: Path, *, create: bool = True) -> Store:
    """Open the store at `path`; make it where there is nothing yet.

    Raises:
        StoreError: the place holds something else, or cannot be written.
        UsageError: there is no store and `create` is false.
    """
    path = path.absolute()
    with _disk(path):
        return _opened(path, create)


def _opened(path: Path, create: bool) -> Store:
    store = Store(path)
    if (path / "oci-layout").is_file():
        _make_directories(path)
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
    with store._index_locked():
        if not (path / "index.json").exists():
            store._replace(path / "index.json", json.dumps(_EMPTY_INDEX, indent=1).encode())
        # Last: a directory with this file is a whole layout.
        store._replace(path / "oci-layout", json.dumps(_LAYOUT).encode())
    return store


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


def _name(item: dict[str, Any]) -> str | None:
    name = (item.get("annotations") or {}).get(_REF)
    return name if isinstance(name, str) else None


def _finish(out: IO[bytes], path: Path) -> None:
    """Give a file its name once its bytes are on the disk."""
    out.flush()
    os.fsync(out.fileno())
    os.fchmod(out.fileno(), 0o644)
    Path(out.name).replace(path)


def _hash(path: Path, progress: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as stream:
        while piece := stream.read(_CHUNK):
            digest.update(piece)
            progress(len(piece))
    return digest.hexdigest()


def _belongs(place: Path, store: Path) -> bool:
    """Whether a path is in the store or leads to it."""
    return store in (place, *place.parents) or place in store.parents


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    """Turn the system's word for a full or read-only disk into one that names the remedy."""
    try:
        yield
    except OSError as error:
        # Of two names the second is where it was to be copied or renamed to.
        names = [name for name in (error.filename2, error.filename) if name is not None]
        places = [Path(os.fsdecode(name)) for name in names if isinstance(name, (str, bytes))]
        place = next((place for place in places if _belongs(place, path)), None)
        here = place is not None
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and (here or not places):
            raise StoreError(
                f"{path}: no space left on the disk that holds the store",
                remedy="python build.py gc, or another place with --store DIR; "
                "the layers that were finished are kept",
            ) from error
        if here:
            raise StoreError(
                f"{path}: the store cannot be used: {place}: {error.strerror}",
                remedy="choose a place that you may write with --store DIR",
            ) from error
        raise
