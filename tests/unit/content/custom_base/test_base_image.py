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
    base_layout: Layout, fetch_options: FetchOptions, store: Store
) -> None:
    descriptor, diff_id = base_layout.layer(FIT)
    plain = {**descriptor, "mediaType": "application/vnd.oci.image.layer.v1.tar"}
    assert (
        "dest-compress" in refused(base_layout.image([(plain, diff_id)]), fetch_options, store)[0]
    )


def test_index_gives_the_image_for_linux_amd64(
    base_layout: Layout, fetch_options: FetchOptions
) -> None:
    images = {
        name: base_layout.image([base_layout.layer({name: b""})], architecture=name)
        for name in ("arm64", "amd64")
    }
    index = {
        "schemaVersion": 2,
        "manifests": [
            {"digest": digest, "size": 1, "platform": {"os": "linux", "architecture": name}}
            for name, digest in images.items()
        ],
    }
    digest = base_layout.named(json.dumps(index).encode(), INDEX_TYPE, "both")
    found = described(digest, fetch_options)
    assert found.manifest_digest == images["amd64"]
    assert len(found.documents) == 3
    del index["manifests"][1]  # type: ignore[attr-defined]
    digest = base_layout.named(json.dumps(index).encode(), INDEX_TYPE, "other")
    with pytest.raises(MatrixError, match="for linux/arm64, not for linux/amd64"):
        described(digest, fetch_options)


def test_dockers_names_of_layers_become_ocis(
    base_layout: Layout, fetch_options: FetchOptions
) -> None:
    descriptor, diff_id = base_layout.layer(FIT)
    kind = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    found = described(
        base_layout.image([({**descriptor, "mediaType": kind}, diff_id)]), fetch_options
    )
    assert [blob.media_type for blob in found.blobs] == [GZIP]


@pytest.mark.parametrize("history", [None, [], [{"created_by": "x"}] * 3])
def test_history_that_does_not_describe_all_layers_is_made_up(
    base_layout: Layout, fetch_options: FetchOptions, history: list[dict[str, Any]] | None
) -> None:
    layers = [base_layout.layer({"a": b""}), base_layout.layer({"b": b""})]
    assert len(described(base_layout.image(layers, history=history), fetch_options).history) == 2


def test_what_is_no_image_is_reported(base_layout: Layout, fetch_options: FetchOptions) -> None:
    digest = base_layout.named(b'{"layers": 7}', MANIFEST_TYPE, "x")
    with pytest.raises(IntegrityError, match="not an OCI or Docker image"):
        described(digest, fetch_options)
