"""Pushing to a real registry, straight and through a proxy with which everything goes wrong."""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from images import layer, push, store
from images.entry import Entry, of_bytes
from images.errors import BuildError, IntegrityError, LoginError, RegistryError, UsageError
from images.image import Image, Layer
from images.layer import Blob, Compression
from images.progress import Progress
from images.push import Pushed
from images.reference import Repository
from images.registry import Registry
from images.retry import Policy
from images.store import Store
from tests.integration.conftest import MATRIX, TARGET, Cli
from tests.integration.registries import (
    HTPASSWD,
    PASSWORD,
    Fault,
    Proxy,
    TokenServer,
    need,
    proxy,
    registry,
)

MIB = 1 << 20
BULK = 12 * MIB
QUICK = Policy(first=0.01, longest=0.05)

Make = Callable[..., Image]


@pytest.fixture(autouse=True)
def own_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Docker's configuration, apart from the real one; there is none until a test writes it."""
    place = tmp_path / "docker"
    place.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(place))
    monkeypatch.setenv("HOME", str(place))
    return place / "config.json"


@pytest.fixture
def make(layout: Store) -> Make:
    """Makes an image of three layers: one that is sent as a stream, two that are not."""

    def put(entries: Sequence[Entry], compression: Compression) -> Blob:
        with layout.new_file() as (out, commit):
            blob = layer.write(entries, out, compression)
            commit(blob.digest)
        return blob

    def made(*, top: str = "1", compression: Compression = "zstd", ref: str = TARGET) -> Image:
        noise = random.Random(1)
        content = {
            "bulk": [of_bytes("opt/bulk", noise.randbytes(BULK))],
            "small": [of_bytes("opt/small", noise.randbytes(MIB))],
            "top": [of_bytes("opt/top", top.encode())],
        }
        layers = (Layer(title, put(item, compression)) for title, item in content.items())
        image = Image(ref, tuple(layers), {"A": "1"}, {"roll.target": ref}, "2025-01-01T00:00:00Z")
        layout.save(image)
        return layout.load(ref)

    return made


class Shown(Progress):
    """Progress that nobody sees; adds up what is told."""

    def __init__(self) -> None:
        super().__init__(Path(os.devnull).open("w"))  # noqa: SIM115
        self.total = self.done = self.most = 0

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Any]:
        self.total = total
        yield self

    def advance(self, amount: int) -> None:
        self.done += amount
        self.most = max(self.most, self.done)


def pushed(
    layout: Store,
    image: Image,
    address: str,
    name: str = "team/app",
    *,
    tag: str = "v1",
    progress: Progress | None = None,
    policy: Policy = QUICK,
    **options: Any,
) -> Pushed:
    repository = Repository(address, name)
    with Registry(repository, plain_http=True, policy=policy) as connected:
        options = {"jobs": 3, **options}
        return push.push(layout, image, connected, tag, progress=progress or Shown(), **options)


def states(done: Pushed) -> list[str]:
    return [blob.state for blob in done.blobs]


