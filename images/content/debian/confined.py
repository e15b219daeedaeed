"""Commands of the image's own programs, run in the base's root file system.

There the compiler, its headers and its libraries are the image's own: those of the host would make
other bytes on other hosts. A command runs as another user and sees no file and no variable of the
host, and no network where the kernel permits that (`images.content.sdist.sandbox`).
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from images.content.debian import rootfs
from images.content.sdist import sandbox
from images.inputs.lock.deb import Deb

DIRECTORY = "/build"
"""The directory of a command's files, and its HOME."""

_LOG = "build.log"
_ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": DIRECTORY,
    "LC_ALL": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "TZ": "UTC0",
}


@dataclass(frozen=True, slots=True)
class Job:
    """A command and its files.

    Attributes:
        files: a tar.
        command: the command line.
        results: the directory below `DIRECTORY` in which it leaves its results.
        destination: the directory of the root that `files` is unpacked in.
        own: the directories below `DIRECTORY` that the command may change.
        environment: variables beside the fixed ones.
        installed: whether the base's packages are installed, and not unpacked alone.
    """

    files: Path
    command: Sequence[str]
    results: str
    destination: str = DIRECTORY
    own: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    installed: bool = True


def run(job: Job, base_debs: Sequence[Deb], cache: Path, workdir: Path) -> tuple[Path, str]:
    """Run a command in the base's root; a command that fails leaves no result.

    Args:
        job: the command.
        base_debs: the locked base; all of it is in `cache`.
        cache: the download cache.
        workdir: a directory for the root and the results; about 1 GB beside the job's files. The
            job's files are in it.

    Returns:
        A tar of the results, and the command's output.

    Raises:
        ToolError: the root cannot be made.
        StoreError: the disk is full.
    """
    hooks = partial(_hooks, job)
    rootfs.change(base_debs, cache, workdir, hooks, installed=job.installed)
    log = (workdir / _LOG).read_text(encoding="utf-8", errors="replace")
    return workdir / _output(job), log


def _output(job: Job) -> str:
    return f"{job.results}.tar"


def _hooks(job: Job, directory: Path) -> list[str]:
    user = sandbox.NOBODY
    results = f'"$1{DIRECTORY}/{job.results}"'
    return [
        # Sticky: every user may write there, but not replace root's files by links. These hooks
        # write and read them afterwards, with the host's rights.
        f'mkdir -m 1777 "$1{DIRECTORY}" {results}',
        f': > "$1{DIRECTORY}/{_output(job)}"; : > "$1{DIRECTORY}/{_LOG}"',
        f"tar-in {shlex.quote(str(directory / job.files.name))} {job.destination}",
        *(f'chown -R {user}:{user} "$1{DIRECTORY}/{name}"' for name in job.own),
        # A failed command leaves no result and its reason in the log: the hook goes on.
        f'{_confined(job)} > "$1{DIRECTORY}/{_LOG}" 2>&1 || rm -rf {results}/*',
        f'tar -C {results} -cf "$1{DIRECTORY}/{_output(job)}" .',
        *(
            f"download {DIRECTORY}/{name} {shlex.quote(str(directory / name))}"
            for name in (_output(job), _LOG)
        ),
    ]


def _confined(job: Job) -> str:
    """Return the command, apart from the host's network, processes and capabilities.

    Where mmdebstrap may mount, the root has the host's processes in /proc, and the builder's
    terminal: both are hidden. Where the kernel permits no namespaces, the worker is merely another
    user in another session.
    """
    spaces = f"unshare {' '.join(sandbox.SPACES)}"
    user = f"--reuid={sandbox.NOBODY} --regid={sandbox.NOBODY} --clear-groups"
    environment = " ".join(
        shlex.quote(f"{name}={value}")
        for name, value in {**_ENVIRONMENT, **job.environment}.items()
    )
    inside = (
        'if [ -n "$2" ]; then umount --recursive --lazy "$1/proc" "$1/sys" 2> /dev/null; '
        '[ ! -e "$1/dev/tty" ] || mount --bind /dev/null "$1/dev/tty"; session=; '
        'else session="setsid --wait"; fi; '
        f'$session chroot "$1" setpriv {user} --no-new-privs --inh-caps=-all '
        f"--bounding-set=-all -- env -i {environment} {shlex.join(job.command)}"
    )
    return (
        f"alone=; {spaces} true 2> /dev/null && alone='{spaces} --'; "
        f'$alone sh -c {shlex.quote(inside)} sh "$1" "$alone" < /dev/null'
    )
