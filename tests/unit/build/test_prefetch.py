"""Filling the download cache: what is fetched, what is there already, and what is unavailable."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest

from images.build import prefetch
from images.build.prefetch import Outcome
from images.errors import FetchError
from images.http.retry import Policy
from images.inputs.build_options import FetchOptions
from images.inputs.fetch import download_cache, downloads, needed_files
from images.inputs.fetch.needed_files import NeededFiles
from images.inputs.lock.artifact import Artifact
from images.inputs.lock.deb import Deb
from images.inputs.lock.distribution import Distribution
from images.inputs.resolve import file_urls
from images.util import sha256
from images.util.progress import Progress
from tests.unit.faulty_server import Faulty


class Shop:
    """Wheels and packages on the test's own server, as an index and a mirror would list them."""

    def __init__(self, server: Faulty, cache: Path) -> None:
        self.server, self.cache = server, cache
        self.options = FetchOptions(cache=cache, matrix=cache.with_name("matrix.yaml"), jobs=2)
        self.out = io.StringIO()
        self.wheels: dict[Artifact, Distribution] = {}
        self.debs: dict[Artifact, Deb] = {}

    def wheel(self, name: str) -> Artifact:
        file = self._publish(f"{name}.whl", f"wheel {name}".encode() * 100)
        self.wheels[file] = Distribution(name, "1.0", file)
        return file

    def deb(self, name: str) -> Artifact:
        file = self._publish(f"{name}.deb", f"package {name}".encode() * 100)
        self.debs[file] = Deb(name, "1", "debian", f"pool/{name}.deb", file)
        return file

    def _publish(self, name: str, content: bytes) -> Artifact:
        self.server.files[f"/{name}"] = content
        return Artifact(name, hashlib.sha256(content).hexdigest(), len(content))

    @property
    def wanted(self) -> NeededFiles:
        return NeededFiles(self.wheels, self.debs)

    def check(self) -> Outcome:
        return prefetch.check(self.wanted, self.options, Progress(self.out))

    def fetch(self) -> Outcome:
        return prefetch.fetch(self.wanted, self.options, Progress(self.out))


@pytest.fixture
def shop(server: Faulty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    def locate(wanted: NeededFiles, mirror: str | None, cache: Path) -> dict[Artifact, str]:
        return {file: server.url(f"/{file.filename}") for file in wanted.artifacts}

    monkeypatch.setattr(file_urls, "locate", locate)
    monkeypatch.setattr(downloads, "POLICY", Policy(base_delay=0.0))
    return Shop(server, tmp_path / "cache")


def test_everything_arrives_and_is_there_the_next_time(shop: Shop) -> None:
    files = {shop.wheel("a"), shop.wheel("b"), shop.deb("c")}
    first = shop.fetch()
    assert (set(first.fetched), first.present, first.lacking) == (files, (), ())
    shop.server.seen.clear()
    second = shop.fetch()
    assert (set(second.present), second.fetched, second.lacking) == (files, (), ())
    assert shop.server.seen == []
    assert prefetch.failure({"t": second}, "") is None
    assert "fetch: 2.3 kB in" in shop.out.getvalue()


def test_look_fetches_nothing_and_names_missing_and_damaged(shop: Shop) -> None:
    good, rotten = shop.wheel("good"), shop.wheel("rotten")
    shop.fetch()
    path = download_cache.cached(rotten, shop.cache)
    path.unlink()
    path.write_bytes(bytes(rotten.size))
    absent = shop.deb("absent")
    cut = shop.deb("cut")
    download_cache.cached(cut, shop.cache).parent.mkdir()
    download_cache.cached(cut, shop.cache).write_bytes(b"short")
    shop.server.seen.clear()
    found = shop.check()
    assert found.present == (good,)
    assert (set(found.missing), found.damaged) == ({absent, cut}, (rotten,))
    assert shop.server.seen == []
    error = prefetch.failure({"t": found}, "python build.py fetch --target t")
    assert error is not None
    assert "3 files are missing or damaged" in error.message
    assert "rotten.whl (damaged)" in error.message
    assert error.remedy == "where there is a network: python build.py fetch --target t"


def test_damaged_file_is_fetched_anew(shop: Shop) -> None:
    file = shop.wheel("rotten")
    shop.fetch()
    path = download_cache.cached(file, shop.cache)
    path.unlink()
    path.write_bytes(bytes(file.size))
    outcome = shop.fetch()
    assert outcome.fetched == (file,)
    assert sha256.of_file(path) == file.sha256


def test_what_is_gone_does_not_keep_the_rest_away(shop: Shop) -> None:
    gone, kept = shop.deb("gone"), shop.wheel("kept")
    del shop.server.files["/gone.deb"]
    outcome = shop.fetch()
    assert (outcome.fetched, outcome.missing) == ((kept,), (gone,))
    error = prefetch.failure({"t": outcome}, "")
    assert isinstance(error, FetchError)
    assert "gone=1" in error.message
    assert "snapshot" in (error.remedy or "")


def test_interrupted_fetch_goes_on(shop: Shop) -> None:
    file = shop.wheel("a")
    shop.server.faults["/a.whl"] = ["drop", *[404] * 1]
    assert shop.fetch().missing == (file,)
    shop.server.seen.clear()
    assert shop.fetch().fetched == (file,)
    assert shop.server.seen[-1][1] is not None


def test_very_many_names_are_not_all_listed() -> None:
    text = needed_files.listed(f"file{number:03}" for number in range(100))
    assert "file019" in text
    assert "file020" not in text
    assert "80 more" in text


def test_files_that_the_index_has_no_more_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from images.inputs.resolve import uv

    file = Artifact("a-1.0.whl", "0" * 64, 1)
    monkeypatch.setattr(uv, "locate", lambda wanted: {})
    with pytest.raises(FetchError, match=r"no file with the locked hash for:\n  a==1.0: a-1.0"):
        file_urls.locate(NeededFiles({file: Distribution("a", "1.0", file)}, {}), None, tmp_path)


def test_packages_are_asked_of_the_mirror_that_a_person_set(tmp_path: Path) -> None:
    file = Artifact("a.deb", "0" * 64, 1)
    package = Deb("a", "1", "debian", "pool/a.deb", file)
    found = file_urls.locate(NeededFiles({}, {file: package}), "http://127.0.0.1/debian", tmp_path)
    assert found == {file: "http://127.0.0.1/debian/pool/a.deb"}