def digest_in(address: str, name: str = "team/app:v1") -> str | None:
    """What skopeo finds there, or None."""
    need("skopeo")
    command = ["skopeo", "inspect", "--tls-verify=false", f"docker://{address}/{name}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return json.loads(done.stdout)["Digest"] if done.returncode == 0 else None


def whole_in(address: str, place: Path, name: str = "team/app:v1") -> Store:
    """The image as skopeo copies it out of the registry, each byte verified."""
    need("skopeo")
    command = ["skopeo", "--insecure-policy", "copy", "--src-tls-verify=false"]
    command += [f"docker://{address}/{name}", f"oci:{place}:back"]
    subprocess.run(command, check=True, capture_output=True)
    back = store.open_store(place, create=False)
    assert back.verify() == []
    return back


# -- what is sent ----------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", layer.COMPRESSIONS)
def test_pushed_image_is_the_same_bytes(
    layout: Store, make: Make, server: str, tmp_path: Path, compression: Compression
) -> None:
    image = make(compression=compression)
    shown = Shown()
    done = pushed(layout, image, server, progress=shown)
    assert states(done) == ["sent"] * 4
    assert done.reference == f"{server}/team/app@{image.manifest_digest}"
    assert (shown.done, shown.most) == (shown.total, shown.total)
    assert shown.total == image.size + len(image.config)
    assert done.bytes_sent == shown.total + 2 * len(image.manifest)
    assert whole_in(server, tmp_path / "back").images() == {"back": image.manifest_digest}
    by_digest = f"team/app@{image.manifest_digest}"
    assert digest_in(server, by_digest) == image.manifest_digest


def test_podman_pulls_what_was_pushed(
    layout: Store, make: Make, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("podman")
    monkeypatch.delenv("DOCKER_CONFIG")  # podman wants a file where that leads
    image = make()
    done = pushed(layout, image, server)
    place = Path(tempfile.mkdtemp(prefix="podman-"))  # podman takes no longer paths
    podman = ["podman", "--root", f"{place}/root", "--runroot", f"{place}/run"]
    podman += ["--cgroup-manager=cgroupfs", "--events-backend=file"]
    try:
        pull = [*podman, "pull", "--quiet", "--tls-verify=false", done.reference]
        told = subprocess.run(pull, check=True, capture_output=True, text=True).stdout.strip()
        assert f"sha256:{told}" == image.config_digest
    finally:
        subprocess.run([*podman, "system", "reset", "--force"], capture_output=True, check=False)
        shutil.rmtree(place)


def test_unchanged_image_costs_one_question(layout: Store, make: Make, faulty: Proxy) -> None:
    image = make()
    pushed(layout, image, faulty.address)
    faulty.seen.clear()
    done = pushed(layout, image, faulty.address)
    assert [(item.method, item.path) for item in faulty.seen] == [
        ("HEAD", "/v2/team/app/manifests/v1")
    ]
    assert (done.unchanged, done.bytes_sent, states(done)) == (True, 0, ["present"] * 4)


def test_another_tag_of_it_sends_no_blob(layout: Store, make: Make, faulty: Proxy) -> None:
    image = make()
    pushed(layout, image, faulty.address)
    faulty.seen.clear()
    done = pushed(layout, image, faulty.address, tag="v2")
    assert states(done) == ["present"] * 4
    assert not faulty.requests("POST")
    assert digest_in(faulty.address, "team/app:v2") == image.manifest_digest


def test_only_the_changed_layer_is_sent(layout: Store, make: Make, faulty: Proxy) -> None:
    pushed(layout, make(), faulty.address)
    faulty.seen.clear()
    image = make(top="2")
    done = pushed(layout, image, faulty.address)
    assert states(done) == ["present", "present", "sent", "sent"]
    assert done.bytes_sent == sum(item.length for item in faulty.seen)
    assert done.bytes_sent < 10_000
    assert digest_in(faulty.address) == image.manifest_digest


def test_layer_that_only_the_registry_has_is_no_hindrance(
    layout: Store, make: Make, server: str
) -> None:
    pushed(layout, make(), server)
    image = make(top="2")
    layout.blob_path(image.layers[0].blob.digest).unlink()
    assert states(pushed(layout, image, server))[0] == "present"


def test_tag_comes_last(layout: Store, make: Make, faulty: Proxy) -> None:
    image = make()
    pushed(layout, image, faulty.address)
    writes = [item.path for item in faulty.seen if item.method in ("POST", "PUT", "PATCH")]
    assert writes[-2:] == [
        f"/v2/team/app/manifests/{image.manifest_digest}",
        "/v2/team/app/manifests/v1",
    ]
    assert not [path for path in writes[:-2] if "/manifests/" in path]


# -- mounts ----------------------------------------------------------------------------------------


def test_blobs_of_a_repository_pushed_to_before_are_mounted(
    layout: Store, make: Make, faulty: Proxy, tmp_path: Path
) -> None:
    pushed(layout, make(), faulty.address, "team/first")
    faulty.seen.clear()
    image = make(top="2")
    done = pushed(layout, image, faulty.address)
    assert states(done) == ["mounted", "mounted", "sent", "sent"]
    assert faulty.count("POST", "mount=") == 2
    whole_in(faulty.address, tmp_path / "back")


def test_blobs_of_a_named_repository_are_mounted(
    layout: Store, make: Make, server: str, tmp_path: Path
) -> None:
    image = make()
    pushed(layout, image, server, "team/first")
    shutil.rmtree(layout.path / ".roll" / "pushed")
    done = pushed(layout, image, server, mount_from=["no/such", "team/app", "team/first"])
    assert states(done) == ["mounted"] * 4
    whole_in(server, tmp_path / "back")


@pytest.mark.parametrize("refusal", ["repository gone", "not supported", "denied"])
def test_refused_mount_is_sent_instead(
    layout: Store, make: Make, faulty: Proxy, tmp_path: Path, refusal: str
) -> None:
    image = make()
    pushed(layout, image, faulty.address, "team/first")
    if refusal == "repository gone":
        data = tmp_path / "registry" / "docker" / "registry" / "v2"
        shutil.rmtree(data / "repositories" / "team" / "first")
        shutil.rmtree(data / "blobs")
    else:
        status = {"not supported": 400, "denied": 403}[refusal]
        faulty.faults.append(Fault("status", "POST", "mount=", status=status, times=99))
    done = pushed(layout, image, faulty.address)
    assert states(done) == ["sent"] * 4
    whole_in(faulty.address, tmp_path / "back")


def test_repository_that_may_not_be_read_is_not_mounted_from(
    layout: Store, make: Make, faulty: Proxy, own_config: Path
) -> None:
    log_in(own_config, faulty.address)
    tokens = TokenServer(faulty, readable="team/app")
    image = make()
    pushed(layout, image, faulty.address, "secret/first")
    done = pushed(layout, image, faulty.address)
    assert states(done) == ["sent"] * 4
    assert ["repository:team/app:pull,push"] in tokens.issued


def test_readable_repository_is_mounted_with_a_token_for_both(
    layout: Store, make: Make, faulty: Proxy, own_config: Path
) -> None:
    log_in(own_config, faulty.address)
    tokens = TokenServer(faulty)
    image = make()
    pushed(layout, image, faulty.address, "team/first")
    assert states(pushed(layout, image, faulty.address)) == ["mounted"] * 4
    assert ["repository:team/app:pull,push", "repository:team/first:pull"] in tokens.issued


# -- what breaks on the way ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["torn", "deaf", "lost", "cut"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("HEAD", "manifests"),
        ("HEAD", "blobs"),
        ("POST", "uploads"),
        ("PATCH", ""),
        ("PUT", "uploads"),
        ("PUT", "manifests/sha256"),
        ("PUT", "manifests/v1"),
    ],
)
def test_any_request_may_break_in_any_way(
    layout: Store, make: Make, faulty: Proxy, tmp_path: Path, kind: str, method: str, path: str
) -> None:
    image = make()
    shown = Shown()
    faulty.faults.append(Fault(kind, method, path, after=700))
    done = pushed(layout, image, faulty.address, progress=shown)
    assert not faulty.faults, "it happened"
    assert (shown.done, shown.most) == (shown.total, shown.total)
    assert done.bytes_sent >= image.size
    assert whole_in(faulty.address, tmp_path / "back").images() == {"back": image.manifest_digest}


