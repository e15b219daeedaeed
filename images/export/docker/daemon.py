"""Loads images into a Docker daemon.

Docker 20.10 is the oldest supported daemon. Both kinds of image store work: graph drivers identify
an image by its config and a layer by the chain of unpacked layers below it; containerd's store
identifies both by the digests that they have in our store.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from images.errors import DockerError
from images.export.docker import archive as docker_archive
from images.export.docker import docker_errors, endpoint
from images.export.docker.archive import Archive
from images.export.docker.match import blobs_of, common, full_name, is_same
from images.oci.image import Image
from images.oci.store.store import Store
from images.util.progress import Meter, Progress, size

if TYPE_CHECKING:
    from docker import DockerClient

_TIMEOUT = 60  # seconds
_LOAD_TIMEOUT = 3600  # a daemon sends nothing while it unpacks
_READS_ZSTD = (1, 42)  # the API of Docker 23


@dataclass(frozen=True, slots=True)
class Loaded:
    """The result of a load.

    Attributes:
        id: the daemon's id of the image: the digest of its config, or, with the containerd image
            store, of its manifest.
        was_there: whether the daemon had the image already, so that it was only tagged.
        layers: number of layers of the image.
        sent: number of layers that were sent.
        bytes: compressed bytes of those.
    """

    id: str
    was_there: bool
    layers: int
    sent: int = 0
    bytes: int = 0

    def describe(self) -> str:
        """Return one line for people."""
        if self.was_there:
            return f"already in Docker, {self.id[:19]}"
        return f"{self.sent} of {self.layers} layers sent ({size(self.bytes)}), {self.id[:19]}"


def load(store: Store, image: Image, tags: Sequence[str], *, progress: Progress) -> Loaded:
    """Load an image into the daemon and tag it; only the layers that the daemon lacks are sent.

    Args:
        store: where the layers are.
        image: the image.
        tags: its names there, e.g. `roll-sglang:torch280-sglang052`.
        progress: shows the bytes sent.

    Raises:
        UsageError: a tag is not an image name.
        DockerError: the daemon cannot be reached or refused a request.
        IntegrityError: a layer in the store is damaged.
    """
    names = [full_name(tag) for tag in tags]
    with connected(store.path, image.ref) as client:
        daemon = Daemon(client)
        if found := daemon.find(image):
            loaded = Loaded(found, was_there=True, layers=len(image.layers))
        else:
            whole = Archive(store, image, keep_zstd=daemon.reads_zstd)
            loaded = _send(daemon, whole, names, progress)
        for name in names:
            daemon.tag(loaded.id, name)
        return loaded


def _send(daemon: Daemon, whole: Archive, names: Sequence[str], progress: Progress) -> Loaded:
    lacking = replace(whole, left_out=daemon.layers_of(whole.image, whole.store))
    if lacking.left_out:
        # An image may have been removed meanwhile, or the daemon is only similar to Docker.
        with suppress(DockerError):
            return daemon.load(lacking, names, progress)
    return daemon.load(whole, names, progress)


def answers() -> bool:
    """Return whether a daemon can be reached."""
    try:
        with connected():
            return True
    except DockerError:
        return False


@contextmanager
def connected(store: Path | None = None, target: str | None = None) -> Iterator[DockerClient]:
    """Connect to the daemon that `docker` would use.

    Args:
        store: the layout with the image, for the message if no daemon answers.
        target: the image, for the same.

    Raises:
        DockerError: the SDK is not installed, or no daemon answers.
    """
    try:
        import docker
    except ImportError:
        raise DockerError("the Docker SDK is not installed", remedy="pip install docker") from None
    where = "the daemon of the environment"
    try:
        daemon = endpoint.find()
        where = str(daemon)
        # The machine's own ssh, as `docker` does: with its configuration and agents.
        client = docker.DockerClient(timeout=_TIMEOUT, use_ssh_client=True, **daemon.options)
    except docker.errors.DockerException as error:
        raise docker_errors.unreachable(error, where, store, target) from error
    try:
        yield client
    finally:
        client.close()


class Daemon:
    """A daemon, with what differs between daemons."""

    def __init__(self, client: DockerClient) -> None:
        self._client = client
        self._api: Any = client.api  # its type stubs are incomplete
        with docker_errors.explained("ask Docker for its version"):
            version, info = client.version(), client.info()
        self._root = info.get("DockerRootDir", "")
        status = dict(pair[:2] for pair in info.get("DriverStatus") or ())
        self._by_digest = status.get("driver-type") == "io.containerd.snapshotter.v1"
        parts = [part.get("Name", "") for part in version.get("Components") or ()]
        api = tuple(int(number) for number in version["ApiVersion"].split("."))
        self.reads_zstd = api >= _READS_ZSTD and "Podman Engine" not in parts

    def find(self, image: Image) -> str | None:
        """Return the daemon's id of the image, also if it was pulled; None if it is not there."""
        for digest in (image.config_digest, image.manifest_digest):
            if attributes := self._inspect(digest):
                return str(attributes["Id"])
        same = (item for item in self._images() if is_same(item, image))
        return next((str(item["Id"]) for item in same), None)

    def layers_of(self, image: Image, store: Store) -> frozenset[int]:
        """Return the numbers of the image's layers that need not be sent.

        A graph driver identifies an unpacked layer by the chain below it. containerd keeps each
        blob; which ones an image has is in its manifest, which the store has if it is our image.
        """
        if self._by_digest:
            ids = {str(item["Id"]) for item in self._images()}
            known = {digest for image_id in ids for digest in blobs_of(image_id, store)}
            ours = enumerate(layer.blob.digest for layer in image.layers)
            return frozenset(number for number, digest in ours if digest in known)
        diff_ids = [layer.blob.diff_id for layer in image.layers]
        theirs = (item["RootFS"].get("Layers") or [] for item in self._images())
        return frozenset(range(max((common(diff_ids, other) for other in theirs), default=0)))

    def load(self, archive: Archive, names: Sequence[str], progress: Progress) -> Loaded:
        """Send an archive."""
        image = archive.image
        if self._by_digest:
            pieces = docker_archive.oci_archive(archive, names)
        else:
            pieces = docker_archive.docker_archive(archive)
        wanted = image.manifest_digest if self._by_digest else image.config_digest
        self._api.timeout = _LOAD_TIMEOUT
        with (
            docker_errors.explained(f"load {image.ref}", self._root),
            self._whole_or_gone(wanted),
        ):
            total = docker_archive.transfer_size(archive)
            with progress.stage("docker load", total) as meter, ExitStack() as unpacking:
                answer = self._api.load_image(_counted(pieces, meter, unpacking), quiet=True)
                docker_errors.check(answer)
            if self._by_digest and archive.left_out:
                # containerd may accept an image although layers are missing.
                self._client.containers.create(wanted, network_mode="none").remove()
        if self._inspect(wanted) is None:
            raise DockerError(
                f"Docker accepted {image.ref} and does not have it as {wanted}",
                remedy="run the same command again; if it fails again, read the daemon's log: "
                "journalctl -u docker",
            )
        return Loaded(wanted, False, len(image.layers), len(archive.sent), archive.size)

    @contextmanager
    def _whole_or_gone(self, image_id: str) -> Iterator[None]:
        """Remove the image of a failed load: containerd keeps one that it could not unpack."""
        try:
            yield
        except Exception:
            with suppress(Exception):
                self._client.images.remove(image_id, force=True)
            raise

    def tag(self, image_id: str, name: str) -> None:
        """Tag an image."""
        repository, _, tag = name.rpartition(":")
        with docker_errors.explained(f"tag {name}"):
            self._api.tag(image_id, repository, tag)

    def _images(self) -> list[dict[str, Any]]:
        with docker_errors.explained("list Docker's images"):
            found = self._api.images()
        inspected = (self._inspect(item["Id"]) for item in found)
        return [attributes for attributes in inspected if attributes]

    def _inspect(self, image_id: str) -> dict[str, Any] | None:
        from docker.errors import NotFound

        with docker_errors.explained(f"inspect {image_id}"):
            try:
                attributes: dict[str, Any] = self._api.inspect_image(image_id)
            except NotFound:
                return None
            return attributes


def _counted(pieces: Iterable[bytes], meter: Meter, unpacking: ExitStack) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        meter.advance(len(piece))
    unpacking.enter_context(meter.busy("Docker unpacks the layers"))
