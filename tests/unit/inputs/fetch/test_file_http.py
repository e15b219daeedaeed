"""Downloads use uv's network settings, and a login reaches only the host that it is for."""

from __future__ import annotations

import base64
import select
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from images.http.retry import FinalError, TransientError
from images.inputs.fetch import index_login
from images.inputs.fetch.file_http import FileClient
from images.repository import ROOT
from tests.unit.servers import Answer, Asked, Identity, Server, identity, serving

BODY = b"bytes of a wheel"
NETRC = "Basic " + base64.b64encode(b"netrc-user:netrc-s3cr3t").decode()
LOGIN = "Basic " + base64.b64encode(b"me:p@ss").decode()
TRUST = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR",
         "SSL_CLIENT_CERT", "UV_INSECURE_HOST")  # fmt: skip


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, and no setting of the machine's."""
    for name in (*TRUST, "UV_CONFIG_FILE", "XDG_CONFIG_HOME", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "uv.toml").touch()
    monkeypatch.setenv("UV_CONFIG_FILE", str(tmp_path / "uv.toml"))
    return tmp_path


def got(url: str) -> bytes:
    with FileClient().get(url, {}) as response:
        return response.raw.read()


def here(_: Asked) -> Answer:
    return 200, {}, BODY


@pytest.fixture
def tls(tmp_path: Path) -> Identity:
    return identity(tmp_path)


@pytest.fixture
def secure(tls: Identity) -> Iterator[Server]:
    with serving(here, name="localhost", tls=tls.context()) as server:
        yield server


# -- certificates ----------------------------------------------------------------------------------


def test_unsigned_certificate_is_refused_with_the_setting(secure: Server) -> None:
    with pytest.raises(FinalError, match="certificate is not trusted") as error:
        got(secure.url)
    assert "SSL_CERT_FILE" in (error.value.remedy or "")


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_file_of_certificates(
    secure: Server, tls: Identity, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, str(tls.authority))
    assert got(secure.url) == BODY


@pytest.mark.parametrize("name", ["any-name.pem", "hash"])
@pytest.mark.parametrize("variable", ["SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"])
def test_directory_of_certificates(
    secure: Server,
    tls: Identity,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    variable: str,
) -> None:
    """uv takes any names and several directories; what is no certificate is passed over."""
    directory = tmp_path / "certificates"
    directory.mkdir()
    (directory / "README").write_text("not a certificate")
    (directory / "dangling.pem").symlink_to("nowhere")
    if name == "hash":
        command = ["openssl", "x509", "-hash", "-noout", "-in", str(tls.authority)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        name = f"{done.stdout.strip()}.0"
    shutil.copy(tls.authority, directory / name)
    also = f"{tmp_path / 'nowhere-else'}:" if variable == "SSL_CERT_DIR" else ""
    (tmp_path / "nowhere-else").mkdir()
    monkeypatch.setenv(variable, f"{also}{directory}")
    assert got(secure.url) == BODY


def test_file_and_directory_count_both(
    secure: Server, tls: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    other = identity(tmp_path / "other")
    (tmp_path / "directory").mkdir()
    monkeypatch.setenv("SSL_CERT_FILE", str(other.authority))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "directory"))
    with pytest.raises(FinalError, match="not trusted"):
        got(secure.url)
    shutil.copy(tls.authority, tmp_path / "directory" / "one.crt")
    assert got(secure.url) == BODY


@pytest.mark.parametrize("variable", TRUST[:5])
def test_certificates_that_are_not_there_are_named(
    secure: Server, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "/nonexistent/place")
    with pytest.raises(FinalError, match=f"{variable}=/nonexistent/place: .*No such file"):
        got(secure.url)


