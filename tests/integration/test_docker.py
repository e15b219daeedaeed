"""Loading into a real Docker daemon, and other tools on the same store. Images are made by hand."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, cast

import pytest

from images.errors import BuildError, DockerError, IntegrityError, UsageError
from images.export.docker import daemon as docker
from images.export.docker.match import full_name
from images.oci.descriptor import COMPRESSIONS, Blob, Compression
from images.oci.image import Image, Layer
from images.oci.layer import writer
from images.oci.layer.entry import Entry, of_bytes, of_symlink
from images.oci.store import store
from images.oci.store.maintenance import verify
from images.oci.store.store import Store
from images.util.progress import Progress
from tests import directories
from tests.image import unpack
from tests.image.containers import running
from tests.integration import dockerd
from tests.integration.dockerd import Daemon
from tests.integration.podman import podman
from tests.integration.registries import need, registry
from tests.unit.layers import BASE, Member, hard, of_tar, tar

PROGRAMS = ("sh", "sleep", "cat", "id", "env", "ls", "touch")
BULK = 30_000_000

Make = Callable[..., Image]


# -- images ----------------------------------------------------------------------------------------


def host_programs() -> Iterator[Entry]:
    """Programs of this machine with the libraries that they need: a small image that runs."""
    files = {f"bin/{name}": Path(shutil.which(name) or "") for name in PROGRAMS}
    needed = subprocess.run(
        ["ldd", *map(str, files.values())], capture_output=True, text=True, check=True
    ).stdout
    for word in needed.split():
        if word.startswith("/") and not word.endswith(":"):
            files[word.lstrip("/")] = Path(word)
    for path, source in sorted(files.items()):
        yield of_bytes(path, source.resolve().read_bytes(), 0o755)


def noise(size: int) -> bytes:
    """Bytes that hardly compress, the same each time."""
    block = bytes(range(256)) * 4
    pieces = []
    for number in range(size // 32 + 1):
        block = hashlib.sha256(block[:32] + number.to_bytes(4, "big")).digest()
        pieces.append(block)
    return b"".join(pieces)[:size]


@pytest.fixture(scope="session")
def bulk() -> bytes:
    return noise(BULK)


@pytest.fixture(scope="session")
def programs() -> list[Entry]:
    return list(host_programs())


@pytest.fixture
def make(layout: Store, programs: list[Entry], bulk: bytes) -> Make:
    def put(entries: Sequence[Entry], compression: Compression) -> Blob:
        with layout.blobs.new_file() as (out, commit):
            blob = writer.write(entries, out, compression)
            commit(blob.digest)
        return blob

    def made(ref: str = "small", *, top: str = "1", compression: Compression = "zstd") -> Image:
        links = [Entry("opt/name", size=4, open=lambda: _bytes(b"name"))]
        links.append(Entry("opt/other", "hardlink", target="opt/name"))
        links.append(of_symlink("opt/link", "name"))
        links.append(Entry("opt/closed", "dir", 0o700, uid=12345))
        layers = {
            "programs": programs,
            "bulk": [of_bytes("opt/bulk", bulk)],
            "links": links,
            "top": [of_bytes("opt/top", top.encode(), 0o640)],
        }
        image = Image(
            ref,
            tuple(Layer(title, put(content, compression)) for title, content in layers.items()),
            {"PATH": "/bin", "GREETING": "hello"},
            {"roll.target": ref},
            "2025-01-01T00:00:00Z",
        )
        layout.save(image)
        return layout.load(ref)

    return made


def _bytes(content: bytes) -> IO[bytes]:
    return io.BytesIO(content)


# -- Docker ----------------------------------------------------------------------------------------


@pytest.fixture(
    scope="module",
    params=["graph driver", "containerd", "current, graph driver", "current, containerd"],
)
def daemon(request: pytest.FixtureRequest) -> Iterator[Daemon]:
    root = None
    if "current" in request.param:
        root = dockerd.current(request.config.getoption("--current-docker"))
    with dockerd.running(containerd_store="containerd" in request.param, root=root) as found:
        yield found


@pytest.fixture
def fresh(daemon: Daemon) -> Daemon:
    """The daemon without any image."""
    images = command("docker", "images", "--all", "--quiet", "--no-trunc").split()
    if images:
        command("docker", "rmi", "--force", *dict.fromkeys(images))
    return daemon


def command(*words: str) -> str:
    """Run a program that must succeed; return its standard output."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def load(layout: Store, image: Image, *tags: str) -> docker.Loaded:
    return docker.load(layout, image, tags or ("tried:latest",), progress=quiet())


