"""Builders that share layers through a real registry, and what goes wrong between them."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from images.build import builder, cache_records, layer_cache, titles
from images.build.builder import BuiltLayer, CacheLookup
from images.build.layer_cache import CacheFrom, Filled
from images.build.recipe import Recipe
from images.errors import IntegrityError, LoginError, RegistryError
from images.export.push import push
from images.export.push.push import Pushed
from images.http.retry import Policy
from images.inputs.build_options import BuildOptions
from images.inputs.lock import base_lock
from images.oci import referrer
from images.oci.descriptor import digest_of
from images.oci.image import Image
from images.oci.layer import writer
from images.oci.layer.entry import of_bytes
from images.oci.reference import Repository
from images.oci.registry import backfill, manifests
from images.oci.registry.client import Registry
from images.oci.store import store
from images.oci.store.maintenance import verify
from images.oci.store.remote_layers import Location
from images.oci.store.store import Store
from tests.integration.conftest import TARGET, Cli, SmallImage
from tests.integration.push.conftest import Shown
from tests.integration.registries import Fault, Proxy, TokenServer, need, registry

MIB = 1 << 20
NOISE = random.Random(7).randbytes(6 * MIB)
CONTENT = {"bulk": NOISE, "small": NOISE[:MIB], "top": b"1"}
QUICK = Policy(max_attempts=3, max_attempts_unreached=2, base_delay=0.01, max_delay=0.05)


@pytest.fixture(autouse=True)
def own_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path / "config.json"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Where the registry has its data."""
    place = tmp_path / "shared"
    place.mkdir()
    return place


@pytest.fixture
def server(data: Path) -> Iterator[str]:
    with registry(data) as address:
        yield address


def key_of(title: str, content: bytes) -> str:
    return hashlib.sha256(title.encode() + content).hexdigest()


class Builder:
    """A machine with a store of its own."""

    def __init__(self, place: Path) -> None:
        self.store = store.open_store(place / "store")
        self.options = BuildOptions(
            store=self.store, cache=place / "downloads", matrix=place / "matrix.yaml", jobs=2
        )
        self.lines: list[str] = []

    def make(self, content: Mapping[str, bytes] = CONTENT) -> None:
        """Make the layers, as a build with no cache does."""
        for title, body in content.items():
            with self.store.blobs.new_file() as (out, commit):
                blob = writer.write([of_bytes(f"opt/{title}", body)], out, "zstd")
                commit(blob.digest)
            self.store.layer_keys.remember(key_of(title, body), blob)

    def build(
        self,
        address: str = "",
        content: Mapping[str, bytes] = CONTENT,
        name: str = "roll/cache",
        lookup: CacheLookup | None = None,
    ) -> tuple[Image, list[BuiltLayer]]:
        """Build an image of layers that are here or in the cache; none can be made."""
        recipes = [
            Recipe(titles.parse(title), key_of(title, body), (), (), _no_entries, 1)
            for title, body in content.items()
        ]
        if address:
            lookup = CacheFrom(cache_at(address, name), self.lines.append, QUICK).lookup
        made = builder.make(recipes, [], self.options, Shown(), lookup)
        layers = tuple(item.layer for item in made)
        value = Image(TARGET, layers, {"A": "1"}, {"roll.target": TARGET}, "2025-01-01T00:00:00Z")
        self.store.save(value)
        return self.store.load(TARGET), made

    def fill(self, made: list[BuiltLayer], address: str, name: str = "roll/cache") -> Filled:
        where = cache_at(address, name)
        return layer_cache.fill(self.store, made, where, jobs=3, progress=Shown())

    def push(self, value: Image, address: str, name: str = "roll/app") -> Pushed:
        with Registry(Repository(address, name), plain_http=True, policy=QUICK) as connected:
            return push.push(self.store, value, connected, "v1", progress=Shown())

    def complete(self, value: Image) -> int:
        digests = [item.blob.digest for item in value.layers]
        return len(backfill.fetch(self.store, digests, progress=Shown()))


def _no_entries(*_: object) -> Any:
    raise AssertionError("a layer is made")


def cache_at(address: str, name: str = "roll/cache") -> Location:
    return Location(Repository(address, name), plain_http=True)


