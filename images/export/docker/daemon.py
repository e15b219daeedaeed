"""Loads images into a Docker daemon and runs them: the only module that uses the Docker SDK.

Docker 20.10 is the oldest daemon, and both kinds of image store work: graph drivers, which know an
image by its config and a layer by the chain of unpacked layers below it, and containerd's, which
knows both by the digests that they have in the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    from docker.models.containers import Container

_PATIENCE = 60
_LOAD_PATIENCE = 3600  # a daemon says nothing while it unpacks
_READS_ZSTD = (1, 42)  # the API of Docker 23
_SHM = "8g"
_BY_SOCKET = "http+docker://localhost"
"""The SDK's address for a daemon behind a socket; one that is reached by ssh is elsewhere."""

_CONTROL_DEVICE = Path("/dev/nvidiactl")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load did.

    Attributes:
        id: the daemon's name of the image: the digest of its config, or, with the containerd image
            store, of its manifest.
        was_there: whether the daemon had the image, and it was only tagged.
        layers: how many layers the image has.
        sent: how many of them were sent.
        bytes: compressed bytes of those.
    """

    id: str
    was_there: bool
    layers: int
    sent: int = 0
    bytes: int = 0

    def describe(self) -> str:
        """One line for people."""
        if self.was_there:
            return f"already in Docker, {self.id[:19]}"
        return f"{self.sent} of {self.layers} layers sent ({size(self.bytes)}), {self.id[:19]}"


def load(store: Store, image: Image, tags: Sequence[str], *, progress: Progress) -> Loaded:
    """Give an image to the daemon and tag it; only what the daemon lacks is sent.

    Args:
        store: where the layers are.
        image: the image.
        tags: names that it gets, e.g. `roll-sglang:torch280-sglang052`.
        progress: told of the bytes sent.

    Raises:
        UsageError: a tag is not an image name.
        DockerError: no daemon answers, or it refuses.
        IntegrityError: a layer in the store is damaged.
    """
    names = [full_name(tag) for tag in tags]
    with _connected(store.path, image.ref) as client:
        daemon = _Daemon(client)
        if found := daemon.find(image):
            loaded = Loaded(found, was_there=True, layers=len(image.layers))
        else:
            whole = Archive(store, image, keep_zstd=daemon.reads_zstd)
            loaded = _send(daemon, whole, names, progress)
        for name in names:
            daemon.tag(loaded.id, name)
        return loaded


def _send(daemon: _Daemon, whole: Archive, names: Sequence[str], progress: Progress) -> Loaded:
    lacking = replace(whole, left_out=daemon.layers_of(whole.image, whole.store))
    if lacking.left_out:
        with suppress(DockerError):  # an image was removed meanwhile, or it is not quite Docker
            return daemon.load(lacking, names, progress)
    return daemon.load(whole, names, progress)


@contextmanager
def run(
    image: str,
    *,
    command: Sequence[str] = ("sleep", "infinity"),
    env: Mapping[str, str] | None = None,
    user: str | None = None,
    read_only: bool = False,
    tmpfs: Sequence[str] = (),
    network: str | None = None,
    gpus: bool | None = None,
) -> Iterator[Container]:
    """A running container, removed at the end whatever happens.

    Args:
        image: a name or id that the daemon knows.
        command: what it runs.
        env: overrides the image's defaults.
        user: `USER[:GROUP]`, names or numbers; the image's own by default.
        read_only: mount the root file system read-only.
        tmpfs: directories that are file systems in memory.
        network: e.g. `none`; the daemon's default network if not given.
        gpus: give it all GPUs; by default if the host has any.

    Raises:
        DockerError: no daemon answers, or it refuses.
    """
    with _connected() as client:
        from docker.types import DeviceRequest

        wanted = has_gpus(client) if gpus is None else gpus
        options: dict[str, Any] = {"network_mode": network} if network else {}
        if wanted:
            options["device_requests"] = [DeviceRequest(count=-1, capabilities=[["gpu"]])]
            options["shm_size"] = _SHM  # several GPUs talk through it; Docker's own is 64 MiB
        with docker_errors.explained(f"run {image}"):
            container = client.containers.create(
                image,
                list(command),
                environment=dict(env or {}),
                user=user,
                read_only=read_only,
                tmpfs=dict.fromkeys(tmpfs, "exec"),
                **options,
            )
        try:
            with docker_errors.explained(f"start {image}"):
                container.start()
            yield container
        finally:
            with docker_errors.explained(f"remove the container of {image}"):
                container.remove(force=True, v=True)


def has_gpus(client: DockerClient) -> bool:
    """Whether containers of this daemon can have GPUs.

    On this machine the driver's own control device tells; a daemon elsewhere tells of a runtime or
    of CDI devices.
    """
    if client.api.base_url == _BY_SOCKET:
        return _CONTROL_DEVICE.exists()
    with docker_errors.explained("ask Docker about its host"):
        info = client.info()
    devices = [str(device.get("ID", "")) for device in info.get("DiscoveredDevices") or ()]
    return "nvidia" in info.get("Runtimes", {}) or any("nvidia.com/gpu" in ID for ID in devices)


def answers() -> bool:
    """Whether a daemon can be reached."""
    try:
        with _connected():
            return True
    except DockerError:
        return False


@contextmanager
def _connected(store: Path | None = None, target: str | None = None) -> Iterator[DockerClient]:
    try:
        import docker
    except ImportError:
        raise DockerError("the Docker SDK is not installed", remedy="pip install docker") from None
    where = "the daemon of the environment"
    try:
        daemon = endpoint.find()
        where = str(daemon)
        # The machine's own ssh, as `docker` does: with its configuration and agents.
        client = docker.DockerClient(timeout=_PATIENCE, use_ssh_client=True, **daemon.options)
    except docker.errors.DockerException as error:
        raise docker_errors.unreachable(error, where, store, target) from error
    try:
        yield client
    finally:
        client.close()


class _Daemon:
    """What differs between daemons."""

    def __init__(self, client: DockerClient) -> None:
        self._client = client
        self._api: Any = client.api  # its types are half there
        with docker_errors.explained("ask Docker for its version"):
            version, info = client.version(), client.info()
        self._root = info.get("DockerRootDir", "")
        status = dict(pair[:2] for pair in info.get("DriverStatus") or ())
        self._by_digest = status.get("driver-type") == "io.containerd.snapshotter.v1"
        parts = [part.get("Name", "") for part in version.get("Components") or ()]
        api = tuple(int(number) for number in version["ApiVersion"].split("."))
        self.reads_zstd = api >= _READS_ZSTD and "Podman Engine" not in parts

    def find(self, image: Image) -> str | None:
        """The daemon's id of the image, if it has it; also one that came from a registry."""
        for digest in (image.config_digest, image.manifest_digest):
            if attributes := self._inspect(digest):
                return str(attributes["Id"])
        same = (item for item in self._images() if is_same(item, image))
        return next((str(item["Id"]) for item in same), None)

    def layers_of(self, image: Image, store: Store) -> frozenset[int]:
        """The numbers of the image's layers that need not be sent.

        A graph driver finds an unpacked layer by all that lie below it. containerd keeps each blob;
        which ones an image has is in its manifest, which the store knows if it is one of ours.
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
        self._api.timeout = _LOAD_PATIENCE
        with (
            docker_errors.explained(f"load {image.ref}", self._root),
            self._whole_or_gone(wanted),
        ):
            total = docker_archive.transfer_size(archive)
            with progress.stage("docker load", total) as meter, ExitStack() as unpacking:
                answer = self._api.load_image(_counted(pieces, meter, unpacking), quiet=True)
                docker_errors.check(answer)
            if self._by_digest and archive.left_out:
                # containerd may take an image whose layers are not all there.
                self._client.containers.create(wanted, network_mode="none").remove()
        if self._inspect(wanted) is None:
            raise DockerError(
                f"Docker took {image.ref} and does not have it as {wanted}",
                remedy="run the same command again; if it stays so, the daemon's log tells more: "
                "journalctl -u docker",
            )
        return Loaded(wanted, False, len(image.layers), len(archive.sent), archive.size)

    @contextmanager
    def _whole_or_gone(self, image_id: str) -> Iterator[None]:
        """Remove what a failed load leaves: containerd keeps an image that it could not unpack."""
        try:
            yield
        except Exception:
            with suppress(Exception):
                self._client.images.remove(image_id, force=True)
            raise

    def tag(self, image_id: str, name: str) -> None:
        """Give an image a name."""
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
