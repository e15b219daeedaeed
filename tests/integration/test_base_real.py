"""The base from Debian's real packages: the same bytes for every builder, nothing of any of them.

Needs mmdebstrap, a Debian mirror (or a filled cache) and, for the unprivileged build, to be root
with uidmap installed. The cache is ROLL_IMAGES_CACHE, else ~/.cache/roll-images.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from images.content.debian import rootfs
from images.content.python import interpreter
from images.inputs.fetch import mirror
from images.inputs.lock import base_lock
from images.oci.layer import writer
from tests import chance
from tests.integration import ordinary
from tests.integration.conftest import CACHE

ROOT = Path(__file__).parent.parent.parent

pytestmark = [
    pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="needs mmdebstrap"),
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def tar(base_tar: Path) -> Path:
    """The base, and with it a full cache."""
    return base_tar


@pytest.fixture(scope="module")
def members(tar: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(tar) as archive:
        return {member.name.removeprefix("./").rstrip("/"): member for member in archive}


def read(tar: Path, name: str) -> str:
    found = {entry.path: entry for entry in rootfs.entries(tar)}
    with found[name].open() as stream:
        return stream.read().decode()


def diff_id(tar: Path) -> str:
    """The digest of the layer's files: the tar itself may differ by what is not taken over."""
    return writer.write(rootfs.entries(tar), io.BytesIO(), "gzip").diff_id


@pytest.mark.skipif(
    not chance.searching(),
    reason=f"{chance.LONG}=long: two minutes, and each run makes a flavour as an ordinary user",
)
def test_an_ordinary_user_makes_the_same_bytes(tar: Path) -> None:
    debs = base_lock.read()
    script = (
        "from pathlib import Path\nfrom images.content.debian import rootfs as base\n"
        "from images.inputs.lock import base_lock\n"
        "base.build(base_lock.read(), Path('cache').absolute(), Path('work').absolute())"
    )
    with ordinary.user() as name:
        work = ordinary.run(name, debs, CACHE, script)
        assert diff_id(work / "base.tar") == diff_id(tar)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, as which mmdebstrap mounts")
def test_killed_while_it_has_mounts_it_leaves_none(
    tar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it leaves is in its directory, with nothing of the host below it."""
    work, temporary = tmp_path / "work", tmp_path / "tmp"
    work.mkdir()
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    script = (
        "import sys; from pathlib import Path; from images.content.debian import rootfs as base\n"
        "from images.inputs.lock import base_lock\n"
        "base.build(base_lock.read(), Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(CACHE), str(work)], cwd=ROOT, start_new_session=True
    ) as build:
        while build.poll() is None and not mounted(build.pid):
            time.sleep(0.1)
        assert build.poll() is None
        os.killpg(build.pid, signal.SIGKILL)
    mounts = Path("/proc/self/mounts").read_text()
    assert str(tmp_path) not in mounts
    assert "/mnt/mmdebstrap." not in mounts
    assert not list(temporary.iterdir())
    (left,) = work.glob("mmdebstrap.*")
    assert (left / "usr").is_dir()
    assert not list((left / "proc").iterdir())
    shutil.rmtree(work)


def mounted(session: int) -> bool:
    """Whether a process of a session sees the new root's /proc."""
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.getsid(int(place.name)) == session:
                lines = (place / "mounts").read_text().splitlines()
                if any(re.match(r"\S+ /mnt/mmdebstrap\.\S+/proc ", line) for line in lines):
                    return True
    return False


def test_nothing_of_the_builder_is_left(tar: Path, members: dict[str, tarfile.TarInfo]) -> None:
    for absent in ("etc/resolv.conf", "etc/hostname", "packages", "var/lib/dpkg/status-old"):
        assert absent not in members
    files = {name for name, member in members.items() if member.isfile()}
    assert not [name for name in files if name.startswith(("var/log/", "tmp/", "usr/share/man/"))]
    leftovers = [name for name in files if name.startswith(("var/cache/", "var/lib/apt/lists/"))]
    # mmdebstrap makes apt's lock files anew; they are empty.
    assert not [name for name in leftovers if members[name].size]
    lines = read(tar, "etc/apt/sources.list").splitlines()
    assert lines
    assert all(line.startswith("#") for line in lines)


def test_no_file_names_a_mirror_or_a_path_of_the_build(tar: Path) -> None:
    where = mirror.find()
    hosts = {str(urlsplit(url).hostname).encode() for url in (where.debian, where.security)}
    traces = re.compile(b"|".join(map(re.escape, [*hosts, b"mmdebstrap.", b"roll-images-"])))
    hits = []
    for entry in rootfs.entries(tar):
        if entry.kind == "file" and not entry.path.startswith("usr/share/doc/"):
            with entry.open() as stream:
                if found := traces.search(stream.read()):
                    hits.append((entry.path, found.group()))
    assert not hits


def test_accounts_and_writable_places(tar: Path, members: dict[str, tarfile.TarInfo]) -> None:
    assert "roll:x:1000:1000:" in read(tar, "etc/passwd")
    assert members["tmp"].mode == 0o1777
    assert members["home/roll"].mode == 0o1777
    assert (members["home/roll"].uid, members["home/roll"].gid) == (1000, 0)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root for chroot")
def test_it_works_in_a_plain_chroot(tar: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    subprocess.run(["tar", "-xpf", tar, "-C", root, "--numeric-owner"], check=True)
    (root / "tmp" / "x.c").write_text("#include <Python.h>\n#include <omp.h>\nint x;\n")
    script = (
        "set -e; cd /tmp; gcc -c x.c -I/usr/include/python3.11 -fopenmp -o x.o; ninja --version;"
        'python3 -c \'import ssl, sqlite3, ctypes, lzma; ctypes.CDLL("libibverbs.so.1");'
        'ctypes.CDLL("libnuma.so.1"); ctypes.CDLL("librdmacm.so.1")\';'
        "TZ=Asia/Shanghai date +%Z | grep -q CST; command -v ps; ip -V; curl --version >/dev/null;"
        'test -z "$(dpkg --audit)"; g++ --version | head -1'
    )
    for user in ("0:0", "1000:1000", "12345:0", "12345:54321"):
        (root / "tmp" / "x.o").unlink(missing_ok=True)
        command = ["chroot", f"--userspec={user}", "--groups=", str(root), "sh", "-c", script]
        done = subprocess.run(
            command,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/home/roll"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (user, done.stdout, done.stderr)
        write = [*command[:-1], 'touch "$HOME/$(id -u)-$(id -g)"']
        home = {"PATH": "/usr/sbin:/usr/bin:/bin", "HOME": "/home/roll"}
        subprocess.run(write, env=home, check=True)
    shutil.rmtree(root)


def test_the_interpreter_is_whole_and_uses_no_library_of_the_hosts(tar: Path) -> None:
    python = interpreter.extracted(base_lock.read(), CACHE)
    script = (
        "import glob, importlib, os, sys\n"
        "for path in glob.glob(f'{sys.prefix}/lib/python3.11/lib-dynload/*.so'):\n"
        "    importlib.import_module(os.path.basename(path).split('.')[0])\n"
        "import bz2, ctypes, hashlib, lzma, sqlite3, ssl, zlib\n"
        "maps = {line.split()[-1] for line in open('/proc/self/maps') if '.so' in line}\n"
        "assert all(path.startswith(sys.prefix) for path in maps), maps\n"
        "print(sys.version.split()[0])\n"
    )
    done = subprocess.run(
        [*python.command, "-W", "ignore", "-c", script],
        env=python.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, python.version), done.stderr