@pytest.fixture
def first(tmp_path: Path) -> Builder:
    """A builder that has made all layers."""
    found = Builder(tmp_path / "first")
    found.make()
    return found


@pytest.fixture
def second(tmp_path: Path) -> Builder:
    """A builder with nothing."""
    return Builder(tmp_path / "second")


def skopeo_copies(source: Store, place: Path) -> bool:
    need("skopeo")
    command = ["skopeo", "--insecure-policy", "copy", f"oci:{source.path}:{TARGET}", f"dir:{place}"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def states(done: Pushed) -> list[str]:
    return [blob.state for blob in done.blobs]


# -- what is shared --------------------------------------------------------------------------------


def test_second_builder_gets_the_same_image_without_its_bytes(
    first: Builder, second: Builder, faulty: Proxy
) -> None:
    value, made = first.build()
    filled = first.fill(made, faulty.address)
    assert filled.records == 3
    assert filled.bytes_sent == value.size + len(referrer.EMPTY)
    faulty.seen.clear()
    again, found = second.build(faulty.address)
    assert again.manifest == value.manifest
    assert [item.layer for item in found] == [item.layer for item in made], "with unpacked sizes"
    assert {item.location for item in found} == {cache_at(faulty.address)}
    assert not faulty.requests("GET", "blobs")
    assert verify(second.store) == []
    assert second.lines == []


def test_layer_that_only_one_of_them_has_is_distinguished(
    first: Builder, second: Builder, server: str
) -> None:
    _, made = first.build()
    first.fill(made[:2], server)
    second.make({"top": CONTENT["top"]})
    _, found = second.build(server)
    assert [item.location is None for item in found] == [False, False, True]


def test_filling_again_writes_nothing(first: Builder, faulty: Proxy) -> None:
    _, made = first.build()
    first.fill(made, faulty.address)
    faulty.seen.clear()
    assert first.fill(made, faulty.address).records == 0
    assert {item.method for item in faulty.seen} == {"GET", "HEAD"}


def test_only_what_is_new_is_written(first: Builder, faulty: Proxy) -> None:
    _, made = first.build()
    first.fill(made, faulty.address)
    new = {**CONTENT, "top": b"2"}
    first.make(new)
    faulty.seen.clear()
    filled = first.fill(first.build(content=new)[1], faulty.address)
    assert filled.records == 1
    assert filled.bytes_sent < 1000
    assert faulty.count("PUT", "manifests/layer-") == 1


def test_cache_that_a_build_reads_is_queried_once(
    first: Builder, second: Builder, faulty: Proxy
) -> None:
    first.fill(first.build()[1], faulty.address)
    _, found = second.build(faulty.address)
    faulty.seen.clear()
    assert second.fill(found, faulty.address).records == 0
    assert faulty.seen == []


@pytest.mark.parametrize("name", ["roll/app", "roll/cache"])
def test_blobs_that_were_pushed_are_not_sent_again(
    first: Builder, faulty: Proxy, name: str
) -> None:
    value, made = first.build()
    first.push(value, faulty.address, name)
    assert first.fill(made, faulty.address).bytes_sent == len(referrer.EMPTY)


def test_builders_that_fill_at_once_lose_nothing(tmp_path: Path, server: str) -> None:
    contents = [{"base": b"base", "own": str(number).encode()} for number in range(6)]
    builders = [Builder(tmp_path / str(number)) for number in range(6)]
    for one, content in zip(builders, contents, strict=True):
        one.make(content)
    made = [one.build(content=content)[1] for one, content in zip(builders, contents, strict=True)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda pair: pair[0].fill(pair[1], server), zip(builders, made, strict=True)))
    late = Builder(tmp_path / "late")
    for content in contents:
        late.build(server, content)