@pytest.mark.parametrize("how", ["host", "host:port", "url", "uv.toml"])
def test_host_whose_certificate_is_not_verified(
    secure: Server, home: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    given = {"host": "LOCALHOST", "host:port": secure.host, "url": f"{secure.url}/simple"}
    if how == "uv.toml":
        (home / "uv.toml").write_text('allow-insecure-host = ["localhost"]')
    else:
        monkeypatch.setenv("UV_INSECURE_HOST", f"other.example {given[how]}")
    assert got(secure.url) == BODY


def test_another_port_of_such_a_host_is_looked_at(
    secure: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_INSECURE_HOST", "localhost:1 127.0.0.1")
    with pytest.raises(FinalError, match="not trusted"):
        got(secure.url)


def test_certificate_of_the_client(
    tls: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ssl

    context = tls.context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(tls.authority)
    both = tmp_path / "both.pem"
    both.write_bytes(tls.certificate.read_bytes() + tls.key.read_bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(tls.authority))
    with serving(here, name="localhost", tls=context) as server:
        with pytest.raises(TransientError):
            got(server.url)
        monkeypatch.setenv("SSL_CLIENT_CERT", str(both))
        assert got(server.url) == BODY


# -- logins ----------------------------------------------------------------------------------------


def with_login(server: Server, path: str = "/a.whl") -> str:
    return server.url.replace("://", "://me:p%40ss@") + path


def test_login_goes_to_its_server_and_not_on_from_there() -> None:
    with serving(here) as storage, serving(here) as index:
        index.answer = lambda asked: (
            (307, {"Location": "/b.whl"}, b"") if asked.path == "/a.whl" else
            (307, {"Location": f"{storage.url}/c.whl"}, b"")
        )  # fmt: skip
        assert got(with_login(index)) == BODY
    assert index.logins == [LOGIN, LOGIN]
    assert [asked.path for asked in storage.seen] == ["/c.whl"]
    assert storage.logins == []


def test_default_of_netrc_is_for_no_host_that_an_index_names(home: Path) -> None:
    (home / ".netrc").write_text("default login netrc-user password netrc-s3cr3t\n")
    with serving(here) as storage, serving(here) as files:
        files.answer = lambda _: (302, {"Location": storage.url}, b"")
        assert got(files.url) == BODY
    assert files.logins == storage.logins == []


@pytest.mark.parametrize("entry", ["default", "machine 127.0.0.1"])
def test_netrc_is_for_an_index_that_the_user_has_chosen(
    home: Path, monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    (home / ".netrc").write_text(f"{entry} login netrc-user password netrc-s3cr3t\n")
    with serving(here) as index, serving(here) as other:
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"{index.url}/simple")
        urls = {"own": f"{index.url}/a.whl", "other": f"{other.url}/a.whl"}
        for url in index_login.with_logins(urls).values():
            assert got(url) == BODY
    assert index.logins == [NETRC]
    # The same host, and another port without TLS: the index could have named any.
    assert other.logins == []


def test_netrc_is_for_the_host_that_it_names_where_there_is_tls(
    home: Path, secure: Server, tls: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tls.authority))
    (home / ".netrc").write_text("machine localhost login netrc-user password netrc-s3cr3t\n")
    assert got(secure.url) == BODY
    assert secure.logins == [NETRC]


@pytest.mark.parametrize("status", [401, 403])
def test_refusal_names_where_logins_are_looked_for(status: int) -> None:
    with (
        serving(lambda _: (status, {}, b"")) as index,
        pytest.raises(FinalError, match=f"HTTP {status} from {index.url}/a.whl$") as error,
    ):
        got(with_login(index))
    assert "keyring" in (error.value.remedy or "")


def test_file_does_not_go_on_without_tls_unless_that_is_set(
    secure: Server, tls: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tls.authority))
    with serving(here) as plain:
        secure.answer = lambda _: (302, {"Location": f"{plain.url}/a.whl"}, b"")
        with pytest.raises(FinalError, match="without TLS") as error:
            got(secure.url)
        assert "UV_INSECURE_HOST" in (error.value.remedy or "")
        assert plain.seen == []
        monkeypatch.setenv("UV_INSECURE_HOST", "127.0.0.1")
        assert got(secure.url) == BODY


# -- proxies ---------------------------------------------------------------------------------------


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY", "http_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("HTTP_PROXY", raising=False)


@pytest.mark.usefixtures("proxied")
@pytest.mark.parametrize("url", ["http://host.invalid/a.whl", "https://host.invalid/a.whl"])
def test_proxy_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://me:s3cr3t@127.0.0.1:9")
    reason = r"the proxy http://127\.0\.0\.1:9 \(ALL_PROXY\) cannot be reached"
    with pytest.raises(TransientError, match=reason) as error:
        got(url)
    assert "s3cr3t" not in str(error.value)


@pytest.mark.usefixtures("proxied")
@pytest.mark.parametrize("url", ["http://host.invalid/a.whl", "https://host.invalid/a.whl"])
def test_proxy_that_wants_a_login_is_named_and_not_asked_again(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    with serving(lambda _: (407, {}, b"")) as proxy:
        # https is asked of it by CONNECT, which this server does not know either: 501.
        monkeypatch.setenv(f"{url.partition(':')[0]}_proxy", proxy.url)
        with pytest.raises((FinalError, TransientError), match=f"the proxy {proxy.url}") as error:
            got(url)
    if url.startswith("http:"):
        assert isinstance(error.value, FinalError)
        assert "USER:PASSWORD@" in (error.value.remedy or "")


@pytest.mark.usefixtures("proxied")
@pytest.mark.parametrize("proxy", ["http://", "gopher://127.0.0.1:1", "http://127.0.0.1:99999"])
def test_proxy_that_is_no_url_is_reported_at_once(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(FinalError):
        got("http://host.invalid/a.whl")


WITHOUT_SOCKS = """
import sys
sys.modules["socks"] = None
from images.inputs.fetch.file_http import FileClient
from images.http.retry import FinalError
try:
    FileClient().get("http://host.invalid/a.whl", {}).__enter__()
except FinalError as error:
    print(error, "|", error.remedy)
"""


@pytest.mark.usefixtures("proxied")
def test_socks_without_its_library_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "socks5://me:s3cr3t@127.0.0.1:9")
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT_SOCKS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "the proxy socks5://127.0.0.1:9 (all_proxy)" in done.stdout
    assert done.stdout.endswith("| pip install 'requests[socks]'\n")
    assert "s3cr3t" not in done.stdout


@pytest.mark.usefixtures("proxied")
@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_socks_proxy(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    pytest.importorskip("socks", reason="no PySocks: pip install 'requests[socks]'")
    with serving(here) as server, socks_proxy() as port:
        monkeypatch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:{port}")
        assert got(server.url) == BODY
        host = server.url.replace("127.0.0.1", "localhost")
        assert got(host) == BODY
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:{port}")
    with pytest.raises(
        TransientError, match=rf"the proxy {scheme}://127\.0\.0\.1:{port} \(ALL_PROXY"
    ):
        got(server.url)


def _inet6_ntoa(raw: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET6, raw)


@contextmanager
def socks_proxy() -> Iterator[int]:
    """A SOCKS 5 proxy (RFC 1928) without a login; yields its port."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.read(self.rfile.read(2)[1])
            self.wfile.write(b"\x05\x00")
            kind = self.rfile.read(4)[3]
            raw = self.rfile.read({1: 4, 4: 16}.get(kind) or self.rfile.read(1)[0])
            host = {1: socket.inet_ntoa, 4: _inet6_ntoa, 3: bytes.decode}[kind](raw)
            port = int.from_bytes(self.rfile.read(2), "big")
            if host == "::1":  # of localhost on Debian; the servers here have 127.0.0.1 alone
                host = "127.0.0.1"
            with socket.create_connection((host, port)) as there:
                self.wfile.write(b"\x05\x00\x00\x01" + bytes(6))
                ends = {there: self.connection, self.connection: there}
                while True:
                    for end in select.select(list(ends), [], [])[0]:
                        if not (piece := end.recv(1 << 16)):
                            return
                        ends[end].sendall(piece)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.usefixtures("proxied")
def test_proxies_of_uv_toml(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(here) as proxy, serving(here) as other, serving(here) as direct:
        text = f'http-proxy = "{proxy.url}"\nno-proxy = ["127.0.0.1"]\n'
        (home / "uv.toml").write_text(text)
        assert got("http://host.invalid/a.whl") == BODY
        assert [asked.path for asked in proxy.seen] == ["http://host.invalid/a.whl"]
        assert got(direct.url) == BODY
        monkeypatch.setenv("http_proxy", other.url)
        assert got("http://host.invalid/a.whl") == BODY
    assert (len(proxy.seen), len(other.seen), len(direct.seen)) == (1, 1, 1)
