"""Upload sessions and mounts: how responses of a registry are understood."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from images.errors import RegistryError
from images.http.retry import Policy, TransientError
from images.oci.reference import Repository
from images.oci.registry import upload_session
from images.oci.registry.client import Registry
from images.oci.registry.refusals import PayloadTooLargeError, RefusedError
from images.oci.registry.upload_session import UploadExpiredError, UploadSession
from tests.unit.servers import Answer, Asked, Server, serving

DIGEST = f"sha256:{'a' * 64}"
POLICY = Policy(max_attempts=2, max_attempts_unreached=2, base_delay=0.01)
BEGUN: Answer = (202, {"Location": "/v2/one", "OCI-Chunk-Min-Length": "1024"}, b"")


@pytest.fixture(autouse=True)
def no_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))


@contextmanager
def registry(answers: dict[str, Answer]) -> Iterator[tuple[Registry, Server]]:
    """A registry that begins any upload, and answers other methods as given."""

    def answer(asked: Asked) -> Answer:
        return answers.get(asked.method, BEGUN)

    with serving(answer) as server:
        repository = Repository(server.host, "team/app")
        with Registry(repository, plain_http=True, policy=POLICY) as connected:
            yield connected, server


def test_session_follows_the_location_of_each_response() -> None:
    answers: dict[str, Answer] = {"PATCH": (202, {"Location": "/v2/two?state=1"}, b"")}
    with registry(answers) as (connected, server):
        session = UploadSession.begin(connected)
        assert session.min_chunk == 1024
        session.append(lambda: b"content", "0-6")
        session.finish(DIGEST)
    begun, appended, finished = server.seen
    assert begun.path == "/v2/team/app/blobs/uploads/"
    assert (appended.path, appended.body) == ("/v2/one", b"content")
    assert appended.headers["Content-Range"] == "0-6"
    assert finished.path == f"/v2/two?state=1&digest=sha256%3A{'a' * 64}"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (413, b"<html>", PayloadTooLargeError),
        (416, b'{"errors":[{"code":"SIZE_INVALID","message":"too large"}]}', PayloadTooLargeError),
        (416, b"", UploadExpiredError),
        (404, b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}', UploadExpiredError),
        (507, b"", RefusedError),
    ],
)
def test_refused_part(status: int, body: bytes, kind: type[Exception]) -> None:
    with registry({"PATCH": (status, {}, body)}) as (connected, _):
        session = UploadSession.begin(connected)
        with pytest.raises(kind) as error:
            session.append(lambda: b"content", None)
    assert type(error.value) is kind


@pytest.mark.parametrize(
    ("range_header", "received"), [("0-99", 100), ("bytes=0-99", 100), ("0-0", 0)]
)
def test_received_bytes(range_header: str, received: int) -> None:
    answer = (204, {"Location": "/v2/one", "Range": range_header}, b"")
    with registry({"GET": answer}) as (connected, _):
        assert UploadSession.begin(connected).received() == received


def test_unknown_session_has_expired() -> None:
    with registry({"GET": (404, {}, b"")}) as (connected, _):
        session = UploadSession.begin(connected)
        with pytest.raises(UploadExpiredError):
            session.received()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [((409, {}, b""), TransientError), ((202, {}, b""), RegistryError)],
)
def test_session_that_does_not_begin(answer: Answer, kind: type[Exception]) -> None:
    with registry({"POST": answer}) as (connected, _), pytest.raises(kind):
        UploadSession.begin(connected)


@pytest.mark.parametrize(
    ("answer", "mounted", "methods"),
    [((201, {}, b""), True, ["POST"]), (BEGUN, False, ["POST", "DELETE"])],
)
def test_mount(answer: Answer, mounted: bool, methods: list[str]) -> None:
    with registry({"POST": answer}) as (connected, server):
        assert upload_session.mount(connected, DIGEST, "team/base") is mounted
    assert [asked.method for asked in server.seen] == methods
    assert server.seen[0].path.endswith(f"?mount=sha256%3A{'a' * 64}&from=team/base")
