"""Documents of other programs in a store, which is an OCI layout: kept, followed, and reported."""

from __future__ import annotations

import json
from typing import Any

import pytest

from images.oci.descriptor import (
    INDEX_TYPE,
    MANIFEST_TYPE,
    canonical_json,
    descriptor_of,
    digest_of,
)
from images.oci.referrer import Referrer
from images.oci.store.maintenance import gc, verify
from images.oci.store.store import ForeignError, Store
from tests.damage import flip
from tests.unit.stores import add, image_of

NAME = "org.opencontainers.image.ref.name"
CONFIG = b'{"os":"linux"}'


def put(store: Store, kind: str, value: Any) -> dict[str, Any]:
    """Put a document into the store; returns its descriptor."""
    content = value if isinstance(value, bytes) else canonical_json(value)
    store.blobs.put(content)
    return descriptor_of(kind, content)


def manifest(store: Store, layer: bytes, **more: Any) -> dict[str, Any]:
    store.blobs.put(CONFIG)
    store.blobs.put(layer)
    value = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": descriptor_of("application/vnd.oci.image.config.v1+json", CONFIG),
        "layers": [descriptor_of("application/vnd.oci.image.layer.v1.tar+gzip", layer)],
        **more,
    }
    return put(store, MANIFEST_TYPE, value)


def index(store: Store, *manifests: dict[str, Any]) -> dict[str, Any]:
    value = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": list(manifests)}
    return put(store, INDEX_TYPE, value)


def name(store: Store, *items: dict[str, Any], ref: str = "theirs") -> None:
    """Add documents of other programs to the index; the last one has a name."""
    path = store.path / "index.json"
    document = json.loads(path.read_bytes())
    document["manifests"] += [*items[:-1], {**items[-1], "annotations": {NAME: ref}}]
    path.write_text(json.dumps(document))


def blobs(store: Store) -> set[str]:
    return {path.name for path in (store.path / "blobs/sha256").iterdir()}


def two_platforms(store: Store) -> list[dict[str, Any]]:
    inner = index(store, manifest(store, b"arm"))
    return [index(store, manifest(store, b"amd"), inner)]


def signature(store: Store) -> list[dict[str, Any]]:
    """Of an image that has no other name."""
    return [manifest(store, b"signature", subject=manifest(store, b"signed"), artifactType="sig")]


def to_come(store: Store) -> list[dict[str, Any]]:
    """A media type that does not exist yet, which names a document of another one."""
    inner = put(store, "application/new.inner", {"parts": [{"is": digest_of(b"a part")}]})
    store.blobs.put(b"a part")
    return [put(store, "application/new", {"chapters": {"first": {"at": inner["digest"]}}})]


def noted(store: Store) -> list[dict[str, Any]]:
    """What only an annotation names, as an index for lazy pulling is."""
    store.blobs.put(b"lazy")
    return [manifest(store, b"layer", annotations={"lazy.index": digest_of(b"lazy")})]


def old_artifact(store: Store) -> list[dict[str, Any]]:
    blob = put(store, "text/plain", b"a blob")
    kind = "application/vnd.oci.artifact.manifest.v1+json"
    return [put(store, kind, {"mediaType": kind, "blobs": [blob]})]


OTHERS = [two_platforms, signature, to_come, noted, old_artifact]


@pytest.mark.parametrize("others", OTHERS)
def test_gc_removes_nothing_that_the_index_reaches(full: Store, others: Any) -> None:
    before = blobs(full)
    name(full, *others(full))
    theirs = blobs(full) - before
    loose = add(full, b"loose")
    assert gc(full).blobs == 1
    assert not full.blobs.has(loose.digest, loose.size)
    assert theirs <= blobs(full)
    assert verify(full) == []
    # A build beside it changes nothing of that, nor does a new image of an old name.
    full.save(image_of("first", add(full, b"newer")))
    gc(full)
    assert theirs <= blobs(full)


def test_verify_follows_an_index_in_the_index(full: Store) -> None:
    name(full, *two_platforms(full))
    full.blobs.path(digest_of(b"arm")).unlink()
    assert verify(full) == [f"theirs: layer {digest_of(b'arm')}: missing"]


def test_type_that_is_null_counts_as_left_out(full: Store) -> None:
    item = {**manifest(full, b"theirs"), "artifactType": None}
    name(full, index(full, item, manifest(full, b"another")))
    assert verify(full) == []
    for layer in (b"theirs", b"another"):
        full.blobs.path(digest_of(layer)).unlink()
    assert len(verify(full)) == 2
    name(full, item, ref="null")
    assert "null" in full.images()


def test_what_is_not_understood_is_reported(full: Store) -> None:
    other = {"mediaType": MANIFEST_TYPE, "digest": f"sha512:{'0' * 128}", "size": 5}
    name(full, other, *to_come(full))
    unnamed, new = full.index.notes()
    assert "unnamed: sha512:" in unnamed
    assert "another algorithm" in unnamed
    assert "application/new: not understood; kept" in new
    assert verify(full) == []
    assert sorted(full.images()) == ["first", "second", "theirs"]
    gc(full)
    assert other in json.loads((full.path / "index.json").read_bytes())["manifests"]


@pytest.mark.parametrize("others", [two_platforms, noted, to_come])
def test_images_of_other_programs_are_listed_and_not_loaded(full: Store, others: Any) -> None:
    name(full, *others(full))
    found, names = full.load_all()
    assert [image.ref for image in found] == ["first", "second"]
    assert names == ["theirs"]
    with pytest.raises(ForeignError, match="theirs: not an image of this builder") as error:
        full.load("theirs")
    assert "skopeo inspect" in (error.value.remedy or "")


def test_a_nested_manifest_that_is_damaged_keeps_all(full: Store) -> None:
    inner = manifest(full, b"inner")
    name(full, index(full, inner))
    add(full, b"loose")
    before = blobs(full)
    flip(full.blobs.path(inner["digest"]))
    removed = gc(full)
    assert (removed.blobs, removed.unread) == (0, (inner["digest"],))
    assert blobs(full) == before


def test_an_index_may_leave_platforms_out(full: Store) -> None:
    """A copy of one platform has the whole index, and the manifest of that platform alone."""
    absent = descriptor_of(MANIFEST_TYPE, b"was never copied")
    name(full, index(full, absent, manifest(full, b"ours")))
    loose = add(full, b"loose")
    assert gc(full).unread == ()
    assert not full.blobs.has(loose.digest, loose.size)


def test_our_documents_about_an_image_in_an_index_stay(store: Store) -> None:
    inner = manifest(store, b"inner")
    name(store, index(store, inner))
    sbom = Referrer("application/vnd.cyclonedx+json", "x", b"{}", inner, {})
    store.attach([sbom])
    store.save(image_of("one", add(store, b"1")))
    assert store.attached(inner["digest"]) == [sbom]
