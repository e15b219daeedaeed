"""An image to push to a real registry, and helpers to check the registry afterwards."""

from __future__ import annotations

import base64
import json
import os
import random
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from images.export.push import push
from images.export.push.push import Pushed, PushOptions
from images.http.retry import Policy
from images.oci.descriptor import Blob, Compression
from images.oci.image import Image, Layer
from images.oci.layer import writer
from images.oci.layer.entry import Entry, of_bytes
from images.oci.reference import Repository
from images.oci.registry.client import Registry
from images.oci.store import store
from images.oci.store.maintenance import verify
from images.oci.store.store import Store
from images.util.progress import Progress
from tests.integration.conftest import TARGET, Cli
from tests.integration.registries import PASSWORD, need

MIB = 1 << 20
BULK = 12 * MIB
QUICK = Policy(base_delay=0.01, max_delay=0.05)

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
        with layout.blobs.new_file() as (out, commit):
            blob = writer.write(entries, out, compression)
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
    """Progress without output; adds up the bytes."""

    def __init__(self) -> None:
        super().__init__(Path(os.devnull).open("w"))  # noqa: SIM115
        self.total = self.done = self.most = 0

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Any]:
        self.total = total
        yield self

    @contextmanager
    def busy(self, doing: str) -> Iterator[None]:
        assert doing
        yield

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
        chosen = PushOptions(**{"jobs": 3, **options})
        return push.push(layout, image, connected, tag, chosen, progress=progress or Shown())


def states(done: Pushed) -> list[str]:
    return [blob.state for blob in done.blobs]


def digest_in(address: str, name: str = "team/app:v1") -> str | None:
    """Return the digest that skopeo finds there, or None."""
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
    assert verify(back) == []
    return back


def command_line(layout: Store, address: str, *options: str) -> list[str]:
    to = ["--to", f"{address}/team/app:v1", "--plain-http", *options]
    return Cli(layout.path).command("push", "--target", TARGET, *to)


def log_in(config: Path, address: str, password: str = PASSWORD) -> None:
    """What `docker login` writes."""
    auth = base64.b64encode(f"user:{password}".encode()).decode()
    config.write_text(json.dumps({"auths": {address: {"auth": auth}}}))