def test_connections_that_break_at_random_bytes(
    layout: Store, make: Make, faulty: Proxy, tmp_path: Path
) -> None:
    chance = random.Random(11)
    for _ in range(4):
        faulty.faults.append(Fault("torn", "PATCH", after=chance.randrange(BULK)))
        faulty.faults.append(Fault("torn", "PUT", "uploads", after=chance.randrange(MIB)))
        faulty.faults.append(Fault("cut", skip=chance.randrange(8)))
    image = make()
    shown = Shown()
    pushed(layout, image, faulty.address, progress=shown)
    assert shown.done == shown.total
    whole_in(faulty.address, tmp_path / "back")


def test_torn_blob_goes_on_where_the_registry_has_it(
    layout: Store, make: Make, faulty: Proxy, tmp_path: Path
) -> None:
    chance = random.Random(5)
    faulty.faults += [Fault("kept", "PATCH", after=chance.randrange(2 * MIB)) for _ in range(5)]
    image = make()
    shown = Shown()
    pushed(layout, image, faulty.address, progress=shown)
    parts = faulty.requests("PATCH")
    assert len(parts) == 6
    assert parts[0].range is None
    begins = [int((part.range or "").split("-")[0]) for part in parts[1:]]
    assert begins == sorted(set(begins))
    ends = {int((part.range or "").split("-")[1]) for part in parts[1:]}
    assert ends == {image.layers[0].blob.size - 1}
    assert faulty.count("POST", "uploads") == 4, "no upload was begun twice"
    assert (shown.done, shown.most) == (shown.total, shown.total)
    whole_in(faulty.address, tmp_path / "back")


