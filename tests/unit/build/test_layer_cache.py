"""The shared caches that options name."""

from __future__ import annotations

import pytest

from images.build import layer_cache
from images.errors import UsageError
from images.oci.reference import Repository
from images.oci.store.remote_layers import Location


def test_a_cache_is_a_repository_without_a_tag() -> None:
    location = layer_cache.location("localhost:5000/a/b", plain_http=True)
    assert location == Location(Repository("localhost:5000", "a/b"), True)
    with pytest.raises(UsageError, match="has no tag") as error:
        layer_cache.location("localhost:5000/a/b:v1", plain_http=True)
    assert "localhost:5000/a/b" in str(error.value.remedy)
