"""What other programs put into a store, which is an OCI layout: kept, followed, and reported."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from images.errors import BuildError, IntegrityError, StoreError
from images.oci.descriptor import (
    INDEX_TYPE,
    MANIFEST_TYPE,
    canonical_json,
    descriptor_of,
    digest_of,
)
from images.oci.referrer import Referrer
from images.oci.store.maintenance import gc, verify
from images.oci.store.store import ForeignError, Store, open_store
from tests.damage import flip
from tests.unit.oci.store.conftest import add, image_of, unfinished

NAME = "org.opencontainers.image.ref.name"
CONFIG = b'{"os":"linux"}'


def put(store: Store, kind: str, value: Any) -> dict[str, Any]:
    """A document in the store; gives its descriptor."""
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
    """Enter others' documents in the index, beside what is there; the last one has a name."""
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
    """A media type that nobody knows yet, which names a document of another one."""
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
def test_others_images_are_named_and_not_taken_for_ours(full: Store, others: Any) -> None:
    name(full, *others(full))
    found, names = full.load_every()
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
    swept = gc(full)
    assert (swept.blobs, swept.unread) == (0, (inner["digest"],))
    assert blobs(full) == before


def test_an_index_may_leave_platforms_out(full: Store) -> None:
    """A copy of one platform has the whole index, and the manifest of that platform alone."""
    absent = descriptor_of(MANIFEST_TYPE, b"was never copied")
    name(full, index(full, absent, manifest(full, b"ours")))
    loose = add(full, b"loose")
    assert gc(full).unread == ()
    assert not full.blobs.has(loose.digest, loose.size)


def test_documents_of_ours_about_an_image_in_an_index_stay(store: Store) -> None:
    inner = manifest(store, b"inner")
    name(store, index(store, inner))
    sbom = Referrer("application/vnd.cyclonedx+json", "x", b"{}", inner, {})
    store.attach([sbom])
    store.save(image_of("one", add(store, b"1")))
    assert store.attached(inner["digest"]) == [sbom]


# -- the index itself ------------------------------------------------------------------------------


def test_a_damaged_index_says_why_and_its_remedy_works(full: Store) -> None:
    first = full.load("first")
    path = full.path / "index.json"
    path.write_bytes(path.read_bytes()[:-40])
    for use in (full.images, lambda: gc(full), lambda: full.save(first)):
        with pytest.raises(StoreError, match=r"not an OCI image index: .*line \d+") as error:
            use()
    assert (error.value.remedy or "").startswith(f"mv {path} {path}.damaged")
    path.rename(f"{path}.damaged")
    with pytest.raises(StoreError):
        gc(open_store(full.path, create=False))  # nothing is removed for want of an index
    again = open_store(full.path)
    again.save(first)
    assert again.images() == {"first": first.manifest_digest}
    assert verify(again) == []


def test_an_index_without_end_is_refused(full: Store) -> None:
    (full.path / "index.json").unlink()
    (full.path / "index.json").symlink_to("/dev/zero")
    with pytest.raises(StoreError, match="not a regular file"):
        full.images()


# -- pipes, links and directories where files should be --------------------------------------------


def test_pipes_in_a_store_stop_nobody(full: Store, tmp_path: Path) -> None:
    blob = add(full, b"layer")
    full.layer_keys.remember("key", blob)
    places = ("blobs/sha256/" + "0" * 64, ".roll/layers/pipe", ".roll/tmp/pipe")
    for place in places:
        os.mkfifo(full.path / place)
    (tmp_path / "outside").mkdir()
    (full.path / ".roll/tmp/link").symlink_to(tmp_path / "outside")
    (full.path / "blobs/sha256/directory").mkdir()
    assert sum("not a regular file" in fault for fault in verify(full)) == 2
    with full.building():
        pass
    assert unfinished(full) == []
    assert full.layer_keys.known("pipe") is None
    gc(full, damaged=True)
    assert full.layer_keys.known("key") is None or full.blobs.has(blob.digest, blob.size)
    assert (tmp_path / "outside").is_dir()
    assert full.load("first")


@pytest.mark.parametrize("lock", ["in-use", "index-lock", "locks/key"])
def test_a_lock_that_is_a_pipe_or_a_link_is_refused(full: Store, tmp_path: Path, lock: str) -> None:
    path = full.path / ".roll" / lock
    path.unlink(missing_ok=True)

    def use() -> None:
        with full.building(), full.layer_keys.making("key"):
            full.save(image_of("third", add(full, b"3")))

    for planted in ("pipe", "link"):
        if planted == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(BuildError):
            use()
        path.unlink()
    assert not (tmp_path / "elsewhere").exists()
    use()


def test_a_document_that_is_larger_than_any_is_not_read(full: Store) -> None:
    path = full.blobs.path(f"sha256:{'1' * 64}")
    with path.open("wb") as out:
        out.truncate(1 << 40)
    with pytest.raises((StoreError, IntegrityError), match="larger than the limit"):
        full.blobs.read(f"sha256:{'1' * 64}")
    path.unlink()
