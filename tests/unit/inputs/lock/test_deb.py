from __future__ import annotations

from pathlib import Path

import pytest

from images.errors import LockError
from images.inputs.lock import deb
from tests.unit.fake_debs import GCC, SSL


def test_a_line_survives_a_round_trip() -> None:
    for package in (GCC, SSL):
        assert deb.parse_line(deb.line_of(package)) == package


def test_a_line_names_the_archive_and_no_address() -> None:
    assert deb.line_of(SSL) == (
        f"libssl3=3.0.22-1~deb12u2 sha256:{'cd' * 32} 45 debian-security "
        "pool/updates/main/o/openssl/libssl3_3.0.22-1~deb12u2_amd64.deb"
    )


@pytest.mark.parametrize(
    "line",
    [
        "",
        "gcc-12=1 sha256:ab 1 debian pool/x.deb",  # a short hash
        deb.line_of(GCC).replace(" debian ", " elsewhere "),
        deb.line_of(GCC).replace("pool/", "http://host/pool/"),
        deb.line_of(GCC) + " more",
    ],
)
def test_other_lines_are_refused(line: str) -> None:
    with pytest.raises(ValueError, match="not a line of a lock"):
        deb.parse_line(line)


def test_a_lock_is_sorted_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "base.txt"
    path.write_text(deb.seal([SSL, GCC], "0" * 64))
    assert deb.read(path, inputs="0" * 64, remedy="") == [GCC, SSL]


def test_a_lock_of_other_inputs_is_stale(tmp_path: Path) -> None:
    path = tmp_path / "base.txt"
    path.write_text(deb.seal([GCC], "0" * 64))
    with pytest.raises(LockError, match="stale") as caught:
        deb.read(path, inputs="1" * 64, remedy="build.py lock --base")
    assert caught.value.remedy == "build.py lock --base"
