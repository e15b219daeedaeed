from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from images.errors import FetchError, IntegrityError
from images.inputs.fetch import download_cache
from images.inputs.lock.artifact import Artifact


def artifact_of(content: bytes) -> Artifact:
    return Artifact("demo-1.0-py3-none-any.whl", hashlib.sha256(content).hexdigest(), len(content))


def put(artifact: Artifact, cache: Path, content: bytes) -> Path:
    path = download_cache.cached(artifact, cache)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_missing_lists_each_absent_file_once_in_order(tmp_path: Path) -> None:
    one, two, three = (artifact_of(content) for content in (b"1", b"2", b"3"))
    put(two, tmp_path, b"2")
    assert download_cache.missing([three, one, two, three], tmp_path) == [three, one]


def test_rot_in_the_cache_is_found_and_the_remedy_works(tmp_path: Path) -> None:
    artifact = artifact_of(b"content")
    path = put(artifact, tmp_path, b"content")
    assert download_cache.checked(artifact, tmp_path) == path
    path.unlink()
    put(artifact, tmp_path, b"changed")
    assert download_cache.is_cached(artifact, tmp_path)  # by its size
    with pytest.raises(IntegrityError, match=r"SHA256 mismatch .* in the download cache") as error:
        download_cache.checked(artifact, tmp_path)
    assert (error.value.remedy or "").startswith(f"rm {path}")
    path.unlink()
    with pytest.raises(FetchError, match="cannot be read"):
        download_cache.checked(artifact, tmp_path)
    put(artifact, tmp_path, b"content")
    assert download_cache.checked(artifact, tmp_path) == path
