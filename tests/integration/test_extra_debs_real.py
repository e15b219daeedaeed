"""The layer of packages above the base, by a real mmdebstrap and dpkg; a lock by a real apt.

The base is cut down to what the work needs, so that a bootstrap takes seconds; the packages are
odd ones, made here. Needs what `test_base_real.py` needs.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from images.content.debian import extra_packages
from images.errors import IntegrityError, LockError, ToolError
from images.formats import deb_file
from images.inputs.fetch import deb_files, download_cache, mirror
from images.inputs.lock import base_lock, deb
from images.inputs.lock.deb import Deb
from images.inputs.resolve import shared_locks
from images.oci.layer import writer
from images.oci.layer.entry import Entry
from tests.integration import ordinary
from tests.integration.conftest import CACHE, need_bookworms_keys
from tests.unit.fake_debs import cached_deb

pytestmark = [
    pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="needs mmdebstrap"),
    pytest.mark.timeout(900),
]

ROOTS = ("python3.11", "adduser", "passwd", "usr-is-merged")

# All that a layer has to keep or to leave out.
ODD = """
adduser --quiet --system --no-create-home --group --home /run/odd odd
chown odd:odd /usr/share/odd/owned
chmod 4750 /usr/bin/odd
mknod /usr/share/odd/device c 1 3 || test -e /proc/self/uid_map  # not for an ordinary user
chmod 2775 /usr/local/lib
mkdir -p /var/lib/odd /etc/ssh
echo $$ > /var/log/odd.log; echo $$ > /var/cache/odd; echo $$ > /run/odd; echo $$ > /tmp/odd
echo $$ > /etc/machine-id; echo $$ > /etc/ssh/ssh_host_rsa_key
ln -s odd /usr/bin/odder; ln /usr/bin/odd /usr/bin/oddest
update-alternatives --install /usr/bin/choice choice /usr/bin/odd 10
if setcap cap_net_raw+ep /usr/bin/odd; then exit 9; fi
invoke-rc.d odd start
"""
FILES = {
    "usr/bin/odd": b"#!/bin/sh\n",
    **dict.fromkeys(("usr/share/odd/", "usr/share/doc/odd/", "usr/lib/python3/"), b""),
    "usr/lib/python3/dist-packages/": b"",
    "usr/share/odd/owned": b"",
    "usr/share/doc/odd/README": b"left out",
    "usr/lib/python3/dist-packages/odd.py": b"x = 1\n",
    "etc/init.d/odd": b"#!/bin/sh\ntouch /usr/share/odd/started\n",
}


@pytest.fixture(scope="module")
def small_base() -> list[Deb]:
    """The essential packages and what the worker and the scripts need."""
    debs = base_lock.read()
    if download_cache.missing([package.artifact for package in debs], CACHE):
        deb_files.download(debs, mirror.find(), CACHE)
    texts = {
        item.package: deb_file.control(download_cache.cached(item.artifact, CACHE)) for item in debs
    }
    providers = {name: name for name in texts}
    for name, text in texts.items():
        providers |= dict.fromkeys(names_in(text, "Provides"), name)
    waiting = [*ROOTS, *(name for name, text in texts.items() if "\nEssential: yes" in text)]
    wanted: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            needed = names_in(texts[name], "Depends") | names_in(texts[name], "Pre-Depends")
            waiting += sorted(providers[item] for item in needed if item in providers)
    return [item for item in debs if item.package in wanted]


def names_in(control: str, field: str) -> set[str]:
    """The names in a field of relations, without versions; of alternatives all."""
    (text,) = re.findall(rf"^{field}: (.*)$", control, re.MULTILINE) or [""]
    return set(re.findall(r"[a-z0-9][a-z0-9+.-]+", re.sub(r"\(.*?\)", "", text)))


@pytest.fixture
def cache(tmp_path: Path, small_base: Sequence[Deb]) -> Path:
    """A download cache of the test's own, with the base in it."""
    for item in small_base:
        (tmp_path / "cache" / item.artifact.sha256).mkdir(parents=True)
        copy = download_cache.cached(item.artifact, tmp_path / "cache")
        copy.symlink_to(download_cache.cached(item.artifact, CACHE))
    return tmp_path / "cache"


def made(debs: Sequence[Deb], extra: Deb, cache: Path, place: Path) -> dict[str, Entry]:
    place.mkdir()
    return {item.path: item for item in extra_packages.entries(debs, [extra], cache, place)}


def read(entry: Entry) -> str:
    with entry.open() as stream:
        return stream.read().decode()