def test_registry_that_cleans_up_keeps_the_cache(
    first: Builder, second: Builder, server: str, data: Path
) -> None:
    _, made = first.build()
    first.fill(made, server)
    (config,) = data.glob("registry-*.json")
    command = ["docker-registry", "garbage-collect", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "blobs marked" in done.stdout
    value, _ = second.build(server)
    assert second.complete(value) == 3


# -- where the bytes are needed --------------------------------------------------------------------


def test_push_beside_the_cache_never_needs_the_bytes(
    first: Builder, second: Builder, faulty: Proxy
) -> None:
    first.fill(first.build()[1], faulty.address)
    value, _ = second.build(faulty.address)
    faulty.seen.clear()
    assert states(second.push(value, faulty.address)) == ["mounted"] * 3 + ["sent"]
    assert states(second.push(value, faulty.address, "roll/cache")) == ["present"] * 3 + ["mounted"]
    assert not faulty.requests("GET", "blobs")
    assert len(second.store.remote_layers.missing_here()) == 3


def test_push_to_another_registry_fetches_what_it_sends(
    first: Builder, second: Builder, server: str, tmp_path: Path
) -> None:
    first.fill(first.build()[1], server)
    value, _ = second.build(server)
    place = tmp_path / "other"
    place.mkdir()
    with registry(place) as other:
        assert states(second.push(value, other)) == ["sent"] * 4
    assert second.store.remote_layers.missing_here() == {}
    assert verify(second.store) == []


def test_one_cache_fills_another(first: Builder, second: Builder, server: str) -> None:
    """On the same registry by mounts: no byte comes or goes."""
    first.fill(first.build()[1], server)
    _, found = second.build(server)
    filled = second.fill(found, server, "roll/copy")
    assert (filled.records, filled.bytes_sent) == (3, len(referrer.EMPTY))
    assert len(second.store.remote_layers.missing_here()) == 3


def test_complete_layout_works_with_other_programs(
    first: Builder, second: Builder, server: str, tmp_path: Path
) -> None:
    _, made = first.build()
    first.fill(made, server)
    keys = [item.key for item in made]
    value, _ = second.build(server)
    assert not skopeo_copies(second.store, tmp_path / "before")
    assert second.complete(value) == 3
    assert skopeo_copies(second.store, tmp_path / "after")
    assert second.complete(value) == 0
    # Only making them would prove what they are made of: without the cache they are made.
    assert [second.store.layer_keys.known(key) for key in keys] == [None, None, None]


def test_damaged_blob_of_the_cache_does_not_get_into_the_store(
    first: Builder, second: Builder, server: str, data: Path
) -> None:
    value, made = first.build()
    first.fill(made, server)
    second.build(server)
    digest = value.layers[0].blob.digest
    path = blob_in(data, digest)
    path.write_bytes(bytes(value.layers[0].blob.size))
    with pytest.raises(IntegrityError, match=digest) as error:
        second.complete(value)
    assert "without --cache-from" in str(error.value.remedy)
    assert digest in second.store.remote_layers.missing_here()
    assert not second.store.blobs.path(digest).exists()


@pytest.mark.parametrize("fault", ["diff_id", "unpacked"])
def test_layer_that_is_not_what_its_record_says_does_not_get_into_the_store(
    first: Builder, second: Builder, server: str, fault: str
) -> None:
    _, made = first.build()
    first.fill(made, server)
    bulk = made[0]
    right = bulk.layer.blob
    blob = replace(right, diff_id="sha256:" + "1" * 64)
    if fault == "unpacked":
        blob = replace(right, unpacked=right.unpacked - 512)
    with Registry(Repository(server, "roll/cache"), plain_http=True) as connected:
        cache_records.add(connected, bulk.key, "bulk", blob)
    value, _ = second.build(server)
    with pytest.raises(IntegrityError, match="does not contain the tar") as error:
        second.complete(value)
    assert f"{server}/roll/cache" in error.value.message
    assert "without --cache-from" in str(error.value.remedy)
    assert not second.store.blobs.path(blob.digest).exists()


@contextmanager
def deaf(drip: bool) -> Iterator[str]:
    """A server that never answers, or one byte at a time; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor() as pool:
        over = threading.Event()

        def answer(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                connection.recv(4096)
                connection.send(b"HTTP/1.1 200 OK\r\nX-Long: ")
                while not over.wait(0.1):
                    connection.send(b"a" if drip else b"")

        def serve() -> None:
            with suppress(OSError):
                while True:
                    pool.submit(answer, listening.accept()[0])

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        over.set()
        listening.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("drip", [False, True])
def test_cache_that_does_not_answer_in_time_is_given_up(second: Builder, drip: bool) -> None:
    with deaf(drip) as address:
        cache = CacheFrom(cache_at(address), second.lines.append, QUICK, timeout=1.0)
        recipes = [
            Recipe(titles.parse(name), key_of(name, b""), (), (), _no_entries, 1) for name in "abc"
        ]
        begin = time.monotonic()
        assert cache.lookup(recipes) == {}
        assert time.monotonic() - begin < 10
    (line,) = second.lines
    assert "has not answered everything within 1 s" in line
    assert "layers are made" in line


def test_repository_that_is_no_cache_is_reported(second: Builder, server: str) -> None:
    cache = CacheFrom(cache_at(server), second.lines.append, QUICK)
    recipes = [
        Recipe(titles.parse(name), key_of(name, b""), (), (), _no_entries, 1) for name in "abc"
    ]
    assert cache.lookup(recipes) == {}
    assert second.lines == [f"cache: {server}/roll/cache: knows 0 of 3 layers"]


def test_blob_that_the_cache_lost_is_reported(
    first: Builder, second: Builder, server: str, data: Path
) -> None:
    value, made = first.build()
    first.fill(made, server)
    second.build(server)
    blob_in(data, value.layers[0].blob.digest).unlink()
    with pytest.raises(RegistryError, match="has no blob") as error:
        second.complete(value)
    assert "without --cache-from" in str(error.value.remedy)


def test_broken_connections_do_not_matter(first: Builder, second: Builder, faulty: Proxy) -> None:
    _, made = first.build()
    faulty.faults += [Fault("lost", "PUT", "manifests"), Fault("cut", "GET", "manifests")]
    first.fill(made, faulty.address)
    faulty.faults += [Fault(kind, "GET", skip=1) for kind in ("cut", "lost", "deaf")]
    value, _ = second.build(faulty.address)
    assert not faulty.faults
    faulty.faults += [Fault("cut", "GET", "blobs", times=3)]
    assert second.complete(value) == 3
    assert verify(second.store) == []
    assert second.lines == []


def blob_in(data: Path, digest: str) -> Path:
    value = digest.removeprefix("sha256:")
    blobs = data / "registry" / "docker" / "registry" / "v2" / "blobs"
    return blobs / "sha256" / value[:2] / value / "data"


# -- a cache that is of no use ---------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["malformed", "of another key", "without its blob"])
def test_unusable_record_is_reported_ignored_and_replaced(
    first: Builder, second: Builder, server: str, data: Path, fault: str
) -> None:
    _, made = first.build()
    first.fill(made, server)
    bulk, small, top = made
    with Registry(Repository(server, "roll/cache"), plain_http=True) as connected:
        right = cache_records.record(bulk.key, "bulk", bulk.layer.blob)
        if fault == "malformed":
            document = {**json.loads(right), "annotations": {}}
            manifests.put(connected, cache_records.tag(bulk.key), json.dumps(document).encode())
        elif fault == "of another key":
            other = cache_records.record(small.key, "small", small.layer.blob)
            manifests.put(connected, cache_records.tag(bulk.key), other)
        else:
            blob_in(data, bulk.layer.blob.digest).unlink()
    second.make({"bulk": CONTENT["bulk"]})
    cache = CacheFrom(cache_at(server), second.lines.append, QUICK)
    recipes = [Recipe(titles.parse(i.layer.title), i.key, (), (), _no_entries, 1) for i in made]
    assert set(cache.lookup(recipes)) == {small.key, top.key}
    (line,) = second.lines
    assert cache_records.tag(bulk.key)[:15] in line
    assert line.endswith("ignored")
    assert first.fill(made, server).records == 1
    assert set(cache.lookup(recipes)) == {small.key, bulk.key, top.key}


def test_manifest_with_other_bytes_than_its_digest_is_no_record(
    first: Builder, second: Builder, faulty: Proxy
) -> None:
    _, made = first.build()
    first.fill(made, faulty.address)

    def falsify(request: Any) -> bool:
        if "manifests" in request.path:
            request.answer(200, {"Docker-Content-Digest": digest_of(b"{}")}, b"[]")
            return True
        return False

    faulty.guard = falsify
    second.make()
    assert second.build()[1] == made
    recipe = Recipe(titles.parse("bulk"), made[0].key, (), (), _no_entries, 1)
    assert CacheFrom(cache_at(faulty.address), second.lines.append, QUICK).lookup([recipe]) == {}
    assert "its bytes have the digest" in second.lines[0]


def test_unreachable_cache_is_a_warning_and_not_queried_again(second: Builder) -> None:
    recipe = Recipe(titles.parse("bulk"), "a" * 64, (), (), _no_entries, 1)
    cache = CacheFrom(cache_at("127.0.0.1:1"), second.lines.append, QUICK)
    assert cache.lookup([recipe]) == {}
    assert cache.lookup([recipe]) == {}
    (line,) = second.lines
    assert line.startswith("warning: no cache at 127.0.0.1:1/roll/cache, so layers are made")


def test_first_cache_that_has_a_layer_is_used(
    first: Builder, second: Builder, tmp_path: Path, server: str, faulty: Proxy
) -> None:
    """The second is queried for the rest only, and one that is down stops nothing."""
    _, made = first.build()
    first.fill(made[:2], server, "near/cache")
    first.fill(made, faulty.address, "far/cache")
    faulty.seen.clear()
    places = [cache_at("127.0.0.1:1"), cache_at(server, "near/cache")]
    places.append(cache_at(faulty.address, "far/cache"))
    value, found = second.build(lookup=layer_cache.read_all(places, second.lines.append, QUICK))
    assert [item.location for item in found] == [places[1], places[1], places[2]]
    assert len(faulty.requests("GET", "/manifests/")) == 1
    (line,) = second.lines
    assert line.startswith("warning: no cache at 127.0.0.1:1/roll/cache, so the next one is asked")
    assert second.complete(value) == 3
    assert verify(second.store) == []


def test_cache_that_is_down_is_a_warning(second: Builder, faulty: Proxy) -> None:
    faulty.faults.append(Fault("status", status=503, times=999))
    recipes = [Recipe(titles.parse("bulk"), str(n) * 64, (), (), _no_entries, 1) for n in range(9)]
    cache = CacheFrom(cache_at(faulty.address), second.lines.append, QUICK)
    assert cache.lookup(recipes) == {}
    assert len(second.lines) == 1


def test_cache_that_wants_a_login_is_a_warning_to_read_and_an_error_to_fill(
    first: Builder, faulty: Proxy
) -> None:
    _, made = first.build()
    TokenServer(faulty)
    recipe = Recipe(titles.parse("bulk"), made[0].key, (), (), _no_entries, 1)
    cache = CacheFrom(cache_at(faulty.address), first.lines.append, QUICK)
    assert cache.lookup([recipe]) == {}
    assert "docker login" in first.lines[0]
    with pytest.raises(LoginError, match="the image is in the store, but"):
        first.fill(made, faulty.address)


def test_record_is_never_there_before_its_blob(first: Builder, faulty: Proxy) -> None:
    _, made = first.build()
    faulty.faults.append(Fault("status", "PATCH", status=403, times=99))
    with pytest.raises(LoginError, match="not all of it in the cache"):
        first.fill(made, faulty.address)
    assert not faulty.requests("PUT", "manifests")


# -- the command line ------------------------------------------------------------------------------


def test_pull_verify_and_inspect(first: Builder, second: Builder, server: str) -> None:
    first.fill(first.build()[1], server)
    value, _ = second.build(server)
    cli = Cli(second.store.path)
    shown = json.loads(cli.run("inspect", "--target", TARGET, "--json").stdout)
    assert shown["complete"] is False
    assert {item["elsewhere"] for item in shown["layers"]} == {f"{server}/roll/cache"}
    assert len(json.loads(cli.run("verify", "--json").stdout)["elsewhere"]) == 3
    assert "3 layers are in a registry only" in cli.run("verify").stdout
    done = cli.run("pull", "--target", TARGET, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["bytes"] == value.size
    assert json.loads(cli.run("inspect", "--target", TARGET, "--json").stdout)["complete"] is True
    assert cli.verified()


def test_bundle_fetches_what_it_writes(
    first: Builder, second: Builder, server: str, tmp_path: Path
) -> None:
    first.fill(first.build()[1], server)
    second.build(server)
    cli = Cli(second.store.path)
    done = cli.run("bundle", "--target", TARGET, "--out", str(tmp_path / "bundle"))
    assert done.returncode == 0, done.stderr
    assert second.store.remote_layers.missing_here() == {}


def without_network(small: SmallImage, place: Path) -> Path:
    """A download cache with the .debs of the image's Python and nothing else."""
    from images.content.python import interpreter
    from images.inputs.fetch import download_cache

    cache = place / "downloads"
    for deb in interpreter.missing(base_lock.read(), place):
        copy = download_cache.cached(deb.artifact, cache)
        copy.parent.mkdir(parents=True)
        shutil.copy(download_cache.cached(deb.artifact, small.cli.cache), copy)
    return cache


def test_real_build_with_nothing_of_its_own_after_a_runtime_change(
    small: SmallImage, server: str, data: Path, tmp_path: Path
) -> None:
    """Neither an index nor a mirror can be reached; the runtime's layer alone is made."""
    where = [f"{server}/roll/cache", "--plain-http"]
    titles = [item["title"] for item in small.document["layers"]]
    document = small.copy_to(tmp_path / "full", keep=titles).build("--cache-to", *where)
    assert document["complete"] is True
    forget_runtime(document, data)
    cli = replace(small.cli, store=tmp_path / "store", cache=without_network(small, tmp_path))
    nowhere = {"UV_INDEX_URL": "http://127.0.0.1:9", "UV_DEFAULT_INDEX": "http://127.0.0.1:9"}
    options = [
        "--cache-from",
        "127.0.0.1:1/none",
        "--cache-from",
        *where,
        "--debian-mirror",
        "http://127.0.0.1:9",
    ]
    again = cli.build(*options, "--cache-to", where[0], env=nowhere)
    assert again["manifest_digest"] == document["manifest_digest"]
    assert [item["reused"] for item in again["layers"]].count(False) == 1
    assert again["complete"] is False
    to = ["--to", f"{server}/roll/app", "--plain-http", "--json"]
    pushed = cli.run("push", "--target", TARGET, *to)
    assert pushed.returncode == 0, pushed.stderr
    states = [blob["state"] for blob in json.loads(pushed.stdout)["blobs"]]
    assert set(states) == {"mounted", "sent"}
    assert states.count("sent") == 1, "the config"
    assert cli.verified()
    third = replace(cli, store=tmp_path / "third").build(*options, env=nowhere)
    assert all(item["reused"] for item in third["layers"]), "the runtime's layer is shared now"


def test_real_build_without_its_caches(small: SmallImage, tmp_path: Path) -> None:
    """One that cannot be read is a warning, one that cannot be filled is an error."""
    titles = [item["title"] for item in small.document["layers"] if item["title"] != "roll_runtime"]
    cli = small.copy_to(tmp_path, keep=titles)
    options = ["--cache-from", "127.0.0.1:1/a", "--cache-to", "127.0.0.1:1/b", "--plain-http"]
    done = cli.run("build", "--target", TARGET, *options)
    assert done.returncode == RegistryError.exit_code, done.stderr
    assert "warning: no cache at 127.0.0.1:1/a, so layers are made" in done.stderr
    assert "error: the image is in the store, but not all of it in the cache" in done.stderr
    inspected = json.loads(cli.run("inspect", "--target", TARGET, "--json").stdout)
    assert inspected["manifest_digest"] == small.document["manifest_digest"]
    assert inspected["complete"] is True


def forget_runtime(document: dict[str, Any], data: Path) -> None:
    """Take the record of the top layer out of the registry: as if it were of older sources."""
    digest = document["layers"][-1]["digest"]
    tags = data / "registry/docker/registry/v2/repositories/roll/cache/_manifests/tags"
    found = []
    for tag in tags.iterdir():
        name = (tag / "current" / "link").read_text()
        record = json.loads(blob_in(data, name).read_text())
        if record["layers"][0]["digest"] == digest:
            found.append(tag)
    (runtime,) = found
    shutil.rmtree(runtime)
