"""The documents of a custom base."""

from __future__ import annotations

import json
from typing import Any

import pytest

from images.errors import IntegrityError, MatrixError
from images.inputs.build_options import FetchOptions
from images.oci.descriptor import INDEX_TYPE, MANIFEST_TYPE
from images.oci.store.store import Store
from tests.unit.custom_bases import (
    described,
    refused,
)
from tests.unit.layouts import FIT, GZIP, Layout


def test_layers_of_other_kinds_are_refused(
    layout: Layout, options: FetchOptions, store: Store
) -> None:
    descriptor, diff_id = layout.layer(FIT)
    plain = {**descriptor, "mediaType": "application/vnd.oci.image.layer.v1.tar"}
    assert "dest-compress" in refused(layout.image([(plain, diff_id)]), options, store)[0]


def test_index_gives_the_image_for_linux_amd64(layout: Layout, options: FetchOptions) -> None:
    images = {
        name: layout.image([layout.layer({name: b""})], architecture=name)
        for name in ("arm64", "amd64")
    }
    index = {
        "schemaVersion": 2,
        "manifests": [
            {"digest": digest, "size": 1, "platform": {"os": "linux", "architecture": name}}
            for name, digest in images.items()
        ],
    }
    digest = layout.named(json.dumps(index).encode(), INDEX_TYPE, "both")
    found = described(digest, options)
    assert found.manifest_digest == images["amd64"]
    assert len(found.documents) == 3
    del index["manifests"][1]  # type: ignore[attr-defined]
    digest = layout.named(json.dumps(index).encode(), INDEX_TYPE, "other")
    with pytest.raises(MatrixError, match="for linux/arm64, not for linux/amd64"):
        described(digest, options)


def test_dockers_names_of_layers_become_ocis(layout: Layout, options: FetchOptions) -> None:
    descriptor, diff_id = layout.layer(FIT)
    kind = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    found = described(layout.image([({**descriptor, "mediaType": kind}, diff_id)]), options)
    assert [blob.media_type for blob in found.blobs] == [GZIP]


@pytest.mark.parametrize("history", [None, [], [{"created_by": "x"}] * 3])
def test_history_that_does_not_describe_all_layers_is_made_up(
    layout: Layout, options: FetchOptions, history: list[dict[str, Any]] | None
) -> None:
    layers = [layout.layer({"a": b""}), layout.layer({"b": b""})]
    assert len(described(layout.image(layers, history=history), options).history) == 2


def test_what_is_no_image_is_reported(layout: Layout, options: FetchOptions) -> None:
    digest = layout.named(b'{"layers": 7}', MANIFEST_TYPE, "x")
    with pytest.raises(IntegrityError, match="not an OCI or Docker image"):
        described(digest, options)
