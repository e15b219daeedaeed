"""Redirects of a registry: what follows them, and what does not go along. Real servers answer."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from images.errors import LoginError, RegistryError
from images.http.retry import Policy
from images.oci.reference import Repository
from images.oci.registry import download
from images.oci.registry.client import Registry
from images.oci.registry.transport import Transport
from images.oci.registry.upload_session import UploadSession
from tests.unit.servers import Answer, Asked, Identity, Server, identity, serving

BLOB = b"content of a blob"
DIGEST = f"sha256:{hashlib.sha256(BLOB).hexdigest()}"
LOGIN = "Basic " + base64.b64encode(b"user:s3cr3t").decode()
QUICK = Policy(max_attempts=2, max_attempts_unreached=2, base_delay=0.01)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, with a login for everybody in ~/.netrc."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / ".netrc").write_text("default login netrc-user password netrc-s3cr3t\n")
    return tmp_path


def log_in(home: Path, server: Server, **more: str) -> None:
    entry = {"auth": LOGIN.removeprefix("Basic "), **more}
    (home / "config.json").write_text(json.dumps({"auths": {server.host: entry}}))


def registry(server: Server) -> Registry:
    plain = server.url.startswith("http:")
    return Registry(Repository(server.host, "team/app"), plain_http=plain, policy=QUICK)


def fetch(server: Server) -> bytes:
    out = io.BytesIO()
    with registry(server) as connected:
        download.blob(connected, DIGEST, len(BLOB), out)
    return out.getvalue()


def to(url: str, status: int = 307) -> Answer:
    return status, {"Location": url}, b""


def basic(asked: Asked, answer: Answer) -> Answer:
    """The answer, for requests with the login."""
    return answer if asked.login == LOGIN else (401, {"WWW-Authenticate": "Basic"}, b"")


@contextmanager
def storage(answer: Answer = (200, {}, BLOB)) -> Iterator[Server]:
    with serving(lambda _: answer) as server:
        yield server


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirected_blob_is_fetched_without_the_login(home: Path, status: int) -> None:
    with storage() as there, serving(lambda _: (500, {}, b"")) as front:
        front.answer = lambda asked: basic(asked, to(f"{there.url}/blob?signed=1", status))
        log_in(home, front)
        assert fetch(front) == BLOB
    assert front.logins
    assert there.logins == []


@pytest.mark.parametrize("more", [{}, {"identitytoken": "s3cr3t-token"}])
def test_challenge_of_a_storage_is_not_answered(home: Path, more: dict[str, str]) -> None:
    with storage() as there, serving(lambda _: to(f"{there.url}/blob")) as front:
        there.answer = lambda asked: (
            (200, {"Content-Type": "application/json"}, b'{"token": "t"}')
            if asked.path.startswith("/token")
            else (401, {"WWW-Authenticate": f'Bearer realm="{there.url}/token"'}, b"")
        )
        log_in(home, front, **more)
        with pytest.raises(RegistryError, match=f"HTTP 401 .*from {there.url}") as error:
            fetch(front)
    assert [asked.path for asked in there.seen] == ["/blob"]
    assert there.logins == []
    assert not isinstance(error.value, LoginError)
    assert "docker login" not in (error.value.remedy or "")


def test_registry_after_another_server_gets_no_login(home: Path) -> None:
    """Whoever is redirected to could have our login read what he likes."""
    with storage() as there, serving(lambda _: (500, {}, b"")) as front:
        front.answer = lambda asked: basic(asked, to(f"{there.url}/x"))
        there.answer = lambda _: to(f"{front.url}/v2/secret/blobs/{DIGEST}")
        log_in(home, front)
        with pytest.raises(RegistryError):
            fetch(front)
    secret = [asked for asked in front.seen if "/secret/" in asked.path]
    assert [asked.login for asked in secret] == [None]


def test_another_path_of_the_registry_gets_the_login(home: Path) -> None:
    with serving(lambda _: (500, {}, b"")) as front:
        front.answer = lambda asked: basic(
            asked,
            (200, {}, BLOB) if asked.path.startswith("/moved") else to(f"/moved{asked.path}"),
        )
        log_in(home, front)
        assert fetch(front) == BLOB


@pytest.mark.parametrize("login", ["user:pass@", "registry.example:443@"])
def test_login_in_a_location_is_not_used(login: str) -> None:
    with storage() as there, serving(lambda _: (500, {}, b"")) as front:
        front.answer = lambda _: to(there.url.replace("://", f"://{login}"))
        assert fetch(front) == BLOB
    assert there.logins == []


def test_cookies_are_not_kept() -> None:
    """They are for all ports of a host; a registry's client keeps none."""
    with storage() as there, serving(lambda _: (500, {}, b"")) as front:
        front.answer = lambda _: (307, {"Location": there.url, "Set-Cookie": "sid=s3cr3t"}, b"")
        assert fetch(front) == fetch(front) == BLOB
    assert not [asked for asked in (*front.seen, *there.seen) if "Cookie" in asked.headers]


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://host.example/x", "https://[/x",
                                      "https://host.example\\@evil.example/x"])  # fmt: skip
