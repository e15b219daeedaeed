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
    layout: Layout, options: FetchOptions, store: Store, tmp_path: Path
) -> None:
    digest = layout.image([layout.layer(FIT)])
    survey, _ = ready(digest, options, store)
    (kept,) = options.cache.glob("*/facts-*.json")
    kept.write_text(kept.read_text().replace(survey.facts.python, "/opt/evil/python"))
    assert ready(digest, options, store)[0].facts == survey.facts
    assert ready(digest, options, open_store(tmp_path / "other"))[0].facts == survey.facts


def test_tar_that_is_not_the_configs_is_reported(
    layout: Layout, options: FetchOptions, store: Store
) -> None:
    descriptor, _ = layout.layer(FIT)
    with pytest.raises(IntegrityError, match="its tar is not the"):
        ready(layout.image([(descriptor, f"sha256:{'0' * 64}")]), options, store)


def test_gzip_of_several_members_is_read_to_its_end(
    layout: Layout, options: FetchOptions, store: Store
) -> None:
    tar = tar_of(FIT)
    middle = len(tar) // 2
    packed = gzip.compress(tar[:middle]) + gzip.compress(tar[middle:])
    descriptor = {**layout.put(packed), "mediaType": GZIP}
    survey, _ = ready(layout.image([(descriptor, digest_of(tar))]), options, store)
    assert [layer.blob.unpacked for layer in survey.layers] == [len(tar)]


def test_layers_go_into_the_store_whole(
    layout: Layout, options: FetchOptions, store: Store
) -> None:
    digest = layout.image([layout.layer(FIT)])
    survey, _ = ready(digest, options, store)
    assert base_image_layers.put(survey.layers, options.cache, store) == [False]
    assert base_image_layers.put(survey.layers, options.cache, store) == [True]
    assert verify(store) == []
    value = image.Image("t", survey.layers, {}, {}, "t", described(digest, options).history)
    store.save(value)
    assert store.load("t") == value
    assert gc(store).blobs == 0
