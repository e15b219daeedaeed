from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

import pytest

from images.content.debian import extra_packages, extra_worker
from images.inputs.lock import base_lock
from images.inputs.lock.artifact import Artifact
from images.inputs.lock.deb import Deb

BASE = base_lock.read()
GIT = Deb(
    "git", "2", "debian", "pool/main/g/git_2_amd64.deb", Artifact("git_2_amd64.deb", "ab" * 32, 9)
)


# -- the key ---------------------------------------------------------------------------------------


def test_key_follows_base_packages_and_recipe(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = extra_packages.key(BASE, [GIT])
    assert extra_packages.key(BASE[::-1], [GIT]) == whole
    assert extra_packages.key(BASE[1:], [GIT]) != whole
    assert extra_packages.key(BASE, []) != whole
    for path in extra_packages.RECIPE.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(extra_packages, "RECIPE", tmp_path)
    assert extra_packages.key(BASE, [GIT]) == whole
    (tmp_path / "tidy.sh").write_text("true")
    assert extra_packages.key(BASE, [GIT]) != whole


# -- what differs ----------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "root"
    for directory in ("usr/bin", "usr/share", "proc", "dev"):
        (place / directory).mkdir(parents=True)
    (place / "usr/bin/old").write_text("old")
    (place / "bin").symlink_to("usr/bin")
    return place


def differing(root: Path, before: dict[str, extra_worker.Facts]) -> list[str]:
    return extra_worker.changed(before, extra_worker.state(str(root)))


def test_new_paths_come_with_the_directories_above_them(root: Path) -> None:
    before = extra_worker.state(str(root))
    (root / "usr/share/doc").mkdir()
    (root / "usr/share/doc/new").touch()
    found = ["usr", "usr/share", "usr/share/doc", "usr/share/doc/new"]
    assert differing(root, before) == found


def test_same_content_written_again_at_another_time_is_no_difference(root: Path) -> None:
    before = extra_worker.state(str(root))
    (root / "usr/bin/old").unlink()
    (root / "usr/bin/old").write_text("old")
    os.utime(root / "usr/bin/old", (0, 0))
    assert differing(root, before) == []


def test_content_mode_and_target_count(root: Path) -> None:
    before = extra_worker.state(str(root))
    (root / "usr/bin/old").write_text("new")
    (root / "usr/share").chmod(0o2775)
    (root / "bin").unlink()
    (root / "bin").symlink_to("/usr/bin")
    assert differing(root, before) == ["bin", "usr", "usr/bin", "usr/bin/old", "usr/share"]


def test_what_the_host_mounts_and_what_the_build_puts_there_is_not_looked_at(root: Path) -> None:
    before = extra_worker.state(str(root))
    (root / "extra").mkdir()
    for name in ("proc/1", "dev/null", "extra/worker.py"):
        (root / name).touch()
    assert differing(root, before) == []
    assert not {"proc", "dev", "extra"} & set(before)


def test_names_of_any_bytes_go_through(root: Path, tmp_path: Path) -> None:
    before = extra_worker.state(str(root))
    name = os.fsdecode(b"usr/share/\xff\n name")
    (root / name).touch()
    after = json.loads(json.dumps(extra_worker.state(str(root))))
    assert name in extra_worker.changed(before, after)


def test_hard_links_of_new_files_stay_links(root: Path, tmp_path: Path) -> None:
    before = extra_worker.state(str(root))
    (root / "usr/bin/one").write_text("same")
    (root / "usr/bin/two").hardlink_to(root / "usr/bin/one")
    found = extra_worker.changed(before, extra_worker.state(str(root)))
    extra_worker.save(str(root), found, str(tmp_path / "changes.tar"))
    with tarfile.open(tmp_path / "changes.tar") as tar:
        kinds = {member.name.removeprefix("./"): member.islnk() for member in tar}
    assert kinds == {"usr": False, "usr/bin": False, "usr/bin/one": False, "usr/bin/two": True}
