from __future__ import annotations

import gzip
import lzma
import random
from pathlib import Path

import pytest

from images.errors import IntegrityError
from images.formats import deb_file
from tests.unit.fake_debs import ar_of, deb_of, tar_of


def test_a_package_is_read_without_dpkg(tmp_path: Path) -> None:
    path = tmp_path / "x.deb"
    path.write_bytes(deb_of("hello", {"usr/bin/hello": b"run"}, {"usr/bin/hi": "hello"}))
    assert deb_file.control(path).splitlines()[0] == "Package: hello"
    found = [(member.name, content()) for member, content in deb_file.members(path)]
    assert found == [("usr/bin/hello", b"run"), ("usr/bin/hi", b"")]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"!<arch>\n",
        ar_of({"debian-binary": b"2.0\n", "data.tar.xz": b"not xz"}),
        ar_of({"debian-binary": b"2.0\n", "data.tar.lzo": b""}),
        deb_of("hello", {"usr/bin/hello": b"run" * 100})[:-40],
    ],
)
def test_a_broken_package_is_an_integrity_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.deb"
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"not a \.deb"):
        list(deb_file.members(path))


@pytest.mark.parametrize("suffix", [".gz", ".xz", ""])
def test_a_file_that_breaks_off_is_an_integrity_error(tmp_path: Path, suffix: str) -> None:
    data = tar_of({"usr/bin/hello": random.Random(0).randbytes(50_000)})
    packed = {".gz": gzip.compress(data), ".xz": lzma.compress(data), "": data}[suffix]
    path = tmp_path / "x.deb"
    path.write_bytes(ar_of({"debian-binary": b"2.0\n", f"data.tar{suffix}": packed})[:-20_000])
    found = deb_file.members(path)
    _, content = next(found)
    with pytest.raises(IntegrityError, match=r"not a \.deb"):
        content()