def test_location_that_is_no_http_url(location: str) -> None:
    with (
        serving(lambda _: to(location)) as front,
        pytest.raises(RegistryError, match="no HTTP URL"),
    ):
        fetch(front)
    assert len(front.seen) == 1


def test_redirect_loop_ends() -> None:
    with (
        serving(lambda asked: to(asked.path)) as front,
        pytest.raises(RegistryError, match="more than 10 times"),
    ):
        fetch(front)
    assert len(front.seen) == 11


# -- TLS -------------------------------------------------------------------------------------------


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Identity:
    made = identity(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(made.authority))
    return made


def test_request_with_tls_is_not_redirected_to_a_url_without(tls: Identity) -> None:
    with (
        storage() as there,
        serving(lambda _: to(there.url), tls=tls.context()) as front,
        pytest.raises(RegistryError, match=f"redirects to {there.url}, without TLS"),
    ):
        fetch(front)
    assert there.seen == []


def test_registry_that_names_itself_without_tls_is_used_with_it(tls: Identity, home: Path) -> None:
    with serving(lambda _: (500, {}, b""), tls=tls.context()) as front:
        moved = front.url.replace("https:", "http:") + "/moved"
        front.answer = lambda asked: basic(
            asked, (200, {}, BLOB) if asked.path == "/moved" else to(moved)
        )
        log_in(home, front)
        assert fetch(front) == BLOB


def test_login_is_not_sent_along_from_http_to_https(tls: Identity, home: Path) -> None:
    """It is another origin; the message names the scheme that the registry wants."""
    with (
        serving(lambda asked: basic(asked, (200, {}, BLOB)), tls=tls.context()) as secure,
        serving(lambda asked: basic(asked, to(f"{secure.url}{asked.path}"))) as front,
    ):
        log_in(home, front)
        with pytest.raises(RegistryError, match=f"HTTP 401 .*from {secure.url}") as error:
            fetch(front)
    assert secure.logins == []
    assert "--plain-http" in (error.value.remedy or "")


def test_untrusted_certificate_of_a_storage_is_an_error_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    stranger = identity(tmp_path).context()
    with serving(lambda _: (200, {}, BLOB), tls=stranger) as there:
        with serving(lambda _: to(there.url)) as front:
            message = f"{there.url}: its certificate is not trusted"
            with pytest.raises(RegistryError, match=message) as error:
                fetch(front)
        assert len(front.seen) == 1
    assert "SSL_CERT_FILE" in (error.value.remedy or "")


# -- HEAD, POST ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 403, 405, 501])
def test_blob_whose_storage_accepts_no_head_is_there(status: int) -> None:
    with (
        storage((status, {}, b"")) as there,
        serving(lambda _: to(f"{there.url}/x")) as front,
        registry(front) as connected,
    ):
        assert connected.has_blob(DIGEST, len(BLOB))
        there.answer = lambda _: (404, {}, b"")
        assert not connected.has_blob(DIGEST, len(BLOB))
        there.answer = lambda _: (200, {}, BLOB + b"x")
        assert not connected.has_blob(DIGEST, len(BLOB))


def test_manifest_whose_storage_accepts_no_head_is_hashed() -> None:
    with (
        storage() as there,
        serving(lambda _: to(f"{there.url}/x")) as front,
        registry(front) as connected,
    ):
        there.answer = lambda asked: (403 if asked.method == "HEAD" else 200, {}, BLOB)
        assert connected.manifest_digest("v1") == DIGEST


@pytest.mark.parametrize("status", [307, 308])
def test_upload_that_begins_elsewhere_in_the_registry(home: Path, status: int) -> None:
    def answer(asked: Asked) -> Answer:
        if asked.path.startswith("/v2/moved/"):
            return basic(asked, (202, {"Location": "one"}, b""))
        return to(asked.path.replace("/v2/", "/v2/moved/"), status)

    with serving(answer) as front, registry(front) as connected:
        log_in(home, front)
        session = UploadSession.begin(connected)
    assert session.location == f"{front.url}/v2/moved/team/app/blobs/uploads/one"


@pytest.mark.parametrize("status", [301, 302, 303])
def test_post_does_not_become_a_get(status: int) -> None:
    with (
        serving(lambda asked: to("https://other.example/x?t=s3cr3t", status)) as front,
        registry(front) as connected,
        pytest.raises(RegistryError, match=r"redirects to https://other\.example/x$") as error,
    ):
        UploadSession.begin(connected)
    assert len(front.seen) == 1
    assert "s3cr3t" not in f"{error.value.message}{error.value.remedy}"


def test_upload_is_redirected_to_another_server_without_the_login(home: Path) -> None:
    with serving(lambda _: (201, {}, b"")) as there, serving(lambda _: to(there.url)) as front:
        log_in(home, front)
        transport = Transport(front.host, plain_http=True, policy=QUICK)
        done = transport.once("PUT", transport.url("x"), (), body=lambda: BLOB)
    assert done.status_code == 201
    assert [asked.body for asked in there.seen] == [BLOB]
    assert there.logins == []