def test_progress_keeps_a_shaky_line_alive(layout: Store, make: Make, faulty: Proxy) -> None:
    """More failures than the policy allows, but each attempt brought something."""
    faulty.faults += [Fault("kept", "PATCH", after=MIB) for _ in range(9)]
    pushed(layout, make(), faulty.address, policy=Policy(attempts=3, first=0.01, longest=0.02))


def test_torn_blob_begins_anew_where_the_registry_forgot_it(
    layout: Store, make: Make, faulty: Proxy, tmp_path: Path
) -> None:
    """What Distribution 2.8 does with an upload whose PATCH was torn."""
    faulty.faults.append(Fault("torn", "PATCH", after=5 * MIB))
    image = make()
    pushed(layout, image, faulty.address)
    assert faulty.count("GET", "uploads") == 1
    assert [part.range for part in faulty.requests("PATCH")] == [None, None]
    whole_in(faulty.address, tmp_path / "back")


@pytest.mark.parametrize(
    "answer",
    [
        (413, b"<html>413 Request Entity Too Large</html>"),
        (416, b'{"errors":[{"code":"X","message":"the request body is too large"}]}'),
    ],
)
def test_small_body_limit_makes_chunks(
    layout: Store, make: Make, faulty: Proxy, tmp_path: Path, answer: tuple[int, bytes]
) -> None:
    faulty.largest, faulty.too_large = 5 * MIB, answer
    image = make()
    pushed(layout, image, faulty.address)
    parts = [part for part in faulty.requests("PATCH") if part.range]
    assert [part.length for part in parts[:2]] == [4 * MIB, 4 * MIB]
    assert sum(part.length for part in parts) == image.layers[0].blob.size
    whole_in(faulty.address, tmp_path / "back")


def test_chunk_that_is_lost_before_the_registry_is_sent_again_alone(
    layout: Store, make: Make, faulty: Proxy, tmp_path: Path
) -> None:
    """A proxy that gathers a request before it passes it on: the chunks before stay."""
    faulty.largest = 5 * MIB
    faulty.faults.append(Fault("deaf", "PATCH", skip=1))
    image = make()
    pushed(layout, image, faulty.address)
    ranges = [part.range for part in faulty.requests("PATCH") if part.range]
    assert len(ranges) == 5
    assert len(set(ranges)) == 4
    whole_in(faulty.address, tmp_path / "back")


def test_limit_below_every_chunk_is_told(layout: Store, make: Make, faulty: Proxy) -> None:
    faulty.largest = 2 * MIB
    with pytest.raises(RegistryError, match="413"):
        pushed(layout, make(), faulty.address)
    assert digest_in(faulty.address) is None


