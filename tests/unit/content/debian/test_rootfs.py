from __future__ import annotations

import re
import stat
import tarfile
from pathlib import Path

import pytest

from images.content.debian import rootfs
from images.errors import IntegrityError
from images.inputs.fetch import download_cache
from images.inputs.lock import base_lock
from tests.unit.fake_debs import cached_deb

# -- the recipe ----------------------------------------------------------------------------------


def test_the_key_follows_packages_and_scripts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    debs = base_lock.read()
    whole = rootfs.key(debs)
    assert rootfs.key(debs[::-1]) == whole
    assert rootfs.key(debs[1:]) != whole
    for path in rootfs.RECIPE.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(rootfs, "RECIPE", tmp_path)
    assert rootfs.key(debs) == whole
    (tmp_path / "install.sh").write_text("true")
    assert rootfs.key(debs) != whole


def test_no_recipe_names_a_mirror() -> None:
    for path in rootfs.RECIPE.iterdir():
        assert not re.search("https?://", path.read_text()), path


def test_recipe_scripts_need_no_executable_bit() -> None:
    # They are handed over as text, so a checkout's modes do not matter.
    for path in rootfs.RECIPE.glob("*.sh"):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o111
        assert not path.read_text().startswith("#!")


# -- the packages ---------------------------------------------------------------------------------


def test_the_offline_repository_lists_each_package(tmp_path: Path) -> None:
    package = cached_deb(tmp_path / "cache", "hello", {})
    rootfs.write_repository([package], tmp_path / "cache", tmp_path / "packages.tar")
    with tarfile.open(tmp_path / "packages.tar") as tar:
        assert tar.getnames() == ["hello.deb", "Packages"]
        assert {member.mode for member in tar} == {0o644}
        index = tar.extractfile("Packages")
        assert index is not None
        text = index.read().decode()
    assert text.startswith("Package: hello\n")
    assert f"SHA256: {package.artifact.sha256}" in text


def test_package_that_rotted_in_the_cache_is_refused_before_its_scripts_run(tmp_path: Path) -> None:
    package = cached_deb(tmp_path / "cache", "hello", {})
    path = download_cache.cached(package.artifact, tmp_path / "cache")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.unlink()
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match="SHA256 mismatch"):
        rootfs.write_repository([package], tmp_path / "cache", tmp_path / "packages.tar")
