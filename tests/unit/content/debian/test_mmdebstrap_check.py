"""What is asked of a machine before a root file system is made on it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from images.content.debian import mmdebstrap_check
from images.errors import StoreError, ToolError
from tests.faults.disks import disk

# `user::rwx,group::rwx,other::---`, as `setfacl -d` writes it.
ACL = bytes.fromhex("02000000 01000700ffffffff 04000700ffffffff 20000000ffffffff")


def handing_down(place: Path) -> Path:
    try:
        os.setxattr(place, "system.posix_acl_default", ACL)
    except OSError as error:
        pytest.skip(f"no access control lists here: {error}")
    return place


@pytest.mark.parametrize("name", ["a b", "a%20b", "a#b", "a\\b", 'say "x"'])
def test_temporary_directory_that_apt_would_misread_is_refused(tmp_path: Path, name: str) -> None:
    place = tmp_path / name
    place.mkdir()
    with pytest.raises(ToolError, match="apt does not support") as caught:
        mmdebstrap_check.check_temporary(place)
    assert "TMPDIR" in (caught.value.remedy or "")


@pytest.mark.parametrize("name", ["plain", "a:b", "[x]", "it's", "$HOME", "文件"])
def test_other_temporary_directories_will_do(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    mmdebstrap_check.check_temporary(tmp_path / name)


def test_temporary_directory_where_nothing_may_run_is_refused(tmp_path: Path) -> None:
    with (
        disk(tmp_path / "disk", "size=2g,noexec") as place,
        pytest.raises(ToolError, match="noexec"),
    ):
        mmdebstrap_check.check_temporary(place)


def test_temporary_directory_without_room_is_refused(tmp_path: Path) -> None:
    with (
        disk(tmp_path / "disk", "size=64m") as place,
        pytest.raises(StoreError, match="needs 944 MB"),
    ):
        mmdebstrap_check.check_temporary(place)


def test_temporary_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be written"):
        mmdebstrap_check.check_temporary(tmp_path / "none")


def test_access_control_list_of_the_machines_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="access control list") as caught:
        mmdebstrap_check.check_temporary(handing_down(tmp_path))
    assert f"setfacl -k {tmp_path}" in (caught.value.remedy or "")


def test_directory_of_the_builders_own_hands_nothing_down(tmp_path: Path) -> None:
    handing_down(tmp_path).chmod(0o2700)
    mmdebstrap_check.make_plain(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "file").chmod(0o644)
    (tmp_path / "below").mkdir()
    assert tmp_path.stat().st_mode & 0o7777 == 0o700
    assert (tmp_path / "below").stat().st_mode & 0o2000 == 0
    assert os.listxattr(tmp_path / "below") == []


def test_user_without_a_range_of_ids_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("newuidmap", "newgidmap"):
        (programs / name).symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(programs))
    ids = tmp_path / "subuid"
    monkeypatch.setattr(mmdebstrap_check, "_IDS", (ids, ids))
    user = subprocess.run(["/usr/bin/id", "-un"], capture_output=True, text=True, check=True).stdout
    with pytest.raises(ToolError, match=f"{ids}: no line for {user.strip()}") as caught:
        mmdebstrap_check.check_user()
    assert "usermod --add-subuids" in (caught.value.remedy or "")
    ids.write_text(f"{os.geteuid()}:100000:65536\n")
    mmdebstrap_check.check_user()


def test_missing_uidmap_is_reported_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="newuidmap") as caught:
        mmdebstrap_check.check_user()
    assert "apt-get install uidmap" in (caught.value.remedy or "")
