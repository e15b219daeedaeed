"""mmdebstrap, run without influence of the host, and without traces on it.

As root it mounts /proc, /sys and /dev below the new root, in a mount namespace of its own where the
kernel permits: the mounts end with its processes, even if these are killed. Its files are then in
the caller's directory, which is part of the caller's store.

Without that right (an ordinary user, for whom mmdebstrap makes namespaces itself; root in a plain
container, where it mounts nothing) its files are in TMPDIR.
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
from images.util import programs

REPOSITORY = "packages.tar"
RESULT = "base.tar"

Hooks = Callable[[Path], Sequence[str]]
"""Returns hooks of mmdebstrap that run in the finished root.

Its argument is the caller's directory, by the path that it has for `tar-in` and `download`.
"""

# At this path apt and dpkg work wherever the directory is, and apt's own user can enter it.
_INSIDE = Path("/mnt")
_NAMESPACE = ("unshare", "--mount", "--")
_BIND = (
    f'mount --bind "$0" {_INSIDE}; mount -o remount,bind,dev,exec {_INSIDE}; chmod 755 {_INSIDE}; '
)
# The host's or a network's file system may refuse devices or owners.
_TRY = f"cd {_INSIDE}; mknod try c 1 3; chown 1:1 try; : > try; rm try"

# dpkg's last lines when packages fail: their names, or their files if they cannot be unpacked.
_REFUSED = re.compile(r"Errors were encountered while processing:\n((?: \S+\n)+)")


@dataclass(frozen=True, slots=True)
class _Workspace:
    """The workspace of mmdebstrap.

    Attributes:
        prefix: the command that makes it and runs mmdebstrap in it.
        directory: the path of the caller's directory in it.
        temporary: the directory for the new root.
    """

    prefix: Sequence[str]
    directory: Path
    temporary: str


def run(workdir: Path, recipe: Path, epoch: int) -> Path:
    """Make a root file system of the packages in `workdir`/packages.tar.

    Args:
        workdir: has the packages; gets the log and, where that is possible, the new root.
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


def change(
    workdir: Path, recipe: Path, epoch: int, hooks: Hooks, unpacked: Sequence[str] | None = None
) -> None:
    """Make the root file system of `run` and run hooks in it; only what they save is kept.

    Args:
        workdir: as for `run`.
        recipe: as for `run`.
        epoch: as for `run`.
        hooks: the steps in the root.
        unpacked: the names of all packages, to unpack them and install none. Programs run in such
            a root; what maintainer scripts make is not there: alternatives (`c++`), caches.

    Raises:
        ToolError, StoreError: as `run`.
    """
    _start(workdir.absolute(), recipe, epoch, hooks, unpacked)


def check() -> None:
    """Check that this user can make a root file system on this machine.

    Raises:
        ToolError: a program, a range of ids or a suitable TMPDIR is missing.
        StoreError: TMPDIR has too little space.
    """
    mmdebstrap_check.check_program()
    if os.geteuid() != 0:
        mmdebstrap_check.check_user()
    if not _mounts(mmdebstrap_check.search_path()):
        mmdebstrap_check.check_temporary(mmdebstrap_check.temporary())


