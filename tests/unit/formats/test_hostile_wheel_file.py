"""Wheels that would fill memory or disk, or that no image can hold: the reader refuses each."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from images.errors import IntegrityError
from images.formats import wheel_file
from tests.unit.wheels import repeated, write_wheel


def many_files(place: Path) -> Path:
    path = write_wheel(place, {"one/data": b""}, name="one")
    return repeated(path, "one/data", 100_000)


def bomb(place: Path) -> Path:
    """No file is suspicious; together they are 1,000 times the wheel."""
    return write_wheel(place, {f"one/{number}": bytes(30 << 20) for number in range(4)}, name="one")


def large_source(place: Path) -> Path:
    return write_wheel(place, {"one/large.py": b"#" * (65 << 20)}, name="one")


def hidden_bomb(place: Path) -> Path:
    """The zip's directory has 10 bytes, and 60 MB are unpacked."""
    content = bytes(60 << 20)
    path = write_wheel(place, {"one/data": content}, name="one")
    raw = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        at = raw.index(b"one/data", archive.start_dir) - 46 + 24
    assert int.from_bytes(raw[at : at + 4], "little") == len(content)
    raw[at : at + 4] = (10).to_bytes(4, "little")
    path.write_bytes(raw)
    return path


def overlapping(place: Path) -> Path:
    """Many names for the same compressed bytes, as in Fifield's bomb."""
    path = write_wheel(place, {"one/data": bytes(20 << 20)}, name="one")
    return repeated(path, "one/data", 20)


def read(path: Path) -> None:
    with wheel_file.opened(path) as wheel:
        for entry in wheel_file.entries(wheel):
            with entry.open() as stream:
                while stream.read(1 << 16):
                    pass


def case_collision(place: Path) -> Path:
    return write_wheel(place, {"one/data": b"", "one/DATA": b""}, name="one")


def block_device(place: Path) -> Path:
    modes = {"one/device": stat.S_IFBLK | 0o777}
    return write_wheel(place, {"one/device": b""}, name="one", modes=modes)


HOSTILE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "block device": (block_device, "a link or device"),
    "upper and lower case": (case_collision, "upper and lower case alone"),
    "100,000 files": (many_files, "files; 50000 are the limit"),
    "zip bomb": (bomb, "a zip bomb"),
    "large source": (large_source, "limit of a source"),
    "hidden bomb": (hidden_bomb, "more than its 10 bytes"),
    "overlapping bomb": (overlapping, "a zip bomb"),
}


@pytest.mark.parametrize(("make", "reported"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_wheel_is_refused(
    tmp_path: Path, make: Callable[[Path], Path], reported: str
) -> None:
    path = make(tmp_path)
    with pytest.raises(IntegrityError, match=reported) as error:
        read(path)
    assert error.value.message.startswith(path.name)
