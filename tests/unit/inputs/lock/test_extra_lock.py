from __future__ import annotations

from pathlib import Path

import pytest

from images.errors import LockError
from images.inputs.fetch.mirror import Mirror
from images.inputs.lock import base_lock, extra_lock
from images.inputs.lock.artifact import Artifact
from images.inputs.lock.deb import Deb, seal
from images.inputs.resolve import shared_locks
from images.util import atomic_file

NOWHERE = Mirror("http://127.0.0.1:9/debian", "http://127.0.0.1:9/debian-security")
BASE = base_lock.read()
GIT = Deb(
    "git", "2", "debian", "pool/main/g/git_2_amd64.deb", Artifact("git_2_amd64.deb", "ab" * 32, 9)
)
PACKAGES = ["git", "rsync"]


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "extra.txt"
    atomic_file.write_text(path, seal([GIT], extra_lock.inputs_digest(PACKAGES, BASE)))
    return path


def test_lock_is_read_whatever_the_order_of_the_names(lock: Path) -> None:
    assert extra_lock.read(lock, PACKAGES[::-1], BASE[::-1]) == [GIT]


@pytest.mark.parametrize(
    ("packages", "debs"), [(["git"], BASE), (PACKAGES, BASE[1:])], ids=["packages", "base"]
)
def test_another_list_and_another_base_make_the_lock_stale(
    lock: Path, packages: list[str], debs: list[Deb]
) -> None:
    with pytest.raises(LockError, match="stale") as caught:
        extra_lock.read(lock, packages, debs)
    # Not `lock --base`, which would renew the base of every image.
    assert caught.value.remedy == "python build.py lock"


def test_edited_and_missing_locks_are_refused(lock: Path) -> None:
    lock.write_text(lock.read_text().replace("git=2", "git=3"))
    with pytest.raises(LockError, match="edited by hand"):
        extra_lock.read(lock, PACKAGES, BASE)
    lock.unlink()
    with pytest.raises(LockError, match="no such lock"):
        extra_lock.read(lock, PACKAGES, BASE)


def test_packages_of_the_base_need_no_mirror(tmp_path: Path) -> None:
    text = shared_locks.of_packages(["iproute2", "curl"], BASE, NOWHERE, tmp_path)
    assert [line for line in text.splitlines() if not line.startswith("#")] == []
