"""mmdebstrap, run so that nothing of the host takes part and nothing of it stays on the host.

As root it mounts /proc, /sys and /dev below the new root. It gets a mount namespace of its own for
that where the kernel permits: the mounts end with its processes, also when they are killed. There
its files lie in the directory that the caller named, which goes with the caller's store.

Without that right (an ordinary user, for whom mmdebstrap makes namespaces itself; root in a plain
container, where it mounts nothing) its files lie in TMPDIR.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from images.content.debian import mmdebstrap_check
from images.errors import BuildError, StoreError, ToolError
from images.inputs.resolve import apt

REPOSITORY = "packages.tar"
RESULT = "base.tar"

Hooks = Callable[[Path], Sequence[str]]
"""Makes hooks of mmdebstrap that run in the finished root.

It is given the name that the caller's directory has for what `tar-in` and `download` move.
"""

# By this name apt and dpkg can work below any path, and apt's own user in a directory of root's.
_INSIDE = Path("/mnt")
_NAMESPACE = ("unshare", "--mount", "--")
_BIND = (
    f'mount --bind "$0" {_INSIDE}; mount -o remount,bind,dev,exec {_INSIDE}; chmod 755 {_INSIDE}; '
)
# A file system of the host's or of a network may refuse devices or owners.
_TRY = f"cd {_INSIDE}; mknod try c 1 3; chown 1:1 try; : > try; rm try"

# How dpkg ends when packages fail: their names, or their files when they cannot be unpacked.
_REFUSED = re.compile(r"Errors were encountered while processing:\n((?: \S+\n)+)")


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
    _start(workdir.absolute(), recipe, epoch, None)
    return workdir / RESULT


def change(workdir: Path, recipe: Path, epoch: int, hooks: Hooks) -> None:
    """Make the root file system that `run` makes and run hooks in it; only what they save is kept.

    Args:
        workdir: as for `run`.
        recipe: as for `run`.
        epoch: as for `run`.
        hooks: what is to be done in the root.

    Raises:
        ToolError, StoreError: as `run`.
    """
    _start(workdir.absolute(), recipe, epoch, hooks)


def check() -> None:
    """See that this machine and user can make a root file system, before anything is done for it.

    Raises:
        ToolError: a program, a range of ids or a fit directory for temporary files is missing.
        StoreError: TMPDIR has too little room.
    """
    mmdebstrap_check.check_program()
    if os.geteuid() != 0:
        mmdebstrap_check.check_user()
    if not _mounts(mmdebstrap_check.search_path()):
        mmdebstrap_check.check_temporary(mmdebstrap_check.temporary())


def _start(workdir: Path, recipe: Path, epoch: int, hooks: Hooks | None) -> None:
    mmdebstrap_check.check_program()
    mmdebstrap_check.make_plain(workdir)
    path = mmdebstrap_check.search_path()
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
            [*room.prefix, *_command(room.place, recipe, hooks)],
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


def _room(workdir: Path, path: str) -> _Room:
    elsewhere = str(mmdebstrap_check.temporary())
    if not _mounts(path):
        return _Room((), workdir, elsewhere)
    inside = [*_NAMESPACE, "sh", "-ec"]
    if not _works([*inside, _BIND + _TRY, str(workdir)], path):
        return _Room(_NAMESPACE, workdir, elsewhere)
    return _Room([*inside, f'{_BIND}exec "$@"', str(workdir)], _INSIDE, str(_INSIDE))


def _mounts(path: str) -> bool:
    """Whether mmdebstrap can get mounts of its own: it may then work with the caller's files."""
    return os.geteuid() == 0 and _works([*_NAMESPACE, "true"], path)


def _works(command: Sequence[str], path: str) -> bool:
    try:
        done = subprocess.run(
            command, env={"PATH": path}, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except FileNotFoundError:
        return False
    return done.returncode == 0


def _command(place: Path, recipe: Path, hooks: Hooks | None) -> list[str]:
    def text(name: str) -> str:
        return (recipe / name).read_text(encoding="utf-8")

    later = [f"--customize-hook={hook}" for hook in hooks(place)] if hooks else []
    return [
        "mmdebstrap",
        # Left to itself it would take fakechroot where that is installed and ids are missing.
        f"--mode={'unshare' if os.geteuid() else 'root'}",
        f"--architectures={apt.ARCHITECTURE}",
        "--variant=essential",
        # Nothing is kept that would have to be clean; and a hook that empties /tmp would take away
        # what keeps mmdebstrap's cleaning from the host's apt.
        *(("--format=null", "--skip=cleanup") if hooks else ("--format=tar",)),
        *(f"--setup-hook={hook}" for hook in bringing(place / REPOSITORY)),
        f"--setup-hook={writing(text('dpkg.cfg'), 'etc/dpkg/dpkg.cfg.d/roll-images')}",
        f"--setup-hook={text('setup.sh')}",
        f"--extract-hook={text('extract.sh')}",
        f"--customize-hook={text('install.sh')}",
        f"--customize-hook={text('accounts.sh')}",
        f"--customize-hook={text('clean.sh')}",
        f"--customize-hook={writing(text('sources.list'), 'etc/apt/sources.list')}",
        *later,
        "",
        "-" if hooks else str(place / RESULT),
        "deb [trusted=yes] copy:///packages ./",  # setup.sh puts the true path in its place
    ]


def bringing(repository: Path) -> list[str]:
    """Hooks that unpack a tar of packages where `install.sh` looks for them."""
    return ['mkdir -m 755 "$1/packages"', f"tar-in {shlex.quote(str(repository))} /packages"]


def writing(content: str, path: str) -> str:
    """A hook that writes a file of the recipe into the new root.

    As text: the unprivileged user that mmdebstrap becomes may not be able to read the builder's
    files.
    """
    return f'printf %s {shlex.quote(content)} > "$1/{path}"'


def _failed(status: int, log: Path) -> BuildError:
    text = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n")
    if "No space left on device" in text:
        return StoreError(
            "no space left on the disk while the base was put together (about 1 GB is needed)",
            remedy="free some space on the disks of the store and of TMPDIR, which may be set",
        )
    if refused := _REFUSED.search(text):
        names = ", ".join(Path(name).stem for name in refused[1].split())
        return ToolError(
            f"dpkg cannot install {names}; of {log}:\n{_end(text[: refused.end()])}",
            remedy="python build.py lock --base brings newer packages; one that fails all the same "
            "cannot be in an image: take it out of the list that names it",
        )
    return ToolError(
        f"mmdebstrap failed with status {status}; the end of {log}:\n{_end(text)}",
        remedy="as an ordinary user it needs the package uidmap and a line for you in /etc/subuid "
        "and /etc/subgid; or run as root",
    )


def _end(text: str) -> str:
    return "\n".join(text.splitlines()[-20:])
