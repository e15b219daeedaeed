"""What a push sends: the image's own bytes, and none that the registry has."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from images.oci.descriptor import COMPRESSIONS, INDEX_TYPE, Compression, canonical_json
from images.oci.reference import Repository
from images.oci.registry.client import Registry
from images.oci.store.store import Store
from tests.integration.podman import podman
from tests.integration.push.conftest import Make, Shown, digest_in, pushed, states, whole_in
from tests.integration.registries import Proxy


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_pushed_image_is_the_same_bytes(
    layout: Store, make: Make, server: str, tmp_path: Path, compression: Compression
) -> None:
    image = make(compression=compression)
    shown = Shown()
    done = pushed(layout, image, server, progress=shown)
    assert states(done) == ["sent"] * 4
    assert done.reference == f"{server}/team/app@{image.manifest_digest}"
    assert (shown.done, shown.most) == (shown.total, shown.total)
    assert shown.total == image.size + len(image.config)
    assert done.bytes_sent == shown.total + 2 * len(image.manifest)
    assert whole_in(server, tmp_path / "back").images() == {"back": image.manifest_digest}
    by_digest = f"team/app@{image.manifest_digest}"
    assert digest_in(server, by_digest) == image.manifest_digest


def test_podman_pulls_what_was_pushed(
    layout: Store, make: Make, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DOCKER_CONFIG")  # podman wants a file where that leads
    image = make()
    done = pushed(layout, image, server)
    with podman() as node:
        assert node.pull("--tls-verify=false", done.reference) == image.config_digest


def test_unchanged_image_costs_one_request(layout: Store, make: Make, faulty: Proxy) -> None:
    image = make()
    pushed(layout, image, faulty.address)
    faulty.seen.clear()
    done = pushed(layout, image, faulty.address)
    assert [(item.method, item.path) for item in faulty.seen] == [
        ("HEAD", "/v2/team/app/manifests/v1")
    ]
    assert (done.unchanged, done.bytes_sent, states(done)) == (True, 0, ["present"] * 4)


def test_another_tag_of_it_sends_no_blob(layout: Store, make: Make, faulty: Proxy) -> None:
    image = make()
    pushed(layout, image, faulty.address)
    faulty.seen.clear()
    done = pushed(layout, image, faulty.address, tag="v2")
    assert states(done) == ["present"] * 4
    assert not faulty.requests("POST")
    assert not faulty.requests("HEAD", "/blobs/"), "the image is there, so its blobs are"
    assert digest_in(faulty.address, "team/app:v2") == image.manifest_digest


@pytest.mark.parametrize("tag", ["v1", "v2"])
def test_only_the_changed_layer_is_sent(layout: Store, make: Make, faulty: Proxy, tag: str) -> None:
    pushed(layout, make(), faulty.address)
    faulty.seen.clear()
    image = make(top="2")
    done = pushed(layout, image, faulty.address, tag=tag)
    assert states(done) == ["present", "present", "sent", "sent"]
    assert done.bytes_sent == sum(item.length for item in faulty.seen)
    assert done.bytes_sent < 10_000
    assert len(faulty.requests("HEAD", "/blobs/")) == 2, "what the last image has is not asked for"
    assert digest_in(faulty.address, f"team/app:{tag}") == image.manifest_digest


def test_store_without_history_checks_each_blob(layout: Store, make: Make, faulty: Proxy) -> None:
    pushed(layout, make(), faulty.address)
    for memory in (layout.path / ".roll" / "pushed").iterdir():
        memory.unlink()
    faulty.seen.clear()
    assert states(pushed(layout, make(top="2"), faulty.address, tag="v2"))[:2] == ["present"] * 2
    assert len(faulty.requests("HEAD", "/blobs/")) == 4


def test_last_image_that_is_gone_does_not_stop_a_push(
    layout: Store, make: Make, server: str, tmp_path: Path
) -> None:
    image = make()
    pushed(layout, image, server)
    shutil.rmtree(tmp_path / "registry/docker/registry/v2/repositories/team/app/_manifests")
    assert digest_in(server) is None
    assert states(pushed(layout, image, server, tag="v2")) == ["present"] * 4
    assert digest_in(server, "team/app:v2") == image.manifest_digest


@pytest.mark.parametrize("tag", ["v1", "v2"])
def test_blob_that_the_last_image_lacks_is_sent(
    layout: Store, make: Make, server: str, tmp_path: Path, tag: str
) -> None:
    pushed(layout, make(), server)
    image = make(top="2")
    lost = image.layers[0].blob.digest.replace(":", "/")
    links = tmp_path / "registry/docker/registry/v2/repositories/team/app/_layers"
    (links / lost / "link").unlink()
    done = pushed(layout, image, server, tag=tag)
    assert states(done) == ["sent", "present", "sent", "sent"]
    assert done.bytes_sent == 2 * len(image.manifest) + sum(
        blob.size for blob in done.blobs if blob.state == "sent"
    )
    found = whole_in(server, tmp_path / "back", f"team/app:{tag}").images()
    assert found == {"back": image.manifest_digest}


def test_tag_of_something_else_is_ignored(layout: Store, make: Make, server: str) -> None:
    """An index has no blobs of its own."""
    image = make()
    index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": []}
    with Registry(Repository(server, "team/app"), plain_http=True) as connected:
        content = canonical_json(index)
        headers = {"Content-Type": INDEX_TYPE}
        assert connected.call("PUT", "manifests/v1", body=content, headers=headers).ok
    assert states(pushed(layout, image, server)) == ["sent"] * 4
    assert digest_in(server) == image.manifest_digest


def test_layer_that_only_the_registry_has_is_not_fetched(
    layout: Store, make: Make, server: str
) -> None:
    pushed(layout, make(), server)
    image = make(top="2")
    layout.blobs.path(image.layers[0].blob.digest).unlink()
    assert states(pushed(layout, image, server))[0] == "present"


def test_tag_comes_last(layout: Store, make: Make, faulty: Proxy) -> None:
    image = make()
    pushed(layout, image, faulty.address)
    writes = [item.path for item in faulty.seen if item.method in ("POST", "PUT", "PATCH")]
    assert writes[-2:] == [
        f"/v2/team/app/manifests/{image.manifest_digest}",
        "/v2/team/app/manifests/v1",
    ]
    assert not [path for path in writes[:-2] if "/manifests/" in path]


@pytest.mark.parametrize(
    "statuses",
    [{201: 200}, {201: 202}, {201: 204, 202: 200}, {200: 203, 202: 201}],
    ids=lambda item: " ".join(f"{own}-{sent}" for own, sent in item.items()),
)
def test_any_success_counts(
    layout: Store, make: Make, faulty: Proxy, tmp_path: Path, statuses: dict[int, int]
) -> None:
    faulty.statuses = statuses
    assert states(pushed(layout, make(), faulty.address)) == ["sent"] * 4
    assert pushed(layout, make(), faulty.address).unchanged
    faulty.statuses = {}
    whole_in(faulty.address, tmp_path / "back")
