"""Many pushes of small images through a proxy that breaks requests at random.

Each kind of fault on its own, with what is reported and what is sent again: tests/integration/
push/test_broken.py.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from images.build import titles
from images.build.layer_cache import CacheFrom
from images.build.recipe import Recipe
from images.errors import RegistryError
from images.export.push import push
from images.export.push.push import PushOptions
from images.http.retry import Policy
from images.oci.descriptor import INDEX_TYPE, MANIFEST_TYPE
from images.oci.image import Image, Layer
from images.oci.layer import writer
from images.oci.layer.entry import of_bytes
from images.oci.reference import Repository
from images.oci.referrer import Referrer
from images.oci.registry.client import Registry
from images.oci.store import store
from images.oci.store.remote_layers import Location
from images.oci.store.store import Store
from images.util.progress import Progress
from tests.chance import times
from tests.integration.registries import Fault, Proxy, proxy, registry

QUICK = Policy(base_delay=0.001, max_delay=0.01)
METHODS = ("HEAD", "POST", "PATCH", "PUT", "")
STATUSES = (408, 429, 500, 502, 503, 504)


def an_image(layout: Store, number: int, chance: random.Random) -> Image:
    """An image of a few small layers; some are those of images before it."""
    layers = []
    for title in range(chance.randint(1, 4)):
        seed = number if chance.random() < 0.5 else title
        content = random.Random(seed).randbytes(chance.choice([0, 10, 5000]) + title)
        with layout.blobs.new_file() as (out, commit):
            blob = writer.write([of_bytes(f"opt/{title}", content)], out, "gzip")
            commit(blob.digest)
        layers.append(Layer(f"layer {title}", blob))
    image = Image(f"i{number}", tuple(layers), {"N": str(number)}, {}, "2025-01-01T00:00:00Z")
    layout.save(image)
    return image


def a_fault(chance: random.Random) -> Fault:
    """Any of the proxy's, but those that wait for a time-out."""
    kind = chance.choice(["status", "torn", "kept", "deaf", "lost", "cut", "slow"])
    return Fault(
        kind,
        chance.choice(METHODS),
        after=chance.randrange(200),
        status=chance.choice(STATUSES),
        headers={"Retry-After": "0"},
        times=chance.randint(1, 3),
        skip=chance.randrange(4),
    )


def pushed(layout: Store, image: Image, faulty: Proxy, chance: random.Random) -> bool:
    """Push; whether it came to its end. Only an error of its own may end it sooner."""
    repository = Repository(faulty.address, chance.choice(["team/one", "team/two"]))
    with Registry(repository, plain_http=True, policy=QUICK) as connected:
        progress = Progress(Path("/dev/null").open("w"))  # noqa: SIM115
        try:
            done = push.push(
                layout, image, connected, image.ref, PushOptions(jobs=3), progress=progress
            )
        except RegistryError:
            return False
        assert done.manifest_digest == image.manifest_digest
        assert connected.manifest_digest(image.ref) == image.manifest_digest
    return True


def test_many_pushes_through_random_faults(tmp_path: Path, chance: random.Random) -> None:
    layout = store.open_store(tmp_path / "store")
    ended = failed = 0
    with registry(tmp_path) as address, proxy(address) as faulty:
        for number in range(times(25, 1000)):
            image = an_image(layout, number, chance)
            faulty.faults = [a_fault(chance) for _ in range(chance.randint(1, 4))]
            if not pushed(layout, image, faulty, chance):
                failed += 1
                faulty.faults = []
                assert pushed(layout, image, faulty, chance)
            ended += 1
            faulty.faults = []
            # Whoever pulls gets the very bytes: the registry has each blob under its digest.
            for repository in ("team/one", "team/two"):
                with Registry(Repository(faulty.address, repository), plain_http=True) as found:
                    if found.manifest_digest(image.ref) is not None:
                        assert all(
                            found.has_blob(item.blob.digest, item.blob.size)
                            for item in image.layers
                        )
    print(f"{ended} pushes, {failed} of them with an error first")
    assert failed < ended // 2


# -- what only saves work --------------------------------------------------------------------------

