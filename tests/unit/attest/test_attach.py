"""SBOM and provenance in the store: beside their image, and gone with it."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from images.attest import attach, sbom
from images.errors import UsageError
from images.oci.image import Image
from images.oci.referrer import EMPTY, Referrer
from images.oci.store.maintenance import gc, verify
from images.oci.store.store import Store
from tests.unit.attestations import MATERIALS, build_of, image_in


@pytest.fixture
def image(store: Store) -> Image:
    return image_in(store)


def complete(store: Store, image: Image) -> list[Referrer]:
    """What is attached to the image after a build."""
    attach.complete(store, image, MATERIALS, build_of(store.path.parent))
    return store.attached(image.manifest_digest)


def test_manifest_is_an_artifact_about_the_image(store: Store, image: Image) -> None:
    for item in complete(store, image):
        manifest = json.loads(store.blobs.read(item.digest))
        assert manifest["artifactType"] == item.artifact_type
        assert manifest["subject"]["digest"] == image.manifest_digest
        assert manifest["subject"]["size"] == len(image.manifest)
        assert manifest["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"
        assert store.blobs.read(manifest["config"]["digest"]) == EMPTY
        (layer,) = manifest["layers"]
        assert store.blobs.read(layer["digest"]) == item.content


def test_first_build_makes_both_and_the_next_changes_nothing(store: Store, image: Image) -> None:
    first = complete(store, image)
    assert [item.artifact_type for item in first] == [attach.SBOM, attach.PROVENANCE]
    before = (store.path / "index.json").stat()
    assert complete(store, image) == first
    after = (store.path / "index.json").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_they_are_found_by_their_image(store: Store, image: Image) -> None:
    other = image_in(store, content=b"other", ref="two")
    complete(store, image)
    with pytest.raises(UsageError, match="no SBOM of this image") as error:
        attach.find(store, other, attach.SBOM)
    assert error.value.remedy is not None
    assert "--target two" in error.value.remedy
    complete(store, other)
    digest = other.manifest_digest.removeprefix("sha256:")
    statement = json.loads(attach.find(store, other, attach.PROVENANCE))
    assert statement["subject"][0]["digest"] == {"sha256": digest}
    found = hashlib.sha256(attach.find(store, other, attach.SBOM)).hexdigest()
    (named,) = statement["predicate"]["runDetails"]["byproducts"]
    assert named["digest"] == {"sha256": found}


def test_store_is_whole_and_gc_keeps_them(store: Store, image: Image) -> None:
    made = complete(store, image)
    assert store.images() == {"one": image.manifest_digest}
    assert verify(store) == []
    assert gc(store).blobs == 0
    assert store.attached(image.manifest_digest) == made


def test_they_go_with_their_image(store: Store, image: Image) -> None:
    kept = image_in(store, content=b"kept", ref="two")
    complete(store, image)
    staying = complete(store, kept)
    image_in(store, content=b"newer")
    assert store.attached(image.manifest_digest) == []
    assert store.attached(kept.manifest_digest) == staying
    gc(store)
    assert verify(store) == []
    assert len(json.loads((store.path / "index.json").read_text())["manifests"]) == 4


@pytest.mark.parametrize("part", ["manifest", "content"])
@pytest.mark.parametrize("fault", ["damaged", "missing"])
@pytest.mark.parametrize("which", [attach.SBOM, attach.PROVENANCE])
def test_the_next_build_replaces_a_damaged_one(
    store: Store, image: Image, part: str, fault: str, which: str
) -> None:
    made = {item.artifact_type: item for item in complete(store, image)}
    item = made[which]
    (content,) = json.loads(item.manifest)["layers"]
    path = store.blobs.path(item.digest if part == "manifest" else content["digest"])
    path.unlink() if fault == "missing" else path.write_bytes(path.read_bytes()[::-1])
    assert which not in {left.artifact_type for left in store.attached(image.manifest_digest)}
    assert verify(store) != []
    gc(store, damaged=True)
    again = {item.artifact_type: item for item in complete(store, image)}
    assert set(again) == set(made)
    assert again[attach.SBOM] == made[attach.SBOM]
    assert verify(store) == []


def test_image_of_the_same_locks_gets_the_sbom_that_was_made(
    store: Store, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete(store, image)
    made = attach.find(store, image, attach.SBOM)
    changed = image_in(store, content=b"another roll_runtime")
    with monkeypatch.context() as patch:
        patch.setattr(sbom, "document", lambda *_: pytest.fail("made again"))
        complete(store, changed)
    assert attach.find(store, changed, attach.SBOM) == made == sbom.document(changed, MATERIALS)


def test_image_of_other_locks_gets_another(store: Store, image: Image) -> None:
    complete(store, image)
    before = attach.find(store, image, attach.SBOM)
    fewer = replace(MATERIALS.lock, distributions=MATERIALS.lock.distributions[1:])
    changed = image_in(store, content=b"one less")
    attach.complete(store, changed, replace(MATERIALS, lock=fewer), build_of(store.path.parent))
    assert attach.find(store, changed, attach.SBOM) != before


def test_what_others_attached_stays(store: Store, image: Image) -> None:
    signature = Referrer("application/vnd.example.sig", "sig", b"sig", image.descriptor, {})
    store.attach([signature])
    assert len(complete(store, image)) == 3
    image_in(store, content=b"second", ref="two")
    assert signature in store.attached(image.manifest_digest)


def test_other_tools_still_read_the_layout(store: Store, image: Image, tmp_path: Path) -> None:
    complete(store, image)
    command = ["skopeo", "inspect", "--raw", f"oci:{store.path}:one"]
    try:
        done = subprocess.run(command, capture_output=True, check=True)
    except FileNotFoundError:
        pytest.skip("no skopeo; on Debian: apt install skopeo")
    assert done.stdout == image.manifest