def test_layer_of_an_odd_package(small_base: list[Deb], cache: Path, tmp_path: Path) -> None:
    """And the same bytes for an ordinary user."""
    odd = cached_deb(cache, "odd", FILES, scripts={"postinst": ODD})
    found = made(small_base, odd, cache, tmp_path / "one")
    program, owned = found["usr/bin/odd"], found["usr/share/odd/owned"]
    assert (program.kind, program.mode) == ("file", 0o4750)
    assert (found["usr/bin/odder"].target, found["usr/bin/oddest"].target) == ("odd", "usr/bin/odd")
    assert found["etc/alternatives/choice"].target == "/usr/bin/odd"
    assert f"odd:x:{owned.uid}:{owned.gid}:" in read(found["etc/passwd"])
    assert "\nodd:!:20089:" in read(found["etc/shadow"])
    assert "Package: odd\nStatus: install ok installed\n" in read(found["var/lib/dpkg/status"])
    # Directories come as they are, also those of the base, and nothing else of the base comes.
    assert {found[path].mode for path in ("usr", "usr/local", "var/lib/odd")} == {0o755}
    assert found["usr/local/lib"].mode == 0o2775
    assert not {"bin", "etc/hostname", "usr/bin/dpkg", "tmp", "var/tmp"} & set(found)
    gone = ("cache", "log/", "dpkg/status-old", "machine-id", "ssh_host", "shadow-", "__pycache__")
    assert not [path for path in found if any(part in path for part in gone)]
    assert not [path for path in found if path.startswith(("run/", "tmp/", "packages", "extra"))]
    absent = ("usr/share/odd/device", "usr/share/odd/started", "usr/share/doc/odd/README")
    assert not set(absent) & set(found)

    names = sorted(item.package for item in small_base)
    script = (
        "from pathlib import Path\n"
        "from images.content.debian import extra_packages\n"
        "from images.inputs.lock import base_lock, deb\n"
        "from images.oci.layer import writer\n"
        "here = Path().absolute()\n"
        f"debs = [item for item in base_lock.read() if item.package in {names}]\n"
        f"extra = deb.parse_line({deb.line_of(odd)!r})\n"
        "entries = extra_packages.entries(debs, [extra], here / 'cache', here / 'work')\n"
        "with (here / 'work' / 'layer').open('wb') as out:\n"
        "    writer.write(entries, out, 'gzip')"
    )
    with (tmp_path / "layer").open("wb") as out:
        writer.write(found.values(), out, "gzip")
    with ordinary.user() as name:
        work = ordinary.run(name, [*small_base, odd], cache, script)
        assert digest(work / "layer") == digest(tmp_path / "layer")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_package_that_fails_is_named(small_base: list[Deb], cache: Path, tmp_path: Path) -> None:
    bad = cached_deb(cache, "bad", {}, scripts={"postinst": "echo so bad; exit 3"})
    with pytest.raises(ToolError, match="dpkg cannot install bad;") as caught:
        made(small_base, bad, cache, tmp_path / "one")
    assert "so bad" in caught.value.message
    assert "remove one that still fails" in (caught.value.remedy or "")


def test_files_of_the_base_stay(small_base: list[Deb], cache: Path, tmp_path: Path) -> None:
    thief = cached_deb(cache, "thief", {}, scripts={"postinst": "rm /usr/bin/yes; rm -rf /tmp/*"})
    with pytest.raises(IntegrityError, match=r"remove files of the base.*\n  usr/bin/yes$"):
        made(small_base, thief, cache, tmp_path / "one")
    assert os.path.lexists("/usr/bin/yes")


# -- locking ---------------------------------------------------------------------------------------


def test_lock_has_what_the_base_lacks_at_the_versions_that_fit() -> None:
    need_bookworms_keys()
    debs = base_lock.read()
    text = shared_locks.of_packages(["git", "curl"], debs, mirror.find(), CACHE)
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    found = {item.package: item for item in map(deb.parse_line, lines)}
    present = {item.package: item for item in debs}
    assert {"git", "perl"} <= set(found)
    assert not set(found) & set(present)
    assert found["perl"].version == present["perl-base"].version


def test_base_that_is_too_old_is_named_with_both_versions(tmp_path: Path) -> None:
    """perl needs perl-base of its own version; a newer one may be in the archive."""
    need_bookworms_keys()
    old = cached_deb(tmp_path, "perl-base", {}, version="5.36.0-1")
    debs = [old, *(item for item in base_lock.read() if item.package != "perl-base")]
    for item in debs[1:]:
        copy = download_cache.cached(item.artifact, tmp_path)
        copy.parent.mkdir()
        copy.symlink_to(download_cache.cached(item.artifact, CACHE))
    with pytest.raises(LockError, match=r"\n  perl-base: 5\.36\.0-1 -> 5\.36\.0-7") as caught:
        shared_locks.of_packages(["git"], debs, mirror.find(), tmp_path)
    assert caught.value.remedy == "python build.py lock --base"
