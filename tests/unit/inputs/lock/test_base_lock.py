from __future__ import annotations

import pytest

from images.errors import LockError
from images.inputs.lock import base_lock


def test_the_lock_is_of_the_listed_packages() -> None:
    locked = {package.package for package in base_lock.read()}
    assert set(base_lock.packages()) <= locked
    assert {"dpkg", "libc6", "bash"} <= locked  # essential packages are locked, too
    assert not {"perl", "usrmerge", "systemd"} & locked


def test_each_package_has_its_reason() -> None:
    text = base_lock.PACKAGES.read_text()
    rows = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(rows) == len(base_lock.packages())
    for row in rows:
        assert row.partition("#")[2].strip(), row


def test_another_list_makes_the_lock_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_lock, "packages", lambda: ["gcc"])
    with pytest.raises(LockError, match="stale") as caught:
        base_lock.read()
    assert caught.value.remedy == "python build.py lock --base"


def test_neither_the_list_nor_the_lock_names_a_mirror() -> None:
    for path in (base_lock.PACKAGES, base_lock.PATH):
        assert "://" not in path.read_text(), path