@pytest.mark.parametrize("status", [404, 416])
def test_upload_that_the_registry_lost_begins_anew(
    layout: Store, make: Make, faulty: Proxy, tmp_path: Path, status: int
) -> None:
    faulty.faults.append(Fault("status", "PATCH", status=status, times=2))
    pushed(layout, make(), faulty.address)
    assert [part.range for part in faulty.requests("PATCH")] == [None] * 3
    whole_in(faulty.address, tmp_path / "back")


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("method", ["HEAD", "POST", "PATCH", "PUT"])
def test_passing_statuses_are_waited_out(
    layout: Store, make: Make, faulty: Proxy, status: int, method: str
) -> None:
    image = make()
    faulty.faults.append(Fault("status", method, status=status, times=2))
    pushed(layout, image, faulty.address)
    assert digest_in(faulty.address) == image.manifest_digest


@pytest.mark.parametrize("method", ["HEAD", "POST", "PATCH", "PUT"])
def test_retry_after_is_heeded(layout: Store, make: Make, faulty: Proxy, method: str) -> None:
    headers = {"Retry-After": "1"}
    faulty.faults.append(Fault("status", method, status=429, headers=headers))
    pushed(layout, make(), faulty.address, jobs=1)
    number = [item.method for item in faulty.seen].index(method)
    refused, following = faulty.seen[number : number + 2]
    assert following.when - refused.when >= 1


def test_slow_answers_are_waited_for(layout: Store, make: Make, faulty: Proxy) -> None:
    faulty.faults.append(Fault("slow", times=10))
    pushed(layout, make(), faulty.address)


def test_registry_that_stays_down_ends_it(layout: Store, make: Make, faulty: Proxy) -> None:
    faulty.faults.append(Fault("status", "PATCH", status=503, times=99))
    shown = Shown()
    with pytest.raises(RegistryError, match="6 attempts failed, the last one: HTTP 503") as error:
        pushed(layout, make(), faulty.address, progress=shown)
    assert "same command" in str(error.value.remedy)
    assert faulty.count("PATCH") == 6
    assert digest_in(faulty.address) is None


def test_manifest_that_is_refused_leaves_the_tag(layout: Store, make: Make, faulty: Proxy) -> None:
    before = make()
    pushed(layout, before, faulty.address)
    faulty.faults.append(Fault("status", "PUT", "manifests/sha256", status=400, times=99))
    with pytest.raises(RegistryError, match="HTTP 400"):
        pushed(layout, make(top="2"), faulty.address)
    assert digest_in(faulty.address) == before.manifest_digest


def test_registry_that_alters_the_manifest_is_found_out(
    layout: Store, make: Make, faulty: Proxy
) -> None:
    image = make()

    def lie(request: Any) -> bool:
        if request.command == "HEAD" and "manifests/sha256" in request.path:
            request.answer(200, {"Docker-Content-Digest": "sha256:" + "0" * 64}, b"")
            return True
        return False

    faulty.guard = lie
    with pytest.raises(RegistryError, match=f"instead of {image.manifest_digest}"):
        pushed(layout, image, faulty.address)
    faulty.guard = None
    assert digest_in(faulty.address) is None


# -- interrupted -----------------------------------------------------------------------------------


def command_line(layout: Store, address: str, *options: str) -> list[str]:
    to = ["--to", f"{address}/team/app:v1", "--plain-http", *options]
    return Cli(layout.path).command("push", "--target", TARGET, *to)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_interrupted_push_leaves_no_tag_and_goes_on(
    layout: Store, make: Make, faulty: Proxy, tmp_path: Path, how: signal.Signals
) -> None:
    """The large layer hangs; the small ones are there when the process ends."""
    image = make()
    faulty.faults.append(Fault("stalled", "PATCH", times=1))
    with subprocess.Popen(command_line(layout, faulty.address), stderr=subprocess.PIPE) as child:
        assert faulty.stalled.wait(60)
        while sum(item.length > 0 for item in faulty.requests("PUT")) < 3:
            time.sleep(0.05)
        time.sleep(0.5)  # the answers
        child.send_signal(how)
        _, said = child.communicate(timeout=30)
    assert child.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    assert b"Traceback" not in said
    assert digest_in(faulty.address) is None
    faulty.seen.clear()
    done = pushed(layout, image, faulty.address)
    assert states(done) == ["sent", "present", "present", "present"]
    whole_in(faulty.address, tmp_path / "back")