def quiet() -> Progress:
    return Progress(Path(os.devnull).open("w"))  # closed with the process


def inside(image: str, *words: str, **options: Any) -> str:
    """What a command prints in a container of the image."""
    with running(image, **options) as container:
        done = container.exec_run(list(words))
        assert done.exit_code == 0, done.output
        return cast("bytes", done.output).decode()


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_loaded_image_runs(
    fresh: Daemon, layout: Store, make: Make, compression: Compression
) -> None:
    image = make(compression=compression)
    loaded = load(layout, image, "tried:latest", "some.registry:5000/team/tried:1")
    digest = image.manifest_digest if fresh.containerd_store else image.config_digest
    assert (loaded.id, loaded.was_there, loaded.sent) == (digest, False, 4)
    for name in ("tried", "some.registry:5000/team/tried:1"):
        assert inside(name, "cat", "/opt/top") == "1"
    listed = " ".join(inside("tried", "ls", "-ln", "/opt").split())
    assert "drwx------ 2 12345 0" in listed
    assert listed.count(" 2 0 0 4 ") == 2, f"hard links: {listed}"
    assert "-rw-r-----" in listed
    assert "link -> name" in listed
    assert "GREETING=hello" in inside("tried", "env")
    repositories = command("docker", "images", "--format", "{{.Repository}}").split()
    assert sorted(repositories) == ["some.registry:5000/team/tried", "tried"], "none unnamed"


def test_second_load_only_tags(fresh: Daemon, layout: Store, make: Make) -> None:
    image = make()
    load(layout, image)
    begin = time.monotonic()
    again = load(layout, image, "tried:other")
    assert time.monotonic() - begin < 1
    assert again.was_there
    assert "already" in again.describe()
    assert inside("tried:other", "cat", "/opt/top") == "1"


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_only_the_changed_layer_is_sent(
    fresh: Daemon, layout: Store, make: Make, compression: Compression
) -> None:
    load(layout, make("old", compression=compression), "tried:old")
    begin = time.monotonic()
    loaded = load(layout, make("new", top="2", compression=compression), "tried:new")
    assert loaded.sent == 1
    assert loaded.bytes < 1000
    assert inside("tried:new", "cat", "/opt/top") == "2"
    assert inside("tried:old", "cat", "/opt/top") == "1"
    assert time.monotonic() - begin < 15, "includes the making of the layers"


def test_layers_that_are_gone_are_sent_again(fresh: Daemon, layout: Store, make: Make) -> None:
    load(layout, make("old"), "tried:old")
    command("docker", "rmi", "--force", "tried:old")
    assert load(layout, make("new", top="2"), "tried:new").sent == 4
    assert inside("tried:new", "cat", "/opt/top") == "2"


