from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from images.errors import FetchError
from images.formats import deb_file
from images.inputs.fetch import deb_files, mirror
from images.inputs.fetch.mirror import Mirror
from images.inputs.lock.deb import Deb
from tests.unit.fake_debs import GCC, SSL, cached_deb


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def served(directory: Path) -> Iterator[str]:
    handler = partial(_Quiet, directory=str(directory))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def published(tmp_path: Path, package: str) -> Deb:
    """A package that a mirror in `tmp_path/www/debian` has."""
    found = cached_deb(tmp_path / "made", package, {"usr/share/x": b"x"})
    source = tmp_path / "made" / found.artifact.sha256 / found.artifact.filename
    place = tmp_path / "www" / "debian" / found.path
    place.parent.mkdir(parents=True)
    source.rename(place)
    return found


def test_packages_arrive_in_the_cache(tmp_path: Path) -> None:
    package = published(tmp_path, "hello")
    with served(tmp_path / "www") as address:
        where = mirror.parse(f"{address}/debian")
        cache = tmp_path / "cache"
        deb_files.download([package], where, cache)
        # A second time nothing is asked for: the server could be gone.
    deb_files.download([package], where, cache)
    assert "hello" in deb_file.control(cache / package.artifact.sha256 / package.artifact.filename)


def test_packages_that_the_mirror_dropped_are_named_with_the_ways_out(tmp_path: Path) -> None:
    package = published(tmp_path, "hello")
    with served(tmp_path / "www") as address:
        where = mirror.parse(f"{address}/debian")
        with pytest.raises(FetchError) as caught:
            deb_files.download([GCC, package, SSL], where, tmp_path / "cache")
    assert "gcc-12=12.2.0-14+deb12u1" in caught.value.message
    assert "libssl3=3.0.22-1~deb12u2" in caught.value.message
    assert "hello" not in caught.value.message
    remedy = caught.value.remedy or ""
    for way_out in ("build.py lock --base", "--debian-mirror", str(tmp_path / "cache")):
        assert way_out in remedy


def test_a_url_keeps_what_versions_hold() -> None:
    where = Mirror("http://m.example/debian", "http://m.example/debian-security")
    assert deb_files.url(SSL, where) == f"http://m.example/debian-security/{SSL.path}"