def test_failure_of_one_blob_breaks_the_others_off(
    layout: Store, make: Make, faulty: Proxy
) -> None:
    faulty.faults.append(Fault("stalled", "PATCH", times=1))
    faulty.faults.append(Fault("status", "PUT", "uploads", status=403, times=99))
    with pytest.raises(LoginError, match="HTTP 403"):
        pushed(layout, make(), faulty.address)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("registry")]


@pytest.mark.parametrize("number", [0, 1], ids=["large", "small"])
@pytest.mark.parametrize("damage", ["flipped", "cut off", "missing"])
def test_damaged_blob_is_named_and_refused(
    layout: Store, make: Make, faulty: Proxy, number: int, damage: str
) -> None:
    image = make()
    blob = image.layers[number].blob
    path = layout.blob_path(blob.digest)
    content = bytearray(path.read_bytes())
    path.unlink()
    if damage == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "cut off":
        path.write_bytes(content[:-1])
    with pytest.raises(IntegrityError) as error:
        pushed(layout, image, faulty.address)
    assert blob.digest in error.value.message
    assert "gc --damaged" in str(error.value.remedy)
    assert not faulty.requests("PUT", "manifests")
    assert digest_in(faulty.address) is None


# -- logins ----------------------------------------------------------------------------------------


def log_in(config: Path, address: str, password: str = PASSWORD) -> None:
    """What `docker login` writes."""
    auth = base64.b64encode(f"user:{password}".encode()).decode()
    config.write_text(json.dumps({"auths": {address: {"auth": auth}}}))


@pytest.fixture
def basic(tmp_path: Path) -> Iterator[str]:
    """A registry that wants Basic authorization."""
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    auth = {"htpasswd": {"realm": "test", "path": str(tmp_path / "htpasswd")}}
    with registry(tmp_path, auth=auth) as address:
        yield address


def test_basic_login(layout: Store, make: Make, basic: str, own_config: Path) -> None:
    log_in(own_config, basic)
    assert states(pushed(layout, make(), basic)) == ["sent"] * 4
    assert pushed(layout, make(), basic).unchanged


