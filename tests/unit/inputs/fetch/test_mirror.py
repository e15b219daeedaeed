from __future__ import annotations

from pathlib import Path

import pytest

from images.errors import UsageError
from images.inputs.fetch import mirror
from images.inputs.fetch.mirror import Mirror, Source


def test_the_security_archive_is_beside_the_one_that_was_named() -> None:
    found = mirror.parse("https://mirror.example/archive/debian/20250520T000000Z/")
    assert found.debian == "https://mirror.example/archive/debian/20250520T000000Z"
    assert found.security == "https://mirror.example/archive/debian-security/20250520T000000Z"
    assert found.chosen


def test_only_the_last_debian_directory_is_replaced() -> None:
    assert mirror.parse("http://h.example/debian/x/debian").security == (
        "http://h.example/debian/x/debian-security"
    )


def test_both_archives_can_be_named() -> None:
    found = mirror.parse("debian=http://a.example/d,debian-security=http://b.example/s/")
    assert (found.debian, found.security) == ("http://a.example/d", "http://b.example/s")


@pytest.mark.parametrize(
    "setting",
    ["mirror.example/debian", "https://mirror.example/d", "debian=http://a.example/d", "a=b"],
)
def test_an_incomplete_setting_is_refused(setting: str) -> None:
    with pytest.raises(UsageError, match="cannot tell where"):
        mirror.parse(setting)


def test_the_hosts_sources_are_distinguished_from_other_vendors() -> None:
    sources = [
        Source("https://vendor.example/", "bookworm", "main"),
        Source("http://m.example/debian/", "bookworm", "main"),
        Source("http://m.example/debian/", "bookworm-updates", "main"),
        Source("http://m.example/debian-security/", "bookworm-security", "main"),
        Source("http://docker.example/linux/debian", "bookworm", "stable"),
    ]
    found = mirror.of_sources(sources, "bookworm")
    assert found == Mirror("http://m.example/debian", "http://m.example/debian-security")
    assert mirror.of_sources(sources, "trixie") is None
    assert mirror.of_sources(sources[:3], "bookworm") is None


def test_a_list_of_mirrors_stands_for_its_first(tmp_path: Path) -> None:
    (tmp_path / "debian").write_text("http://a.example/debian\nhttp://b.example/debian\n")
    (tmp_path / "security").write_text("http://a.example/debian-security\n")
    sources = [
        Source(f"mirror+file:{tmp_path}/debian", "bookworm", "main"),
        Source(f"mirror+file:{tmp_path}/security", "bookworm-security", "main"),
    ]
    assert mirror.of_sources(sources, "bookworm") == Mirror(
        "http://a.example/debian", "http://a.example/debian-security"
    )


DEFAULTS = """#!/bin/sh
# As mmdebstrap 1.4.3: of root it takes only the mode that root works in.
for option; do root=$last last=$option; done
case "$(id -u) $*" in
0*chrootless*) echo 'running chrootless mode as root might damage the host' >&2; exit 25 ;;
esac
mkdir -p "$last/etc/apt"
{
    echo 'deb OPTIONS http://a.example/debian bookworm main'
    echo 'deb OPTIONS http://a.example/debian-security bookworm-security main'
} > "$last/etc/apt/sources.list"
exit 25 # as without a network
"""


@pytest.mark.parametrize(
    "options", ["", '[signed-by="/usr/share/keyrings/debian.gpg"]', "[ arch=amd64 trusted=yes ]"]
)
def test_mmdebstraps_default_is_known_to_root_and_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str
) -> None:
    """On Ubuntu it names Debian's keys in an option."""
    program = tmp_path / "mmdebstrap"
    program.write_text(DEFAULTS.replace("OPTIONS", options))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(mirror, "_host_codename", lambda: "")
    assert mirror.find() == Mirror("http://a.example/debian", "http://a.example/debian-security")
