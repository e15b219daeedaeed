"""The image's Debian root file system: bookworm for amd64, from locked packages only.

mmdebstrap puts it together offline. Nothing of the host takes part: not its time, its user, its
umask, its locale, its apt or its mirror.
"""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from images import apt, deb, debfile, fetch, lockfile, rootfs
from images.deb import Deb
from images.entry import Entry
from images.errors import BuildError, StoreError, ToolError
from images.mirror import DEBIAN, SECURITY, Mirror

LOCK = Path(__file__).parent / "locks" / "base-bookworm.txt"
RENEW = "python build.py lock --base"

# The time that the base claims to be made at; any other constant would do. 2025-01-01 00:00 UTC.
EPOCH = 1735689600

FORMAT = "2"
"""Part of the base's key. Raise it when other bytes come out of the same inputs."""

_RECIPE = Path(__file__).parent / "recipe" / "base"
_SUITES = (
    apt.Suite(DEBIAN, "bookworm", "main"),
    apt.Suite(DEBIAN, "bookworm-updates", "main"),
    apt.Suite(SECURITY, "bookworm-security", "main"),
)
DISTRO = "debian-12"
"""The release of those suites, as package URLs name it."""

_INSTALL = "install it: apt-get install mmdebstrap uidmap"


def packages() -> list[str]:
    """The names in `recipe/base/packages.txt`."""
    lines = (_RECIPE / "packages.txt").read_text(encoding="utf-8").splitlines()
    names = (line.partition("#")[0].strip() for line in lines)
    return sorted(name for name in names if name)


def inputs_digest() -> str:
    """The digest of what chooses the packages, for the lock's seal; hexadecimal SHA-256."""
    suites = [[suite.archive, suite.name, suite.component] for suite in _SUITES]
    return lockfile.digest_of({"packages": packages(), "suites": suites})


def key(debs: Sequence[Deb]) -> str:
    """The digest of all that decides about the base's bytes; hexadecimal SHA-256."""
    recipe = {path.name: fetch.file_sha256(path) for path in sorted(_RECIPE.iterdir())}
    del recipe["packages.txt"]  # what it chose is in `debs`; its comments may change
    hashes = sorted(package.artifact.sha256 for package in debs)
    return lockfile.digest_of({"debs": hashes, "epoch": EPOCH, "format": FORMAT, "recipe": recipe})


def lock(mirror: Mirror) -> str:
    """The text of a fresh lock: the newest packages that the mirror has for the recipe.

    Raises:
        ToolError: apt, its keyring or the mirror's signed indices cannot be had.
        LockError: the packages of the recipe do not exist or do not fit together.
    """
    return deb.seal(apt.closure(_SUITES, packages(), mirror), inputs_digest())


def locked(path: Path = LOCK) -> list[Deb]:
    """The packages of the base, as its lock lists them.

    Raises:
        LockError: the lock is missing, stale or edited by hand.
    """
    return deb.read(path, inputs=inputs_digest(), remedy=RENEW)


def build(debs: Sequence[Deb], cache: Path, workdir: Path) -> Path:
    """Make the root file system.

    Args:
        debs: the locked packages; all of them are in `cache` already.
        cache: the download cache.
        workdir: a directory for what is made; about 700 MB.

    Returns:
        An uncompressed tar in `workdir`. Read it by `entries`.

    Raises:
        ToolError: mmdebstrap is missing or failed; the message ends with its last lines.
        IntegrityError: a cached file is not a .deb.
    """
    repository = workdir / "packages.tar"
    result = workdir / "base.tar"
    try:
        _write_repository(debs, cache, repository)
        _bootstrap(repository, result)
    finally:
        repository.unlink(missing_ok=True)
    return result


def entries(tar: Path) -> Iterator[Entry]:
    """The members of a tar that `build` made: sorted, parents first, without device nodes.

    Raises:
        IntegrityError: the tar is broken.
    """
    return rootfs.entries(tar)


def _write_repository(debs: Sequence[Deb], cache: Path, path: Path) -> None:
    """A tar of the packages and of a `Packages` index over them, readable by any user."""
    index: list[str] = []
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for package in sorted(debs):
            file = fetch.cached(package.artifact, cache)
            name = f"{package.package}.deb"
            index.append(
                f"{debfile.control(file)}Filename: ./{name}\n"
                f"Size: {package.artifact.size}\nSHA256: {package.artifact.sha256}\n"
            )
            with file.open("rb") as stream:
                _add(tar, name, stream, package.artifact.size)
        content = "\n".join(index).encode()
        _add(tar, "Packages", io.BytesIO(content), len(content))


def _add(tar: tarfile.TarFile, name: str, stream: IO[bytes], size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    tar.addfile(info, stream)


def _bootstrap(repository: Path, result: Path) -> None:
    log = result.with_suffix(".log")
    environment = {
        "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin",  # users lack chroot in theirs
        "HOME": "/",  # else dpkg would read the builder's ~/.dpkg.cfg
        "TMPDIR": os.environ.get("TMPDIR", "/tmp"),  # noqa: S108  # mmdebstrap's own default
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC0",
        "SOURCE_DATE_EPOCH": str(EPOCH),
    }
    try:
        with log.open("wb") as stream:
            done = subprocess.run(
                _command(repository, result),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                check=False,
                cwd="/",  # the unprivileged user may not be able to enter where we are
                umask=0o022,
            )
    except FileNotFoundError:
        raise ToolError("mmdebstrap: no such program", remedy=_INSTALL) from None
    if done.returncode != 0:
        raise _failed(done.returncode, log)


def _command(repository: Path, result: Path) -> list[str]:
    return [
        "mmdebstrap",
        f"--architectures={apt.ARCHITECTURE}",
        "--variant=essential",
        "--format=tar",
        '--setup-hook=mkdir -m 755 "$1/packages"',
        f"--setup-hook=tar-in {shlex.quote(str(repository.absolute()))} /packages",
        f"--setup-hook={_writing('dpkg.cfg', 'etc/dpkg/dpkg.cfg.d/roll-images')}",
        f"--setup-hook={_recipe('setup.sh')}",
        f"--extract-hook={_recipe('extract.sh')}",
        f"--customize-hook={_recipe('customize.sh')}",
        f"--customize-hook={_writing('sources.list', 'etc/apt/sources.list')}",
        "",
        str(result.absolute()),
        "deb [trusted=yes] copy:///packages ./",  # setup.sh puts the true path in its place
    ]


def _writing(name: str, path: str) -> str:
    """A hook that writes a file of the recipe into the new root.

    As text: the unprivileged user that mmdebstrap becomes may not be able to read the builder's
    files.
    """
    return f'printf %s {shlex.quote(_recipe(name))} > "$1/{path}"'


def _recipe(name: str) -> str:
    return (_RECIPE / name).read_text(encoding="utf-8")


def _failed(status: int, log: Path) -> BuildError:
    lines = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").splitlines()
    if any("No space left on device" in line for line in lines):
        return StoreError(
            "no space left on the disk while the base was put together (about 1 GB is needed)",
            remedy="free some space on the disks of the store and of TMPDIR, which may be set",
        )
    return ToolError(
        f"mmdebstrap failed with status {status}; the end of {log}:\n" + "\n".join(lines[-20:]),
        remedy="as an ordinary user it needs the package uidmap and a line for you in /etc/subuid "
        "and /etc/subgid; or run as root",
    )
