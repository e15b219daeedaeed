"""Records of the shared cache, and layers that are elsewhere: their documents."""

from __future__ import annotations

import json
from typing import Any

import pytest

from images.build import cache_records
from images.oci.descriptor import COMPRESSIONS, Blob, Compression
from images.oci.layer import writer
from images.oci.reference import Repository, parse
from images.oci.store import remote_layers
from images.oci.store.remote_layers import Location, RemoteLayer

KEY = "a" * 64
BLOB = Blob(
    "sha256:" + "1" * 64,
    "sha256:" + "2" * 64,
    10,
    200,
    "application/vnd.oci.image.layer.v1.tar+zstd",
)


def test_record_comes_back_as_it_was_written() -> None:
    content = cache_records.record(KEY, "torch 2.8.0", BLOB)
    assert cache_records.parse(content, KEY) == BLOB
    assert content == cache_records.record(KEY, "torch 2.8.0", BLOB)


def test_record_is_an_artifact_manifest_that_holds_on_to_its_blobs() -> None:
    document = json.loads(cache_records.record(KEY, "torch 2.8.0", BLOB))
    assert document["schemaVersion"] == 2
    assert document["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert document["artifactType"]
    assert document["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"
    assert document["layers"] == [
        {"digest": BLOB.digest, "mediaType": BLOB.media_type, "size": BLOB.size}
    ]
    assert all(isinstance(value, str) for value in document["annotations"].values())


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_layers_as_they_are_made_can_be_recorded(compression: Compression) -> None:
    import io

    blob = writer.write([], io.BytesIO(), compression)
    assert cache_records.parse(cache_records.record(KEY, "t", blob), KEY) == blob


def test_tag_is_a_tag() -> None:
    assert parse(f"localhost/a:{cache_records.tag(KEY)}")[1] == cache_records.tag(KEY)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("annotations", "roll.layer.key"), "b" * 64),
        (("annotations", "roll.layer.diff-id"), "sha256:x"),
        (("annotations", "roll.layer.diff-id"), None),
        (("annotations", "roll.layer.unpacked"), "many"),
        (("annotations", "roll.layer.unpacked"), "-1"),
        (("annotations",), None),
        (("layers",), []),
        (("layers",), [{}, {}]),
        (("layers",), None),
        (("layers", 0, "digest"), "sha256:../../x"),
        (("layers", 0, "digest"), 5),
        (("layers", 0, "size"), "10"),
        (("layers", 0, "size"), True),
        (("layers", 0, "size"), 0),
        (("layers", 0, "mediaType"), "application/octet-stream"),
        (("layers", 0, "mediaType"), []),
    ],
)
def test_other_documents_are_no_records(where: tuple[Any, ...], value: Any) -> None:
    document = json.loads(cache_records.record(KEY, "t", BLOB))
    inner = document
    for step in where[:-1]:
        inner = inner[step]
    inner[where[-1]] = value
    with pytest.raises(cache_records.NOT_A_RECORD):
        cache_records.parse(json.dumps(document).encode(), KEY)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"5", b"null", b"\xff", b"[" * 100])
def test_nonsense_is_no_record(content: bytes) -> None:
    with pytest.raises(cache_records.NOT_A_RECORD):
        cache_records.parse(content, KEY)


def test_remote_layers_come_back_as_they_were_noted() -> None:
    places = [
        Location(Repository("localhost:5000", "a/b"), True),
        Location(Repository("x.y", "c"), False),
    ]
    remotes = [RemoteLayer(str(number) * 64, BLOB, place) for number, place in enumerate(places)]
    assert remote_layers.parse(remote_layers.dump(remotes)) == remotes
    assert remote_layers.dump(reversed(remotes)) == remote_layers.dump(remotes)
