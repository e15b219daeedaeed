"""A store with images."""

from __future__ import annotations

import pytest

from images.oci.store.store import Store
from tests.unit.stores import add, image_of


@pytest.fixture
def full(store: Store) -> Store:
    """A store with two images on three layers."""
    base, one, two = (add(store, content) for content in (b"base", b"one", b"two"))
    store.save(image_of("first", base, one))
    store.save(image_of("second", base, two))
    return store
