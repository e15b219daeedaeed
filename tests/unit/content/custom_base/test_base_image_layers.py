"""The layers of a custom base: read, kept, and put into a store."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from images.content.custom_base import base_image_layers
from images.errors import IntegrityError
from images.inputs.build_options import FetchOptions
from images.oci import image
from images.oci.descriptor import digest_of
from images.oci.store.maintenance import gc, verify
from images.oci.store.store import Store, open_store
from tests.unit.custom_bases import (
    described,
    ready,
)
from tests.unit.layouts import FIT, GZIP, Layout, tar_of


def test_what_a_download_cache_notes_of_a_base_decides_about_no_layer(
    base_layout: Layout, fetch_options: FetchOptions, store: Store, tmp_path: Path
) -> None:
    digest = base_layout.image([base_layout.layer(FIT)])
    survey, _ = ready(digest, fetch_options, store)
    (kept,) = fetch_options.cache.glob("*/facts-*.json")
    kept.write_text(kept.read_text().replace(survey.facts.python, "/opt/evil/python"))
    assert ready(digest, fetch_options, store)[0].facts == survey.facts
    assert ready(digest, fetch_options, open_store(tmp_path / "other"))[0].facts == survey.facts


def test_tar_that_is_not_the_configs_is_reported(
    base_layout: Layout, fetch_options: FetchOptions, store: Store
) -> None:
    descriptor, _ = base_layout.layer(FIT)
    with pytest.raises(IntegrityError, match="its tar is not the"):
        ready(base_layout.image([(descriptor, f"sha256:{'0' * 64}")]), fetch_options, store)


def test_gzip_of_several_members_is_read_to_its_end(
    base_layout: Layout, fetch_options: FetchOptions, store: Store
) -> None:
    tar = tar_of(FIT)
    middle = len(tar) // 2
    packed = gzip.compress(tar[:middle]) + gzip.compress(tar[middle:])
    descriptor = {**base_layout.put(packed), "mediaType": GZIP}
    survey, _ = ready(base_layout.image([(descriptor, digest_of(tar))]), fetch_options, store)
    assert [layer.blob.unpacked for layer in survey.layers] == [len(tar)]


def test_layers_go_into_the_store_whole(
    base_layout: Layout, fetch_options: FetchOptions, store: Store
) -> None:
    digest = base_layout.image([base_layout.layer(FIT)])
    survey, _ = ready(digest, fetch_options, store)
    assert base_image_layers.put(survey.layers, fetch_options.cache, store) == [False]
    assert base_image_layers.put(survey.layers, fetch_options.cache, store) == [True]
    assert verify(store) == []
    value = image.Image("t", survey.layers, {}, {}, "t", described(digest, fetch_options).history)
    store.save(value)
    assert store.load("t") == value
    assert gc(store).blobs == 0
