"""mmdebstrap, run so that nothing of the host takes part and nothing of it stays on the host.

As root it mounts /proc, /sys and /dev below the new root. It gets a mount namespace of its own for
that where the kernel permits: the mounts end with its processes, also when they are killed. There
its files lie in the directory that the caller named, which goes with the caller's store.

Without that right (an ordinary user, for whom mmdebstrap makes namespaces itself; root in a plain
container, where it mounts nothing) its files lie in TMPDIR.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from images import apt
from images.errors import BuildError, StoreError, ToolError

REPOSITORY = "packages.tar"
RESULT = "base.tar"

_SYSTEM = ":/usr/sbin:/sbin"  # users lack chroot's place in their PATH
_INSTALL = "install it: apt-get install mmdebstrap uidmap"

# By this name apt and dpkg can work below any path, and apt's own user in a directory of root's.
_INSIDE = Path("/mnt")
_NAMESPACE = ("unshare", "--mount", "--")
_BIND = (
    f'mount --bind "$0" {_INSIDE}; mount -o remount,bind,dev,exec {_INSIDE}; chmod 755 {_INSIDE}; '
)
# A file system of the host's or of a network may refuse devices or owners.
_TRY = f"cd {_INSIDE}; mknod try c 1 3; chown 1:1 try; : > try; rm try"


@dataclass(frozen=True, slots=True)
class _Room:
    """Where mmdebstrap works.

    Attributes:
        prefix: the command that makes the room and runs mmdebstrap in it.
        place: the name of the caller's directory in it.
        temporary: the directory for the new root.
    """

    prefix: Sequence[str]
    place: Path
    temporary: str


def run(workdir: Path, recipe: Path, epoch: int) -> Path:
    """Make a root file system of the packages in `workdir`/packages.tar.

    Args:
        workdir: holds the packages; gets the log and, if it may be, the new root as well.
        recipe: the directory of the hooks.
        epoch: the time that every file gets; seconds since 1970.

    Returns:
        An uncompressed tar in `workdir`.

    Raises:
        ToolError: mmdebstrap is missing or failed; the message ends with its last lines.
        StoreError: a disk is full.
    """
    path = os.environ.get("PATH", "") + _SYSTEM
    if shutil.which("mmdebstrap", path=path) is None:
        raise ToolError("mmdebstrap: no such program", remedy=_INSTALL)
    workdir = workdir.absolute()
    room = _room(workdir, path)
    environment = {
        "PATH": path,
        "HOME": "/",  # else dpkg would read the builder's ~/.dpkg.cfg
        "TMPDIR": room.temporary,
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC0",
        "SOURCE_DATE_EPOCH": str(epoch),
    }
    log = workdir / "base.log"
    with log.open("wb") as stream:
        done = subprocess.run(
            [*room.prefix, *_command(room.place, recipe)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            check=False,
            cwd="/",  # the unprivileged user may not be able to enter where we are
            umask=0o022,
        )
    if done.returncode != 0:
        raise _failed(done.returncode, log)
    return workdir / RESULT


def _room(workdir: Path, path: str) -> _Room:
    elsewhere = os.environ.get("TMPDIR", "/tmp")  # noqa: S108  # mmdebstrap's own default
    if os.geteuid() != 0 or not _works([*_NAMESPACE, "true"], path):
        return _Room((), workdir, elsewhere)
    inside = [*_NAMESPACE, "sh", "-ec"]
    if not _works([*inside, _BIND + _TRY, str(workdir)], path):
        return _Room(_NAMESPACE, workdir, elsewhere)
    return _Room([*inside, f'{_BIND}exec "$@"', str(workdir)], _INSIDE, str(_INSIDE))


def _works(command: Sequence[str], path: str) -> bool:
    try:
        done = subprocess.run(
            command, env={"PATH": path}, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except FileNotFoundError:
        return False
    return done.returncode == 0


def _command(place: Path, recipe: Path) -> list[str]:
    def text(name: str) -> str:
        return (recipe / name).read_text(encoding="utf-8")

    return [
        "mmdebstrap",
        f"--architectures={apt.ARCHITECTURE}",
        "--variant=essential",
        "--format=tar",
        '--setup-hook=mkdir -m 755 "$1/packages"',
        f"--setup-hook=tar-in {shlex.quote(str(place / REPOSITORY))} /packages",
        f"--setup-hook={_writing(text('dpkg.cfg'), 'etc/dpkg/dpkg.cfg.d/roll-images')}",
        f"--setup-hook={text('setup.sh')}",
        f"--extract-hook={text('extract.sh')}",
        f"--customize-hook={text('customize.sh')}",
        f"--customize-hook={_writing(text('sources.list'), 'etc/apt/sources.list')}",
        "",
        str(place / RESULT),
        "deb [trusted=yes] copy:///packages ./",  # setup.sh puts the true path in its place
    ]


def _writing(content: str, path: str) -> str:
    """A hook that writes a file of the recipe into the new root.

    As text: the unprivileged user that mmdebstrap becomes may not be able to read the builder's
    files.
    """
    return f'printf %s {shlex.quote(content)} > "$1/{path}"'


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
