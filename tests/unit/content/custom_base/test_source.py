"""A custom base out of a layout, through the download cache."""

from __future__ import annotations

import dataclasses

import pytest

from images.errors import FetchError, IntegrityError
from images.inputs.build_options import FetchOptions
from images.oci.store.store import Store
from tests.unit.custom_bases import (
    ready,
)
from tests.unit.layouts import FIT, Layout


def test_damaged_layout_is_reported(
    base_layout: Layout, fetch_options: FetchOptions, store: Store
) -> None:
    descriptor, diff_id = base_layout.layer(FIT)
    digest = base_layout.image([(descriptor, diff_id)])
    path = base_layout.blob(descriptor["digest"])
    path.write_bytes(bytes(len(path.read_bytes())))
    with pytest.raises(IntegrityError, match="has other bytes"):
        ready(digest, fetch_options, store)
    path.unlink()
    with pytest.raises(FetchError, match="has no sha256:"):
        ready(digest, fetch_options, store)


def test_what_is_in_the_cache_is_not_asked_for(
    base_layout: Layout, fetch_options: FetchOptions, store: Store
) -> None:
    digest = base_layout.image([base_layout.layer(FIT), base_layout.layer({"a": b""})])
    first, _ = ready(digest, fetch_options, store)
    offline = dataclasses.replace(fetch_options, offline="python build.py fetch --all")
    base_layout.path.rename(base_layout.path.with_name("gone"))
    assert ready(digest, offline, store)[0] == first
    (path,) = fetch_options.cache.glob("*/manifest.json")
    path.unlink()
    with pytest.raises(FetchError) as caught:
        ready(digest, offline, store)
    assert "manifest sha256:" in caught.value.message
    assert caught.value.remedy == "where there is a network: python build.py fetch --all"