def test_daemon_that_refuses_part_of_an_image_gets_all(
    fresh: Daemon, layout: Store, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layers go missing between the question and the load; nothing is left half there."""
    load(layout, make("old"), "tried:old")
    image = make("new", top="2")

    def layers_of(daemon: object, *given: object) -> frozenset[int]:
        command("docker", "rmi", "--force", "tried:old")
        time.sleep(2)  # containerd removes what was below it a little later
        return frozenset({0, 1, 2})

    monkeypatch.setattr("images.export.docker.daemon.Daemon.layers_of", layers_of)
    assert load(layout, image, "tried:new").sent == 4
    assert inside("tried:new", "cat", "/opt/top") == "2"
    command("docker", "save", "--output", str(layout.path.parent / "saved.tar"), "tried:new")


def test_other_compression_is_another_blob(fresh: Daemon, layout: Store, make: Make) -> None:
    """A graph driver has the same layers unpacked; containerd does not have these blobs."""
    load(layout, make("old", compression="gzip"), "tried:old")
    loaded = load(layout, make("new", top="2", compression="zstd"), "tried:new")
    assert loaded.sent == (4 if fresh.containerd_store else 1)
    assert inside("tried:new", "cat", "/opt/top") == "2"
    command("docker", "save", "--output", str(layout.path.parent / "saved.tar"), "tried:new")


def test_image_of_a_registry_is_known(fresh: Daemon, layout: Store, make: Make) -> None:
    compression: Compression = "zstd" if fresh.version >= (23, 0) else "gzip"
    image = make(compression=compression)
    with registry(layout.path.parent) as address:
        skopeo_copy(f"oci:{layout.path}:small", f"docker://{address}/tried:1")
        command("docker", "pull", f"{address}/tried:1")
    assert load(layout, image, "tried:again").was_there
    assert inside("tried:again", "cat", "/opt/top") == "1"


def test_container_has_the_given_settings(fresh: Daemon, layout: Store, make: Make) -> None:
    load(layout, make())
    assert "GREETING=bye" in inside("tried", "env", environment={"GREETING": "bye"})
    user = {"user": "12345:0", "read_only": True, "tmpfs": {"/tmp": "exec"}}
    text = inside("tried", "sh", "-c", "id; touch /tmp/x && echo yes; touch /x || echo no", **user)
    assert "uid=12345 gid=0" in text
    assert "yes\n" in text
    assert "no\n" in text


def test_container_is_removed_with_the_block(fresh: Daemon, layout: Store, make: Make) -> None:
    load(layout, make())
    with pytest.raises(ZeroDivisionError), running("tried"):
        _ = 1 / 0
    with (
        pytest.raises(DockerError, match="no-such-program"),
        running("tried", command=["no-such-program"]),
    ):
        pass
    assert command("docker", "ps", "--all", "--quiet") == ""


def test_gpus_without_the_toolkit(fresh: Daemon, layout: Store, make: Make) -> None:
    if shutil.which("nvidia-container-runtime"):
        pytest.skip("NVIDIA's container toolkit is here")
    load(layout, make())
    with (
        pytest.raises(DockerError) as error,
        running("tried", gpus=True),
    ):
        pass
    assert "container toolkit" in str(error.value.remedy)
    assert "\n" not in error.value.message


def test_refusals_are_passed_on_in_one_line(fresh: Daemon) -> None:
    with (
        pytest.raises(DockerError, match=r"(?i)no such image") as error,
        running("nowhere:1"),
    ):
        pass
    assert error.value.message.startswith("Docker did not run nowhere:1: ")
    assert "\n" not in error.value.message


@pytest.mark.parametrize("name", ["Upper/case", "a b", "", "x:y:z", "http://x/y", "x@sha256:00"])
def test_wrong_names_are_refused_before_anything_is_sent(
    layout: Store, make: Make, name: str
) -> None:
    with pytest.raises(UsageError, match="is not an image name"):
        load(layout, make(), name)


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("a", "docker.io/library/a:latest"),
        ("a/b:1", "docker.io/a/b:1"),
        ("localhost/a", "localhost/a:latest"),
        ("host:5000/a/b/c:t", "host:5000/a/b/c:t"),
        ("reg.example/a", "reg.example/a:latest"),
    ],
)
def test_full_names(name: str, full: str) -> None:
    assert full_name(name) == full


@pytest.mark.parametrize("damage", ["cut off", "overwritten", "missing"])
def test_damaged_layer_is_refused(fresh: Daemon, layout: Store, make: Make, damage: str) -> None:
    image = make(top=f"{damage}: a layer that no daemon has seen before")
    blob = layout.blobs.path(image.layers[-1].blob.digest)
    whole = blob.read_bytes()
    if damage == "missing":
        blob.unlink()
    else:
        changed = whole[:20] + bytes(20) + whole[40:]
        blob.write_bytes(whole[:-1] if damage == "cut off" else changed)
    with pytest.raises(BuildError) as error:
        load(layout, image)
    assert isinstance(error.value, IntegrityError) or damage == "overwritten"
    assert "\n" not in error.value.message
    assert not command("docker", "images", "--quiet")


def test_full_disk_is_named(layout: Store, make: Make) -> None:
    image = make()
    with dockerd.running(size="20m"), pytest.raises(DockerError, match="no space left") as error:
        load(layout, image)
    assert "docker system df" in str(error.value.remedy)
    assert "\n" not in error.value.message


# -- no daemon -------------------------------------------------------------------------------------


def test_no_daemon(
    layout: Store, make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    image = make()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing.sock")
    with pytest.raises(DockerError, match="there is no such socket") as error:
        load(layout, image)
    assert "nothing.sock (DOCKER_HOST)" in error.value.message
    for what in ("build, inspect and verify", f"oci:{layout.path}:small", "podman pull"):
        assert what in str(error.value.remedy)
    assert not docker.answers()


def test_no_server_listens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    address = tmp_path / "left.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(address))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{address}")
    with pytest.raises(DockerError, match="nothing listens there"), running("any"):
        pass


def test_wrong_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "nonsense://")
    with pytest.raises(DockerError, match=r"nonsense:// \(DOCKER_HOST\)"), running("any"):
        pass


def test_no_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        dockerd.absent("only root can become somebody else")
    import docker as sdk  # loaded before the change of user, who may not read it

    assert sdk
    with directories.open_to_all() as place, socket.socket(socket.AF_UNIX) as server:
        address = place / "root.sock"
        server.bind(os.fspath(address))
        address.chmod(0o600)
        server.listen()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{address}")
        os.seteuid(65534)
        try:
            with pytest.raises(DockerError, match="no permission") as error, running("any"):
                pass
        finally:
            os.seteuid(0)
    assert "group `docker`" in str(error.value.remedy)


def test_builder_does_not_import_the_sdk() -> None:
    """A rebuild that makes nothing takes a third of a second: the SDK alone would take as long."""
    root = Path(__file__).resolve().parent.parent.parent
    code = "import sys, images.export.docker.daemon; sys.exit('requests' in sys.modules)"
    subprocess.run([shutil.which("python3") or "python3", "-c", code], cwd=root, check=True)


# -- other tools on the same store -----------------------------------------------------------------


def skopeo_copy(source: str, target: str) -> None:
    need("skopeo")
    insecure = ["--src-tls-verify=false", "--dest-tls-verify=false"]
    command("skopeo", "--insecure-policy", "copy", *insecure, source, target)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_skopeo_takes_the_store_as_it_is(
    layout: Store, make: Make, tmp_path: Path, compression: Compression
) -> None:
    need("skopeo")
    image = make(compression=compression)
    found = json.loads(command("skopeo", "inspect", f"oci:{layout.path}:small"))
    assert found["Digest"] == image.manifest_digest
    assert found["Layers"] == [item.blob.digest for item in image.layers]
    assert found["Labels"] == dict(image.labels)
    config = command("skopeo", "inspect", "--config", "--raw", f"oci:{layout.path}:small")
    assert config.encode() == image.config
    skopeo_copy(f"oci:{layout.path}:small", f"oci:{tmp_path}/copy:small")
    copied = store.open_store(tmp_path / "copy", create=False)
    assert copied.images() == layout.images()
    assert verify(copied) == []


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_registry_and_back(
    layout: Store, make: Make, tmp_path: Path, compression: Compression
) -> None:
    image = make(compression=compression)
    with registry(tmp_path) as address:
        skopeo_copy(f"oci:{layout.path}:small", f"docker://{address}/team/small:1")
        skopeo_copy(f"docker://{address}/team/small:1", f"oci:{tmp_path}/back:small")
    back = store.open_store(tmp_path / "back", create=False)
    assert back.images() == {"small": image.manifest_digest}
    assert back.load("small") == replace(image, ref="small")
    assert verify(back) == []


def test_umoci_unpacks_the_same_files(layout: Store, make: Make, tmp_path: Path) -> None:
    need("umoci")
    image = make(compression="gzip")
    rootless = [] if os.geteuid() == 0 else ["--rootless"]
    bundle = tmp_path / "bundle"
    command("umoci", "unpack", *rootless, "--image", f"{layout.path}:small", str(bundle))
    unpack.unpack(layout, image, tmp_path / "ours", quiet(), setuid=True)
    assert tree(tmp_path / "ours") == tree(bundle / "rootfs")


def test_umoci_unpacks_the_same_files_of_a_custom_base(layout: Store, tmp_path: Path) -> None:
    """Layers that remove files, hide directories, and write through links."""
    need("umoci")
    through = [hard("again", "d/other"), Member("now/through", b"a link"), Member("no/parent")]
    layers = [Layer("", of_tar(layout, tar(members))) for members in [*BASE, through]]
    history = tuple({"created_by": "RUN something"} for _ in layers)
    image = Image("own", tuple(layers), {}, {}, "2025-01-01T00:00:00Z", history)
    layout.save(image)
    rootless = [] if os.geteuid() == 0 else ["--rootless"]
    bundle = tmp_path / "bundle"
    command("umoci", "unpack", *rootless, "--image", f"{layout.path}:own", str(bundle))
    unpack.unpack(layout, image, tmp_path / "ours", quiet(), setuid=True)
    assert tree(tmp_path / "ours") == tree(bundle / "rootfs")


def tree(root: Path) -> dict[str, tuple[object, ...]]:
    """Every file with what an image records of it."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        stat = path.lstat()
        links = stat.st_nlink if path.is_file() else 0
        content: object = None
        if path.is_symlink():
            content = path.readlink()
        elif path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        where = str(path.relative_to(root))
        found[where] = (oct(stat.st_mode), stat.st_uid, stat.st_gid, links, content)
    return found


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_podman_pulls_and_runs(layout: Store, make: Make, compression: Compression) -> None:
    image = make(compression=compression)
    with podman() as node:
        config = node.pull(f"oci:{layout.path}:small")
        assert config == image.config_digest
        assert node.run(config, "cat", "/opt/top") == "1"
