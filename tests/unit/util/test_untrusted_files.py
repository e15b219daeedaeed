"""Untrusted files, and untrusted text."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from images import errors, printable
from images.util import sha256, untrusted_files


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_a_file_is_read_to_its_limit_and_no_further(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"", b"1234567890"):
        path.write_bytes(content)
        assert untrusted_files.whole(path, 10) == content
    path.write_bytes(b"12345678901")
    with pytest.raises(OSError, match="larger than the limit of 10 bytes"):
        untrusted_files.whole(path, 10)


@pytest.mark.parametrize(
    "read", [untrusted_files.open_regular, sha256.of_file, untrusted_files.open_lock]
)
def test_pipes_and_devices_are_refused_at_once(read: object, pipe: Path, tmp_path: Path) -> None:
    assert callable(read)
    device = Path("/dev/zero")
    link = tmp_path / "link"
    link.symlink_to(device)
    for path in (pipe, device, link, tmp_path):
        with pytest.raises(OSError, match=r"not a regular file|symbolic links|directory"):
            read(path)


def test_a_lock_is_made_and_follows_no_link(tmp_path: Path) -> None:
    untrusted_files.open_lock(tmp_path / "lock").close()
    assert (tmp_path / "lock").is_file()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="link"):
        untrusted_files.open_lock(tmp_path / "link")
    assert not (tmp_path / "elsewhere").exists()


HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\u202eafter\udc80\u2028"


def test_what_a_terminal_obeys_is_shown_as_an_escape() -> None:
    shown = printable.line(f"a\n\t{HOSTILE}ü文")
    assert shown == ("a\\n\\t\\x1b]0;owned\\x07\\x1b[2J\\x9b31m\\r\\u202eafter\\udc80\\u2028ü文")
    assert printable.lines("a\n\tb\x1b") == "a\n\tb\\x1b"


def test_every_error_is_fit_for_a_terminal() -> None:
    found = errors.UsageError(f"no {HOSTILE}", remedy=f"do {HOSTILE}")
    for text in (str(found), found.message, found.remedy or ""):
        assert "\\x1b" in text
        assert not set("\x1b\x07\x9b\r\u202e\udc80") & set(text)
        text.encode()