def test_login_of_a_credential_helper(
    layout: Store,
    make: Make,
    basic: str,
    own_config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    helper = tmp_path / "bin" / "docker-credential-tried"
    helper.parent.mkdir()
    secret = json.dumps({"Username": "user", "Secret": PASSWORD, "ServerURL": basic})
    helper.write_text(f"#!/bin/sh\n[ \"$1\" = get ] && cat > /dev/null && echo '{secret}'\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{helper.parent}:{os.environ['PATH']}")
    own_config.write_text(json.dumps({"credHelpers": {basic: "tried"}}))
    assert states(pushed(layout, make(), basic)) == ["sent"] * 4


@pytest.mark.parametrize("scheme", ["basic", "token"])
@pytest.mark.parametrize("login", [None, "wrong-s3cr3t"])
def test_wrong_login_is_told_without_its_secret(
    layout: Store,
    make: Make,
    basic: str,
    own_config: Path,
    faulty: Proxy,
    scheme: str,
    login: str | None,
) -> None:
    make()
    address = basic
    if scheme == "token":
        TokenServer(faulty)
        address = faulty.address
    if login:
        log_in(own_config, address, login)
    run = command_line(layout, address)
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 12
    assert f"docker login {address}" in done.stderr
    told = "does not take the login" if login else "holds none for it"
    assert told in done.stderr
    secret = base64.b64encode(f"user:{login}".encode()).decode()
    assert "s3cr3t" not in done.stderr
    assert secret not in done.stderr
    assert "Traceback" not in done.stderr


def test_login_that_may_not_push_is_told(layout: Store, make: Make, faulty: Proxy) -> None:
    faulty.faults.append(Fault("status", "POST", status=403, times=99))
    with pytest.raises(LoginError, match="an upload to team/app: HTTP 403") as error:
        pushed(layout, make(), faulty.address)
    assert "docker login" in str(error.value.remedy)


@pytest.mark.parametrize("uses", [3, 5])
def test_token_that_expires_in_the_middle_is_renewed(
    layout: Store,
    make: Make,
    faulty: Proxy,
    own_config: Path,
    tmp_path: Path,
    uses: int,
) -> None:
    log_in(own_config, faulty.address)
    tokens = TokenServer(faulty, uses=uses)
    image = make()
    done = pushed(layout, image, faulty.address, jobs=1)
    assert states(done) == ["sent"] * 4
    assert len(tokens.issued) > 2
    faulty.guard = None
    whole_in(faulty.address, tmp_path / "back")


def test_tokens_that_other_threads_use_up_are_renewed(
    layout: Store, make: Make, faulty: Proxy, own_config: Path
) -> None:
    log_in(own_config, faulty.address)
    TokenServer(faulty, uses=1)
    assert states(pushed(layout, make(), faulty.address, jobs=8)) == ["sent"] * 4


def test_token_near_its_end_is_renewed_before_it_is_used(
    layout: Store, make: Make, faulty: Proxy, own_config: Path
) -> None:
    log_in(own_config, faulty.address)
    tokens = TokenServer(faulty, lifetime=0)  # tells 0: the protocol's 60 s
    pushed(layout, make(), faulty.address)
    assert len(tokens.issued) == 1
    assert faulty.count("GET", "/token") == 1


def test_identity_token_is_exchanged(
    layout: Store, make: Make, faulty: Proxy, own_config: Path
) -> None:
    entry = {"auth": "PHRva2VuPjo=", "identitytoken": "s3cr3t-token"}
    own_config.write_text(json.dumps({"auths": {faulty.address: entry}}))
    TokenServer(faulty)
    assert states(pushed(layout, make(), faulty.address)) == ["sent"] * 4
    assert faulty.count("POST", "/token") == 1


def test_token_server_that_is_down_for_a_moment(
    layout: Store, make: Make, faulty: Proxy, own_config: Path
) -> None:
    log_in(own_config, faulty.address)
    tokens = TokenServer(faulty, uses=4)
    down = [3, 503]

    def guard(request: Any) -> bool:
        if request.path.startswith("/token") and down[0]:
            down[0] -= 1
            request.answer(down[1], {}, b"")
            return True
        return tokens(request)

    faulty.guard = guard
    assert states(pushed(layout, make(), faulty.address)) == ["sent"] * 4


def test_manifest_that_another_brings_at_the_same_moment(
    layout: Store, make: Make, faulty: Proxy
) -> None:
    """Distribution 2.8 tells one of two clients that what both bring has another digest."""
    said = {"errors": [{"code": "DIGEST_INVALID", "message": "provided digest did not match"}]}
    left = [1]

    def guard(request: Any) -> bool:
        if request.command == "PUT" and "/manifests/" in request.path and left[0]:
            left[0] -= 1
            request.answer(400, {"Content-Type": "application/json"}, json.dumps(said).encode())
            return True
        return False

    faulty.guard = guard
    image = make()
    assert pushed(layout, image, faulty.address).manifest_digest == image.manifest_digest
    assert left == [0]


def test_netrc_is_not_for_registries(
    layout: Store, make: Make, faulty: Proxy, own_config: Path
) -> None:
    (own_config.parent / ".netrc").write_text("machine 127.0.0.1 login user password s3cr3t\n")
    given: list[str | None] = []

    def look(request: Any) -> bool:
        given.append(request.headers.get("Authorization"))
        return False

    faulty.guard = look
    pushed(layout, make(), faulty.address)
    assert set(given) == {None}


def test_upload_elsewhere_gets_no_login(
    layout: Store, make: Make, basic: str, own_config: Path, tmp_path: Path
) -> None:
    """Some registries let the bytes go to a storage's own address: the login is not for it."""
    log_in(own_config, basic)
    with proxy(basic) as front, proxy(basic) as storage:
        log_in(own_config, front.address)
        given: list[str | None] = []

        def add_login(request: Any) -> bool:
            given.append(request.headers.get("Authorization"))
            return False

        storage.guard = add_login
        storage.login = "Basic " + base64.b64encode(f"user:{PASSWORD}".encode()).decode()
        front.uploads_at = storage.address
        assert states(pushed(layout, make(), front.address)) == ["sent"] * 4
    assert len(given) > 4
    assert set(given) == {None}


# -- TLS -------------------------------------------------------------------------------------------


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A registry with a certificate of its own: its address and the certificate."""
    need("openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-keyout", str(key), "-out", str(certificate), "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    tls = {"certificate": str(certificate), "key": str(key)}
    with registry(tmp_path, http={"tls": tls}) as address:
        yield address, certificate


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_tls_with_a_certificate_of_ones_own(
    layout: Store,
    make: Make,
    secure: tuple[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    address, certificate = secure
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(certificate))
    image = make()
    with Registry(Repository(address, "team/app"), policy=QUICK) as connected:
        done = push.push(layout, image, connected, "v1", jobs=3, progress=Shown())
    assert states(done) == ["sent"] * 4
    assert digest_in(address) == image.manifest_digest


def test_certificate_that_is_not_trusted(
    layout: Store, make: Make, secure: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    with (
        Registry(Repository(secure[0], "team/app"), policy=QUICK) as connected,
        pytest.raises(RegistryError, match="certificate is not trusted") as error,
    ):
        push.push(layout, make(), connected, "v1", jobs=3, progress=Shown())
    assert "REQUESTS_CA_BUNDLE" in str(error.value.remedy)


def test_plain_http_only_when_asked(layout: Store, make: Make, faulty: Proxy) -> None:
    with (
        Registry(Repository(faulty.address, "team/app"), policy=QUICK) as connected,
        pytest.raises(BuildError) as error,
    ):
        push.push(layout, make(), connected, "v1", jobs=3, progress=Shown())
    assert "--plain-http" in str(error.value.remedy)
    assert not faulty.seen


# -- the command line ------------------------------------------------------------------------------


def test_json_and_summary(layout: Store, make: Make, server: str) -> None:
    image = make()
    to = [f"{server}/team/app", "--plain-http"]
    cli = Cli(layout.path)
    first = cli.run("push", "--target", TARGET, "--to", *to, "--json")
    assert first.returncode == 0, first.stderr
    document = json.loads(first.stdout)
    assert set(document) == {
        "target", "reference", "tag", "manifest_digest", "blobs", "attached", "bytes_sent"
    }  # fmt: skip
    assert document["attached"] == []
    assert document["target"] == document["tag"] == TARGET
    assert document["reference"] == f"{server}/team/app@{image.manifest_digest}"
    wanted = [(item.blob.digest, item.blob.size, "sent") for item in image.layers]
    wanted.append((image.config_digest, len(image.config), "sent"))
    assert [(b["digest"], b["size"], b["state"]) for b in document["blobs"]] == wanted
    second = cli.run("push", "--target", TARGET, "--to", *to)
    assert second.returncode == 0, second.stderr
    assert "(unchanged)" in second.stdout
    assert document["reference"] in second.stdout
    assert second.stderr == ""
    assert digest_in(server, f"team/app:{TARGET}") == image.manifest_digest


@pytest.mark.parametrize(
    ("to", "told"),
    [
        ("roll-sglang", "names no registry"),
        ("team/app:v1", "names no registry"),
        ("https://registry.example.com/app", "no scheme"),
    ],
)
def test_a_registry_must_be_named(layout: Store, make: Make, to: str, told: str) -> None:
    make()
    done = Cli(layout.path).run("push", "--target", TARGET, "--to", to)
    assert done.returncode == UsageError.exit_code
    assert told in done.stderr


def test_image_that_was_not_built(layout: Store, tmp_path: Path) -> None:
    done = Cli(layout.path).run("push", "--all", "--to", "localhost:1/app")
    assert done.returncode == UsageError.exit_code
    assert "holds no image" in done.stderr
    assert MATRIX.is_file()
