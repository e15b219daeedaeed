"""Downloads against a real server that fails: resumed, retried, checked and counted."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from images.errors import BuildError, FetchError, IntegrityError, StoreError
from images.http import session
from images.http.retry import Policy
from images.inputs.fetch import download_cache, downloads
from images.inputs.fetch.downloads import Downloads
from images.inputs.lock.artifact import Artifact
from images.repository import ROOT
from tests.unit.faulty_server import Faulty

MIB = 1 << 20
BODY = bytes(range(256)) * (3 * MIB // 256) + b"end"


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "POLICY", Policy(base_delay=0.0))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def artifact_of(content: bytes, name: str = "demo-1.0-py3-none-any.whl") -> Artifact:
    return Artifact(name, hashlib.sha256(content).hexdigest(), len(content))


class Meter:
    """Adds up the reported bytes, and records whether the sum ever went out of bounds."""

    def __init__(self) -> None:
        self.total = self.most = self.least = 0

    def advance(self, amount: int) -> None:
        self.total += amount
        self.most, self.least = max(self.most, self.total), min(self.least, self.total)


def download(cache: Path, artifact: Artifact, url: str, meter: Meter | None = None) -> Path:
    with Downloads(cache, jobs=2, advance=(meter or Meter()).advance) as downloads:
        return downloads.start(artifact, url).result(60)


def error_of(cache: Path, artifact: Artifact, url: str) -> BuildError:
    meter = Meter()
    with pytest.raises(BuildError) as error:
        download(cache, artifact, url, meter)
    assert meter.total == 0
    return error.value


@pytest.fixture
def published(server: Faulty) -> tuple[Artifact, str]:
    server.files["/demo"] = BODY
    return artifact_of(BODY), server.url("/demo")


# -- what arrives ----------------------------------------------------------------------------------


def test_file_arrives_whole_under_its_hash(cache: Path, published: tuple[Artifact, str]) -> None:
    meter = Meter()
    path = download(cache, *published, meter)
    assert path == cache / hashlib.sha256(BODY).hexdigest() / "demo-1.0-py3-none-any.whl"
    assert path.read_bytes() == BODY
    assert list(path.parent.iterdir()) == [path]
    assert (meter.total, meter.most, meter.least) == (len(BODY), len(BODY), 0)
    assert download_cache.is_cached(published[0], cache)
    assert download_cache.checked(published[0], cache) == path


def test_empty_file_arrives(cache: Path, server: Faulty) -> None:
    server.files["/empty"] = b""
    assert download(cache, artifact_of(b""), server.url("/empty")).read_bytes() == b""


@pytest.mark.parametrize("faults", [["drop"], [500], [503, "drop", 429], ["drop"] * 4,
                                    [408, 425, 502, 504]])  # fmt: skip
def test_transient_faults_are_overcome_and_counted_out(
    cache: Path, server: Faulty, published: tuple[Artifact, str], faults: list[int | str]
) -> None:
    server.faults["/demo"] = faults.copy()
    meter = Meter()
    assert download(cache, *published, meter).read_bytes() == BODY
    assert len(server.seen) == len(faults) + 1
    assert (meter.total, meter.most, meter.least) == (len(BODY), len(BODY), 0)


def test_dropped_download_goes_on_where_it_ended(
    cache: Path, server: Faulty, published: tuple[Artifact, str]
) -> None:
    server.faults["/demo"] = ["drop"]
    download(cache, *published)
    first, second = (wanted for _, wanted in server.seen)
    assert first is None
    assert second
    assert int(second.removeprefix("bytes=").rstrip("-")) >= MIB


def test_connection_that_drops_often_but_delivers_something_each_time_is_enough(
    cache: Path, server: Faulty
) -> None:
    body = os.urandom(9 * MIB)
    server.files["/demo"] = body
    server.faults["/demo"] = ["drop", "drop", 500, 500, 500, "drop", 500, 500, 500]
    assert download(cache, artifact_of(body), server.url("/demo")).read_bytes() == body


def test_part_of_an_earlier_run_is_taken_up(
    cache: Path, server: Faulty, published: tuple[Artifact, str]
) -> None:
    artifact, url = published
    path = download_cache.cached(artifact, cache)
    path.parent.mkdir(parents=True)
    path.with_name(path.name + ".part").write_bytes(BODY[: 2 * MIB + 5])
    meter = Meter()
    assert download(cache, artifact, url, meter).read_bytes() == BODY
    assert server.seen == [("/demo", f"bytes={2 * MIB + 5}-")]
    assert meter.total == len(BODY)


def test_part_that_is_whole_needs_no_request(
    cache: Path, server: Faulty, published: tuple[Artifact, str]
) -> None:
    artifact, url = published
    path = download_cache.cached(artifact, cache)
    path.parent.mkdir(parents=True)
    path.with_name(path.name + ".part").write_bytes(BODY)
    assert download(cache, artifact, url).read_bytes() == BODY
    assert server.seen == []


@pytest.mark.parametrize(
    "part", [b"garbage", bytes(2 * MIB), bytes(len(BODY)), BODY + b"more", b"x" + BODY[1:-1]]
)
def test_part_that_is_of_another_file_is_thrown_away(
    cache: Path, published: tuple[Artifact, str], part: bytes
) -> None:
    artifact, url = published
    path = download_cache.cached(artifact, cache)
    path.parent.mkdir(parents=True)
    path.with_name(path.name + ".part").write_bytes(part)
    meter = Meter()
    assert download(cache, artifact, url, meter).read_bytes() == BODY
    assert (meter.total, meter.least) == (len(BODY), 0)


def test_server_that_does_not_resume_sends_all_again(
    cache: Path, server: Faulty, published: tuple[Artifact, str]
) -> None:
    server.faults["/demo"] = ["drop", "whole", "whole"]
    meter = Meter()
    assert download(cache, *published, meter).read_bytes() == BODY
    assert (meter.total, meter.most) == (len(BODY), len(BODY))


def test_truncated_file_in_the_cache_is_fetched_anew(
    cache: Path, published: tuple[Artifact, str]
) -> None:
    path = download_cache.cached(published[0], cache)
    path.parent.mkdir(parents=True)
    path.write_bytes(BODY[:-1])
    assert not download_cache.is_cached(published[0], cache)
    assert download(cache, *published).read_bytes() == BODY


def test_encoding_that_a_server_claims_of_an_archive_is_not_undone(
    cache: Path, server: Faulty
) -> None:
    """Some servers give a .tar.gz a Content-Encoding of gzip; it is the file that is locked."""
    body = gzip.compress(BODY, mtime=0)
    server.files["/demo.tar.gz"] = body
    server.faults["/demo.tar.gz"] = ["gzip"] * 9
    artifact = artifact_of(body, "demo.tar.gz")
    assert download(cache, artifact, server.url("/demo.tar.gz")).read_bytes() == body


@pytest.mark.parametrize("name", ["plain.whl", "with space.whl", "ünï#%?.whl"])
def test_file_url_is_copied(tmp_path: Path, cache: Path, name: str) -> None:
    (tmp_path / name).write_bytes(BODY)
    path = download(cache, artifact_of(BODY), (tmp_path / name).as_uri())
    assert path.read_bytes() == BODY
    assert (tmp_path / name).exists()


def test_many_files_at_once_arrive_each_as_itself(cache: Path, server: Faulty) -> None:
    bodies = [bytes([number]) * (100_000 + number) for number in range(20)]
    meter = Meter()
    with Downloads(cache, jobs=6, advance=meter.advance) as downloads:
        futures = []
        for number, body in enumerate(bodies):
            server.files[f"/{number}"] = body
            server.faults[f"/{number}"] = ["drop"] if number % 3 else [503]
            futures.append(downloads.start(artifact_of(body), server.url(f"/{number}")))
        assert [future.result(60).read_bytes() for future in futures] == bodies
    assert meter.total == sum(map(len, bodies))


TWO = """
import sys
from pathlib import Path
from images.inputs.fetch.downloads import Downloads
from images.inputs.lock.artifact import Artifact
cache, url, sha256, size = sys.argv[1:]
total = []
with Downloads(Path(cache), jobs=1, advance=total.append) as downloads:
    path = downloads.start(Artifact("a.whl", sha256, int(size)), url).result()
