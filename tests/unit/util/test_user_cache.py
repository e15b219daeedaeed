"""The download cache that a user has without naming one."""

from __future__ import annotations

from pathlib import Path

import pytest

from images.util import user_cache


def test_cache_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROLL_IMAGES_CACHE", "/some/cache")
    assert user_cache.directory() == Path("/some/cache")


def test_user_without_a_home_has_a_cache_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """A uid without an entry in passwd: the build fails there, and its remedy names --cache."""

    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("ROLL_IMAGES_CACHE", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    assert user_cache.directory() == Path("/nonexistent/.cache/roll-images")
