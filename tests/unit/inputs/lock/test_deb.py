from __future__ import annotations

import gzip
import lzma
import random
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from images.errors import FetchError, IntegrityError, LockError, ToolError, UsageError
from images.formats import deb_file
from images.inputs.lock import apt, deb, mirror
from images.inputs.lock.artifact import Artifact
from images.inputs.lock.deb import Deb
from images.inputs.lock.mirror import Mirror, Source
from tests.unit.fake_debs import ar_of, cached_deb, deb_of, tar_of

GCC = Deb(
    "gcc-12",
    "12.2.0-14+deb12u1",
    "debian",
    "pool/main/g/gcc-12/gcc-12_12.2.0-14+deb12u1_amd64.deb",
    Artifact("gcc-12_12.2.0-14+deb12u1_amd64.deb", "ab" * 32, 123),
)
SSL = Deb(
    "libssl3",
    "3.0.22-1~deb12u2",
    "debian-security",
    "pool/updates/main/o/openssl/libssl3_3.0.22-1~deb12u2_amd64.deb",
    Artifact("libssl3_3.0.22-1~deb12u2_amd64.deb", "cd" * 32, 45),
)


# -- locks ---------------------------------------------------------------------------------------


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


# -- mirrors -------------------------------------------------------------------------------------


def test_the_security_archive_lies_beside_the_one_that_was_named() -> None:
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
def test_a_setting_that_says_too_little_is_refused(setting: str) -> None:
    with pytest.raises(UsageError, match="cannot tell where"):
        mirror.parse(setting)


def test_the_hosts_sources_are_told_from_other_vendors() -> None:
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


DEFAULTS = """#!/bin/sh
# As mmdebstrap 1.4.3: of root it takes only the mode that root works in.
for option; do root=$last last=$option; done
case "$(id -u) $*" in
0*chrootless*) echo 'running chrootless mode as root might damage the host' >&2; exit 25 ;;
esac
mkdir -p "$last/etc/apt"
{
    echo 'deb http://a.example/debian bookworm main'
    echo 'deb http://a.example/debian-security bookworm-security main'
} > "$last/etc/apt/sources.list"
exit 25 # as without a network
"""


def test_mmdebstraps_default_is_known_to_root_and_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "mmdebstrap"
    program.write_text(DEFAULTS)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(mirror, "_host_codename", lambda: "")
    assert mirror.find() == Mirror("http://a.example/debian", "http://a.example/debian-security")


# -- downloads -----------------------------------------------------------------------------------


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def served(directory: Path) -> Iterator[str]:
    handler = partial(_Quiet, directory=str(directory))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def published(tmp_path: Path, package: str) -> Deb:
    """A package that a mirror in `tmp_path/www/debian` has."""
    found = cached_deb(tmp_path / "made", package, {"usr/share/x": b"x"})
    source = tmp_path / "made" / found.artifact.sha256 / found.artifact.filename
    place = tmp_path / "www" / "debian" / found.path
    place.parent.mkdir(parents=True)
    source.rename(place)
    return found


def test_packages_arrive_in_the_cache(tmp_path: Path) -> None:
    package = published(tmp_path, "hello")
    arrived: list[int] = []
    with served(tmp_path / "www") as address:
        where = mirror.parse(f"{address}/debian")
        cache = tmp_path / "cache"
        deb.download([package], where, cache, jobs=2, advance=arrived.append, renew="")
        # A second time nothing is asked for: the server could be gone.
    deb.download([package], where, cache, jobs=2, advance=arrived.append, renew="")
    assert sum(arrived) == package.artifact.size
    assert "hello" in deb_file.control(cache / package.artifact.sha256 / package.artifact.filename)


def test_what_the_mirror_dropped_is_named_with_the_ways_out(tmp_path: Path) -> None:
    package = published(tmp_path, "hello")
    with served(tmp_path / "www") as address:
        where = mirror.parse(f"{address}/debian")
        with pytest.raises(FetchError) as caught:
            deb.download(
                [GCC, package, SSL],
                where,
                tmp_path / "cache",
                jobs=2,
                advance=lambda _: None,
                renew="build.py lock --base",
            )
    assert "gcc-12=12.2.0-14+deb12u1" in caught.value.message
    assert "libssl3=3.0.22-1~deb12u2" in caught.value.message
    assert "hello" not in caught.value.message
    remedy = caught.value.remedy or ""
    for way_out in ("build.py lock --base", "--debian-mirror", str(tmp_path / "cache")):
        assert way_out in remedy


def test_a_url_keeps_what_versions_hold() -> None:
    where = Mirror("http://m.example/debian", "http://m.example/debian-security")
    assert deb.url(SSL, where) == f"http://m.example/debian-security/{SSL.path}"


# -- the file format -----------------------------------------------------------------------------


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


# -- apt -----------------------------------------------------------------------------------------


def test_a_stanza_of_the_index_becomes_a_record() -> None:
    stanza = (
        "Package: gcc-12\nVersion: 12.2.0-14+deb12u1\nDescription: C compiler\n Filename: no\n"
        f"Filename: {GCC.path}\nSize: 123\nSHA256: {'ab' * 32}"
    )
    assert apt._deb_of(stanza, "debian") == GCC
    assert apt._deb_of("", "debian") is None


def test_apts_choice_is_read_from_its_simulation() -> None:
    text = (
        "NOTE: This is only a simulation!\n"
        "Inst libc6 (2.36-9+deb12u14 Debian:12.14/oldstable [amd64])\n"
        "Inst tzdata (2026f-0+deb12u1 Debian-Security:12/oldstable-security [all]) []\n"
        "Conf libc6 (2.36-9+deb12u14 Debian:12.14/oldstable [amd64])\n"
    )
    assert apt._CHOSEN.findall(text) == [
        ("libc6", "2.36-9+deb12u14"),
        ("tzdata", "2026f-0+deb12u1"),
    ]
