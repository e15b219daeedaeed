"""Getting manifests and blobs out of a real registry, and through a proxy that breaks things."""

from __future__ import annotations

import base64
import io
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from images.errors import IntegrityError, RegistryError
from images.http.retry import Policy
from images.oci.descriptor import CONFIG_TYPE, MANIFEST_TYPE, digest_of
from images.oci.reference import Repository
from images.oci.registry import download, manifests
from images.oci.registry.client import Registry
from images.oci.registry.refusals import NotFoundError
from images.oci.registry.upload_session import UploadSession
from tests.integration.registries import Fault, Proxy, TokenServer, proxy, registry

QUICK = Policy(base_delay=0.01, max_delay=0.05)
MIB = 1 << 20
CONTENT = random.Random(3).randbytes(6 * MIB)
DIGEST = digest_of(CONTENT)


@pytest.fixture(autouse=True)
def own_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path / "config.json"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry that contains `CONTENT` and a manifest of it, tagged `v1`."""
    with registry(tmp_path_factory.mktemp("pull")) as address:
        with connect(address) as connected:
            put(connected, CONTENT)
            put(connected, b"{}")
            manifests.put(connected, "v1", MANIFEST)
        yield address


def connect(address: str) -> Registry:
    return Registry(Repository(address, "team/app"), plain_http=True, policy=QUICK)


def reader(address: str) -> Registry:
    repository = Repository(address, "team/app")
    return Registry(repository, plain_http=True, policy=QUICK, actions="pull")


def put(connected: Registry, content: bytes) -> None:
    UploadSession.begin(connected).finish(digest_of(content), content)


MANIFEST = json.dumps(
    {
        "config": {"digest": digest_of(b"{}"), "mediaType": CONFIG_TYPE, "size": 2},
        "layers": [{"digest": DIGEST, "mediaType": "application/x", "size": len(CONTENT)}],
        "mediaType": MANIFEST_TYPE,
        "schemaVersion": 2,
    }
).encode()


class Arrived:
    """Adds up the progress."""

    def __init__(self) -> None:
        self.bytes = self.most = 0

    def __call__(self, amount: int) -> None:
        self.bytes += amount
        self.most = max(self.most, self.bytes)


def fetched(address: str, digest: str = DIGEST, size: int = len(CONTENT)) -> tuple[bytes, Arrived]:
    out, arrived = io.BytesIO(), Arrived()
    with reader(address) as connected:
        download.blob(connected, digest, size, out, arrived)
    return out.getvalue(), arrived


def test_manifest_by_tag_and_by_digest(faulty: Proxy) -> None:
    with reader(faulty.address) as connected:
        found = download.manifest(connected, "v1")
        assert (found.content, found.media_type) == (MANIFEST, MANIFEST_TYPE)
        assert found.digest == digest_of(MANIFEST)
        assert download.manifest(connected, found.digest) == found


def test_manifest_not_found(faulty: Proxy) -> None:
    with reader(faulty.address) as connected:
        assert download.find_manifest(connected, "v2") is None
        with pytest.raises(NotFoundError, match="team/app:v2: not there"):
            download.manifest(connected, "v2")


@pytest.mark.parametrize("kind", ["cut", "lost", "deaf", "slow"])
def test_manifest_over_a_broken_connection(faulty: Proxy, kind: str) -> None:
    faulty.faults.append(Fault(kind, "GET", "manifests"))
    with reader(faulty.address) as connected:
        assert download.manifest(connected, "v1").content == MANIFEST


@pytest.mark.parametrize("reference", ["v1", digest_of(MANIFEST)])
def test_manifest_with_other_bytes_than_its_digest(faulty: Proxy, reference: str) -> None:
    def falsify(request: Any) -> bool:
        headers = {"Docker-Content-Digest": digest_of(MANIFEST)}
        request.answer(200, headers, b"{}")
        return True

    faulty.guard = falsify
    with (
        reader(faulty.address) as connected,
        pytest.raises(IntegrityError, match="its bytes"),
    ):
        download.manifest(connected, reference)


def test_endless_manifest_is_not_read_to_the_end(faulty: Proxy) -> None:
    def flood(request: Any) -> bool:
        request.answer(200, {}, bytes(5 * MIB))
        return True

    faulty.guard = flood
    with reader(faulty.address) as connected, pytest.raises(IntegrityError, match="larger than"):
        download.manifest(connected, "v1")


def test_blob_is_the_same_bytes(faulty: Proxy) -> None:
    content, arrived = fetched(faulty.address)
    assert content == CONTENT
    assert (arrived.bytes, arrived.most) == (len(CONTENT), len(CONTENT))
    assert faulty.count("GET", "blobs") == 1


def test_interrupted_download_resumes_by_range(faulty: Proxy) -> None:
    faulty.faults.append(Fault("cut", "GET", "blobs", times=3))
    content, arrived = fetched(faulty.address)
    assert content == CONTENT
    assert arrived.most == arrived.bytes == len(CONTENT), "no byte came twice"
    assert faulty.count("GET", "blobs") == 4


def test_progress_resets_the_attempts(faulty: Proxy) -> None:
    faulty.faults.append(Fault("cut", "GET", "blobs", times=12))
    assert fetched(faulty.address)[0] == CONTENT


def test_registry_that_cannot_resume(faulty: Proxy) -> None:
    """It answers 200 with all of it, whatever range was asked for."""
    torn = [True]

    def whole(request: Any) -> bool:
        if torn.pop() if torn else False:
            return False
        request.answer(200, {}, CONTENT)
        return True

    faulty.guard = whole
    faulty.faults.append(Fault("cut", "GET", "blobs"))
    content, arrived = fetched(faulty.address)
    assert content == CONTENT
    assert arrived.bytes == len(CONTENT)


def test_blob_not_found(faulty: Proxy) -> None:
    with pytest.raises(NotFoundError, match="has no blob"):
        fetched(faulty.address, digest_of(b"other"))


@pytest.mark.parametrize("sent", [CONTENT[:-1] + b"x", CONTENT + b"x"], ids=["other", "longer"])
def test_other_bytes_are_refused(faulty: Proxy, sent: bytes) -> None:
    def falsify(request: Any) -> bool:
        request.answer(200, {}, sent)
        return True

    faulty.guard = falsify
    with pytest.raises(IntegrityError, match=DIGEST):
        fetched(faulty.address)


def test_registry_that_stays_down_ends_the_download(faulty: Proxy) -> None:
    faulty.faults.append(Fault("status", "GET", "blobs", times=99))
    with pytest.raises(RegistryError, match="attempts failed"):
        fetched(faulty.address)
    assert faulty.count("GET", "blobs") == QUICK.max_attempts


def test_reading_asks_for_no_permission_to_write(faulty: Proxy, own_config: Path) -> None:
    auth = base64.b64encode(b"user:s3cr3t-pass").decode()
    own_config.write_text(json.dumps({"auths": {faulty.address: {"auth": auth}}}))
    tokens = TokenServer(faulty)
    assert fetched(faulty.address)[0] == CONTENT
    assert tokens.issued == [["repository:team/app:pull"]]


def test_login_is_not_sent_to_another_server_with_the_blob(faulty: Proxy, own_config: Path) -> None:
    """Registries on object storage redirect: the login is not for the storage."""
    auth = base64.b64encode(b"user:s3cr3t-pass").decode()
    own_config.write_text(json.dumps({"auths": {faulty.address: {"auth": auth}}}))
    TokenServer(faulty)
    allowed = faulty.guard
    assert allowed is not None
    with proxy(faulty.upstream) as storage:
        given: list[str | None] = []

        def look(request: Any) -> bool:
            given.append(request.headers.get("Authorization"))
            return False

        def redirect(request: Any) -> bool:
            if allowed(request):
                return True
            target = f"http://localhost:{storage.address.rpartition(':')[2]}"
            location = target + request.path
            request.answer(307, {"Location": location}, b"")
            return True

        storage.guard = look
        storage.faults.append(Fault("cut", "GET", "blobs"))
        faulty.guard = redirect
        assert fetched(faulty.address)[0] == CONTENT
    assert given == [None, None]