print(sum(total), path)
"""


def test_two_processes_fetch_a_file_once(cache: Path, server: Faulty) -> None:
    body = os.urandom(30 * MIB)
    server.files["/big"] = body
    artifact = artifact_of(body, "a.whl")
    command = [sys.executable, "-c", TWO, str(cache), server.url("/big")]
    command += [artifact.sha256, str(artifact.size)]
    children = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    for child in children:
        total, path = child.communicate()[0].split()
        assert (child.returncode, int(total)) == (0, len(body))
        assert Path(path).read_bytes() == body
    assert len(server.seen) == 1
    assert [path.name for path in (cache / artifact.sha256).iterdir()] == ["a.whl"]


# -- what does not ---------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"x" + BODY[1:], BODY + b"x", BODY * 2])
def test_other_bytes_are_an_integrity_error_at_once(
    cache: Path, server: Faulty, body: bytes
) -> None:
    server.files["/demo"] = body
    artifact = artifact_of(BODY)
    error = error_of(cache, artifact, server.url("/demo"))
    assert isinstance(error, IntegrityError)
    assert artifact.filename in error.message
    assert "lock" in (error.remedy or "")
    assert len(server.seen) == 1
    assert not download_cache.cached(artifact, cache).exists()
    server.files["/demo"] = BODY
    assert download(cache, artifact, server.url("/demo")).read_bytes() == BODY


def test_mismatch_names_file_and_both_hashes(cache: Path, server: Faulty) -> None:
    other = bytes(len(BODY))
    server.files["/demo"] = other
    error = error_of(cache, artifact_of(BODY), server.url("/demo"))
    assert error.message == (
        f"SHA256 mismatch for demo-1.0-py3-none-any.whl: expected '{artifact_of(BODY).sha256}', "
        f"got '{artifact_of(other).sha256}' from {server.url('/demo')}"
    )


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451])
def test_refusal_is_final(cache: Path, server: Faulty, status: int) -> None:
    server.faults["/demo"] = [status, 200]
    error = error_of(cache, artifact_of(BODY), server.url("/demo"))
    assert isinstance(error, FetchError)
    assert f"HTTP {status}" in error.message
    assert len(server.seen) == 1


def test_permanent_fault_ends_and_keeps_what_arrived(
    cache: Path, server: Faulty, published: tuple[Artifact, str]
) -> None:
    server.faults["/demo"] = ["drop", *[503] * 20]
    error = error_of(cache, *published)
    assert isinstance(error, FetchError)
    assert "6 attempts" in error.message
    assert "HTTP 503" in error.message
    assert "what was downloaded is kept" in (error.remedy or "")
    path = download_cache.cached(published[0], cache)
    assert path.with_name(path.name + ".part").stat().st_size >= MIB
    server.faults.clear()
    assert download(cache, *published).read_bytes() == BODY
    assert server.seen[-1][1]


def test_unreachable_host_is_given_up_sooner(cache: Path) -> None:
    error = error_of(cache, artifact_of(BODY), f"http://127.0.0.1:{closed_port()}/demo")
    assert "3 attempts" in error.message


def test_pause_that_a_server_asks_for_is_made(
    cache: Path, server: Faulty, published: tuple[Artifact, str]
) -> None:
    server.faults["/demo"] = [503]
    server.headers["/demo"] = {"Retry-After": "1"}
    begin = time.monotonic()
    download(cache, *published)
    assert time.monotonic() - begin >= 1


def test_body_that_is_always_too_short_ends(cache: Path, server: Faulty) -> None:
    server.files["/demo"] = BODY[:1000]
    error = error_of(cache, artifact_of(BODY), server.url("/demo"))
    assert isinstance(error, FetchError)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("reason", ["refused", "404", "503", "mismatch", "scheme", "port",
                                    "redirect"])  # fmt: skip
def test_credentials_are_never_shown(cache: Path, server: Faulty, reason: str) -> None:
    login = "user:s3cr3t@"
    server.files |= {"/mismatch": bytes(len(BODY)), "/redirect": b""}
    server.faults |= {"/503": [503] * 9, "/redirect": [302] * 9}
    server.headers["/redirect"] = {"Location": f"ftp://{login}host/file?signature=s3cr3t"}
    url = {
        "refused": f"http://{login}127.0.0.1:{closed_port()}/demo",
        "scheme": f"gopher://{login}127.0.0.1/demo",
        "port": f"http://{login}127.0.0.1:99999/demo",
    }.get(reason) or server.url(f"/{reason}", login)
    error = error_of(cache, artifact_of(BODY), f"{url}?token=s3cr3t")
    assert "s3cr3t" not in f"{error.message} {error.remedy}"
    assert "demo" in error.message


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@host:8/a/b.whl?t=1#f", "https://host:8/a/b.whl"),
        ("https://u:p%40q@host/a", "https://host/a"),
        ("https://token@host/a", "https://host/a"),
        ("https://u:p@q@host/a", "https://host/a"),
        ("https://[::1]:8/a", "https://[::1]:8/a"),
        ("file:///tmp/a%20b", "file:///tmp/a%20b"),
    ],
)
def test_public_url_shows_no_credentials(url: str, shown: str) -> None:
    assert session.public_url(url) == shown


def test_missing_ca_bundle_is_not_a_disk_error(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent/bundle.crt")
    error = error_of(cache, artifact_of(BODY), f"https://127.0.0.1:{closed_port()}/demo")
    assert isinstance(error, FetchError)
    assert "/nonexistent/bundle.crt" in error.message


def test_missing_local_file_is_a_fetch_error(cache: Path, tmp_path: Path) -> None:
    error = error_of(cache, artifact_of(BODY), (tmp_path / "gone.whl").as_uri())
    assert isinstance(error, FetchError)
    assert "gone.whl" in error.message


def test_cache_that_cannot_be_written_is_a_store_error(
    tmp_path: Path, published: tuple[Artifact, str]
) -> None:
    (tmp_path / "file").touch()
    error = error_of(tmp_path / "file", *published)
    assert isinstance(error, StoreError)
    assert "cannot be written" in error.message


def test_full_disk_is_a_store_error_with_a_remedy(
    tiny_disk: Path, published: tuple[Artifact, str]
) -> None:
    error = error_of(tiny_disk / "cache", *published)
    assert isinstance(error, StoreError)
    assert "no space left" in error.message
    assert "--cache" in (error.remedy or "")


def test_leaving_by_an_error_breaks_off_what_is_under_way(cache: Path) -> None:
    """A server that never ends must not hold up the message of another failure."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as stack:
        sending = threading.Event()

        def dribble() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n")
                while True:
                    connection.sendall(bytes(MIB))
                    sending.set()

        thread = threading.Thread(target=dribble)
        thread.start()
        stack.callback(thread.join)
        meter = Meter()
        artifact = Artifact("endless.whl", "0" * 64, 999_999_999_999)
        with (
            suppress(KeyboardInterrupt),
            Downloads(cache, jobs=1, advance=meter.advance) as downloads,
        ):
            downloads.start(artifact, f"http://127.0.0.1:{listener.getsockname()[1]}/endless")
            assert sending.wait(30)
            raise KeyboardInterrupt
        assert meter.total == 0
    shutil.rmtree(cache)