LOCATIONS = (
    *("", "/", "//", "http://[", "http://127.0.0.1:1/", "/v2/team/one/blobs/uploads/none", "?x#y"),
    *("ftp://host/x", "https://", "\u00e9", "http://a b/", "http://:99999/"),
)
BODIES = (
    *(b"", b"{}", b"[]", b"null", b"[" * 5000, b"<html>", b"\xff\x00", b'{"errors":[{}]}'),
    *(b'{"errors":[{"code":"BLOB_UNKNOWN"}]}', b'{"manifests":[{"digest":1}],"schemaVersion":2}'),
)
TYPES = ("", "text/html", "application/json", INDEX_TYPE, MANIFEST_TYPE, "application/json; x")
ODD_STATUSES = (
    *(200, 201, 202, 204, 206, 301, 304, 307, 400, 401, 403, 404, 405, 409),
    *(410, 416, 418, 429, 451, 500, 503, 599),
)
GARBAGE = (b"", b"garbage\r\n\r\n", b"HTTP/1.1 99999 x\r\n\r\n")


def saves(request: Any, subject: str) -> bool:
    """Return whether a request only saves work, or is for documents about the image."""
    path = request.path
    asks = request.command in ("HEAD", "GET") and "/uploads/" not in path
    return asks or "mount=" in path or subject.replace(":", "-") in path


class Odd:
    """Answers what only saves work with anything at all; the registry sees the rest."""

    def __init__(self, chance: random.Random, subject: str) -> None:
        self._chance, self._subject = chance, subject

    def __call__(self, request: Any) -> bool:
        chance = self._chance
        if not saves(request, self._subject) or chance.random() < 0.3:
            return False
        request.rfile.read(int(request.headers.get("Content-Length") or 0))
        if chance.random() < 0.1:
            request.wfile.write(chance.choice(GARBAGE))
            request.close_connection = True
            return True
        headers = {
            name: value
            for name, value in {
                "Location": chance.choice(LOCATIONS),
                "Content-Type": chance.choice(TYPES),
                "Docker-Content-Digest": chance.choice(["x", "sha256:0", "sha512:1"]),
                "Link": chance.choice(["<", '</x?n=1>; rel="next"', '<http://[>; rel="next"']),
                "Content-Encoding": chance.choice(["gzip", "identity", "x"]),
                "WWW-Authenticate": chance.choice(["", "Basic", "x y"]),
                "OCI-Subject": "x",
                "ETag": "x",
                "Retry-After": chance.choice(["0", "x", "Thu, 01 Jan 1970 00:00:00 GMT"]),
            }.items()
            if chance.random() < 0.3
        }
        headers = {name: value.encode().decode("latin-1") for name, value in headers.items()}
        request.answer(chance.choice(ODD_STATUSES), headers, chance.choice(BODIES))
        return True


def test_odd_answers_to_what_only_saves_work(tmp_path: Path, chance: random.Random) -> None:
    layout = store.open_store(tmp_path / "store")
    with registry(tmp_path) as address, proxy(address) as faulty:
        for number in range(times(12, 400)):
            image = an_image(layout, number, chance)
            document = Referrer("text/plain", "x", b"%d" % number, image.descriptor, {})
            layout.attach([document])
            faulty.guard = Odd(chance, image.manifest_digest)
            repository = Repository(faulty.address, chance.choice(["team/one", "team/two"]))
            with Registry(repository, plain_http=True, policy=QUICK) as connected:
                progress = Progress(Path("/dev/null").open("w"))  # noqa: SIM115
                wishes = PushOptions(referrers=[document], jobs=3)
                push.push(layout, image, connected, image.ref, wishes, progress=progress)
            there = Repository(address, repository.name)
            with Registry(there, plain_http=True) as found:
                assert found.manifest_digest(image.ref) == image.manifest_digest


def test_odd_answers_of_a_cache_end_no_build(
    tmp_path: Path, chance: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    said: list[str] = []
    quick = Policy(max_attempts=2, max_attempts_unreached=2, base_delay=0.001, max_delay=0.01)
    with registry(tmp_path) as address, proxy(address) as faulty:
        faulty.guard = Odd(chance, "sha256:x")
        where = Location(Repository(faulty.address, "team/cache"), plain_http=True)
        for _ in range(times(60, 2000)):
            recipe = Recipe(
                titles.parse("x"),
                f"{chance.getrandbits(256):064x}",
                (),
                (),
                lambda _, __: iter(()),
                0,
            )
            assert CacheFrom(where, said.append, quick).lookup([recipe]) == {}
    assert said, "a cache that cannot be read is reported"