def _start(
    workdir: Path,
    recipe: Path,
    epoch: int,
    hooks: Hooks | None,
    unpacked: Sequence[str] | None = None,
) -> None:
    mmdebstrap_check.check_program()
    mmdebstrap_check.make_plain(workdir)
    path = mmdebstrap_check.search_path()
    workspace = _workspace(workdir, path)
    environment = {
        "PATH": path,
        "HOME": "/",  # else dpkg would read the builder's ~/.dpkg.cfg
        "TMPDIR": workspace.temporary,
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC0",
        "SOURCE_DATE_EPOCH": str(epoch),
    }
    log = workdir / "base.log"
    with log.open("wb") as stream:
        done = programs.run(
            [*workspace.prefix, *_command(workspace.directory, recipe, hooks, unpacked)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            cwd="/",  # the unprivileged user may not be able to enter the current directory
            umask=0o022,
        )
    if done.returncode != 0:
        raise _failed(done.returncode, log)


def _workspace(workdir: Path, path: str) -> _Workspace:
    elsewhere = str(mmdebstrap_check.temporary())
    if not _mounts(path):
        return _Workspace((), workdir, elsewhere)
    inside = [*_NAMESPACE, "sh", "-ec"]
    if not _works([*inside, _BIND + _TRY, str(workdir)], path):
        return _Workspace(_NAMESPACE, workdir, elsewhere)
    return _Workspace([*inside, f'{_BIND}exec "$@"', str(workdir)], _INSIDE, str(_INSIDE))


def _mounts(path: str) -> bool:
    """Return whether mmdebstrap can get mounts of its own, and so use the caller's directory."""
    return os.geteuid() == 0 and _works([*_NAMESPACE, "true"], path)


def _works(command: Sequence[str], path: str) -> bool:
    try:
        done = subprocess.run(
            command, env={"PATH": path}, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except FileNotFoundError:
        return False
    return done.returncode == 0


def _command(
    directory: Path, recipe: Path, hooks: Hooks | None, unpacked: Sequence[str] | None
) -> list[str]:
    def text(name: str) -> str:
        return (recipe / name).read_text(encoding="utf-8")

    def installing() -> list[str]:
        return [
            f"--extract-hook={text('extract.sh')}",
            f"--customize-hook={text('install.sh')}",
            f"--customize-hook={text('accounts.sh')}",
            f"--customize-hook={text('clean.sh')}",
            f"--customize-hook={writing(text('sources.list'), 'etc/apt/sources.list')}",
        ]

    stage = "customize" if unpacked is None else "extract"  # the last one of each variant
    later = [f"--{stage}-hook={hook}" for hook in hooks(directory)] if hooks else []
    return [
        "mmdebstrap",
        # By default it would use fakechroot where that is installed and ids are missing.
        f"--mode={'unshare' if os.geteuid() else 'root'}",
        f"--architectures={apt.ARCHITECTURE}",
        *(
            ("--variant=essential",)
            if unpacked is None
            else ("--variant=extract", f"--include={','.join(unpacked)}")
        ),
        # With hooks no root is kept, so it need not be clean; and a hook that empties /tmp would
        # remove the file that keeps mmdebstrap's cleaning away from the host's apt.
        *(("--format=null", "--skip=cleanup") if hooks else ("--format=tar",)),
        *(f"--setup-hook={hook}" for hook in unpacking(directory / REPOSITORY)),
        f"--setup-hook={writing(text('dpkg.cfg'), 'etc/dpkg/dpkg.cfg.d/roll-images')}",
        f"--setup-hook={text('setup.sh')}",
        *(installing() if unpacked is None else ()),
        *later,
        "",
        "-" if hooks else str(directory / RESULT),
        "deb [trusted=yes] copy:///packages ./",  # setup.sh replaces the path
    ]


def unpacking(repository: Path) -> list[str]:
    """Return hooks that unpack a tar of packages where `install.sh` looks for them."""
    return ['mkdir -m 755 "$1/packages"', f"tar-in {shlex.quote(str(repository))} /packages"]


def writing(content: str, path: str) -> str:
    """Return a hook that writes a file of the recipe into the new root.

    The content is part of the hook: the unprivileged user that mmdebstrap becomes may not be able
    to read the builder's files.
    """
    return f'printf %s {shlex.quote(content)} > "$1/{path}"'


def _failed(status: int, log: Path) -> BuildError:
    text = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n")
    if "No space left on device" in text:
        return StoreError(
            "no space left on the disk while the base was made (about 1 GB is needed)",
            remedy="free some space on the disks of the store and of TMPDIR, or set TMPDIR to "
            "another directory",
        )
    if refused := _REFUSED.search(text):
        names = ", ".join(Path(name).stem for name in refused[1].split())
        return ToolError(
            f"dpkg cannot install {names}; from {log}:\n{_end(text[: refused.end()])}",
            remedy="python build.py lock --base  # locks newer packages; remove one that still "
            "fails from the list that names it",
        )
    return ToolError(
        f"mmdebstrap failed with status {status}; the end of {log}:\n{_end(text)}",
        remedy="an ordinary user needs the package uidmap and a line in /etc/subuid and "
        "/etc/subgid; or run as root",
    )


def _end(text: str) -> str:
    return "\n".join(text.splitlines()[-20:])
