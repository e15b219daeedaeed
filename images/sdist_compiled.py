"""An sdist with C sources to a wheel, built in the base's root file system.

There the compiler, its headers and its libraries are the image's own: those of the host would make
other bytes on other hosts. The build sees no network where the kernel permits that, no file of the
host, and nothing of its environment.
"""

from __future__ import annotations

import errno
import json
import os
import shlex
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from images import base, layout, lockfile, sdist, sha256
from images.deb import Deb
from images.errors import BuildError, StoreError, ToolError

FORMAT = "1"
"""Part of the key of every layer with such a wheel. Raise it when other wheels come out."""

_WORKER = Path(__file__).with_name("sdist_worker.py")
_INPUT = "sdist-build.tar"
_OUTPUT = "wheel.tar"
_LOG = "build.log"
_ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/build",
    "LC_ALL": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "SOURCE_DATE_EPOCH": "315532800",  # the first time that a zip can hold
    "TZ": "UTC0",
}
_ALONE = "alone=; unshare --net true 2>/dev/null && alone='unshare --net --'; "


def key(base_debs: Sequence[Deb]) -> str:
    """The digest of all that such a build depends on, but for the sdist and what it imports."""
    worker = sha256.of_file(_WORKER)
    return lockfile.digest_of({"base": base.key(base_debs), "format": FORMAT, "worker": worker})


def build(
    archive: Path,
    requirements: Sequence[Path],
    base_debs: Sequence[Deb],
    cache: Path,
    workdir: Path,
) -> Path:
    """Build the wheel of an sdist by the image's own compiler; gives its path.

    Args:
        archive: the `.tar.gz`.
        requirements: wheels that the build may import.
        base_debs: the locked base; all of it is in `cache`.
        cache: the download cache.
        workdir: an empty directory for the build; about 1 GB.

    Raises:
        IntegrityError: the sdist is not one.
        ToolError: the build failed; the message ends with its last lines.
        StoreError: the disk is full.
    """
    _pack(archive, requirements, workdir)
    base.change(base_debs, cache, workdir, _hooks)
    return _made(archive.name, workdir)


def _made(name: str, workdir: Path) -> Path:
    """The wheel that a build left.

    Raises:
        ToolError: it left none, or several.
        StoreError: the disk is full.
    """
    with tarfile.open(workdir / _OUTPUT) as tar:
        wheels = [member for member in tar if member.isfile() and member.name.endswith(".whl")]
        if not wheels:
            raise _failed(name, (workdir / _LOG).read_text(encoding="utf-8", errors="replace"))
        if len(wheels) > 1:
            raise ToolError(f"{name}: its build made {len(wheels)} wheels, not one")
        made = workdir / wheels[0].name.rpartition("/")[2]
        content = tar.extractfile(wheels[0])
        made.write_bytes(content.read() if content else b"")
    return made


def _failed(name: str, log: str) -> BuildError:
    message = f"{name}: its build failed:\n{sdist.tail(log)}"
    if os.strerror(errno.ENOSPC) in log:
        return StoreError(message, remedy="free some space on the disks of the store and of TMPDIR")
    return ToolError(
        message,
        remedy="see whether its `build:` requirements in the matrix are complete, and whether the "
        "base has the headers; the build has no network",
    )


def _pack(archive: Path, requirements: Sequence[Path], workdir: Path) -> None:
    """Put what the build sees into one tar, as mmdebstrap moves it into the root."""
    place = workdir / "input"
    source = sdist.unpacked(archive, place / "unpacked").rename(place / "source")
    for wheel in requirements:
        with zipfile.ZipFile(wheel) as zipped:
            zipped.extractall(place / "site")  # noqa: S202  # locked, and it drops `..` and roots
    (place / "site").mkdir(exist_ok=True)
    system = json.dumps(sdist.build_system(archive.name, source))
    (place / "system.json").write_text(system, encoding="utf-8")
    (place / "worker.py").write_bytes(_WORKER.read_bytes())
    with tarfile.open(workdir / _INPUT, "w") as tar:
        for name in ("source", "site", "system.json", "worker.py"):
            tar.add(place / name, name, filter=_anonymous)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """A file of root's with no time: a build may copy both into what it makes."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = int(_ENVIRONMENT["SOURCE_DATE_EPOCH"])
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member


def _hooks(place: Path) -> list[str]:
    python = f"/usr/bin/python{layout.PYTHON}"
    environment = " ".join(f"{name}={value}" for name, value in _ENVIRONMENT.items())
    inside = f'env -i {environment} chroot "$1" {python} -s -P -B /build/worker.py /build'
    return [
        'mkdir -m 755 "$1/build" "$1/build/wheel"',
        f"tar-in {shlex.quote(str(place / _INPUT))} /build",
        # A build that fails leaves no wheel, and says why in its log: the hook goes on.
        f'{_ALONE}$alone {inside} > "$1/build/{_LOG}" 2>&1 || rm -f "$1"/build/wheel/*',
        f'tar -C "$1/build/wheel" -cf "$1/build/{_OUTPUT}" .',
        *(f"download /build/{name} {shlex.quote(str(place / name))}" for name in (_OUTPUT, _LOG)),
    ]
