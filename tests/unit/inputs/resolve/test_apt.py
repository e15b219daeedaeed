"""The login of a Debian mirror, as apt gets it: used, neither shown nor readable by others."""

from __future__ import annotations

import base64
import shutil
import tempfile
from pathlib import Path

import pytest

from images.errors import ToolError, UsageError
from images.inputs.fetch import mirror
from images.inputs.fetch.mirror import Mirror
from images.inputs.lock.deb import Suite
from images.inputs.resolve import apt
from tests.unit.fake_debs import GCC
from tests.unit.servers import Answer, Asked, serving

LOGIN = "me:s3cr3t-p%40ss"


@pytest.mark.skipif(
    not (shutil.which("apt-get") and apt.KEYRING.is_file()),
    reason="no apt or no keys of Debian: apt-get install debian-archive-keyring",
)
def test_login_of_a_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    tmp_path.chmod(0o755)
    readable: set[str] = set()

    def answer(_: Asked) -> Answer:
        for path in tmp_path.rglob("*"):
            content = path.read_bytes() if path.is_file() else b""
            if b"s3cr3t" in content and path.stat().st_mode & 0o077:
                readable.add(path.name)
        return 403, {}, b""

    with serving(answer) as server:
        where = mirror.parse(server.url.replace("://", f"://{LOGIN}@") + "/debian")
        with pytest.raises(ToolError, match="cannot read the archives' indices") as error:
            apt.exactly([Suite("debian", "bookworm", "main")], {}, where)
    assert set(server.logins) == {"Basic " + base64.b64encode(b"me:s3cr3t-p@ss").decode()}
    assert readable == set()
    assert server.host in error.value.message
    assert "s3cr3t" not in f"{error.value.message}{error.value.remedy}"


def test_keys_that_are_too_old_are_named() -> None:
    """As apt says it on Ubuntu 22.04, whose package of Debian's keys is of 2021."""
    said = (
        "W: GPG error: http://a.example/debian bookworm InRelease: The following signatures "
        "couldn't be verified because the public key is not available: NO_PUBKEY F8D2585B8783D481"
    )
    assert "take debian-archive-keyring of Debian 12" in apt.remedy(said)
    assert "check the network" in apt.remedy("E: Failed to fetch http://a.example/debian")


def test_login_of_a_mirror_that_is_not_understood_is_not_shown() -> None:
    with pytest.raises(UsageError, match=r"host\.example/mirror") as error:
        mirror.parse(f"https://{LOGIN}@host.example/mirror")
    assert "s3cr3t" not in error.value.message


def test_packages_that_apt_would_replace_or_remove_are_read_from_its_simulation() -> None:
    text = (
        "Remv usrmerge [35]\n"
        "Inst perl-base [5.36.0-7] (5.36.0-7+deb12u4 Debian:12.14/oldstable [amd64])\n"
        "Inst perl (5.36.0-7+deb12u4 Debian:12.14/oldstable [amd64])\n"
        "Conf perl-base (5.36.0-7+deb12u4 Debian:12.14/oldstable [amd64])\n"
    )
    assert apt.replaced(text) == [
        ("usrmerge", "35", ""),
        ("perl-base", "5.36.0-7", "5.36.0-7+deb12u4"),
    ]


def test_temporary_directory_that_apts_settings_cannot_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / 'say "x"'
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    monkeypatch.setattr(apt, "KEYRING", Path(__file__))
    with pytest.raises(ToolError, match="double quote") as caught:
        apt.exactly((), {}, Mirror("http://a.example/debian", "http://a.example/security"))
    assert "TMPDIR" in (caught.value.remedy or "")
    assert not list(place.iterdir())


def test_a_stanza_of_the_index_becomes_a_record() -> None:
    stanza = (
        "Package: gcc-12\nVersion: 12.2.0-14+deb12u1\nDescription: C compiler\n Filename: no\n"
        f"Filename: {GCC.path}\nSize: 123\nSHA256: {'ab' * 32}"
    )
    assert apt.parse_stanza(stanza, "debian") == GCC
    assert apt.parse_stanza("", "debian") is None


def test_apts_choice_is_read_from_its_simulation() -> None:
    text = (
        "NOTE: This is only a simulation!\n"
        "Inst libc6 (2.36-9+deb12u14 Debian:12.14/oldstable [amd64])\n"
        "Inst tzdata (2026f-0+deb12u1 Debian-Security:12/oldstable-security [all]) []\n"
        "Conf libc6 (2.36-9+deb12u14 Debian:12.14/oldstable [amd64])\n"
    )
    assert apt.chosen(text) == [
        ("libc6", "2.36-9+deb12u14"),
        ("tzdata", "2026f-0+deb12u1"),
    ]
