"""The wheel of an sdist with C sources, built in the base's root file system.

There the compiler, its headers and its libraries are the image's own: those of the host would make
other bytes on other hosts. The build runs as another user and sees no file and no variable of the
host, and no network where the kernel permits that (`images.content.sdist.sandbox`).
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from images import format_numbers, image_paths
from images.content.debian import rootfs
from images.content.sdist import sandbox, wheel_build
from images.inputs.lock.deb import Deb
from images.util import sha256

_INPUT = "sdist-build.tar"
_OUTPUT = "wheel.tar"
_LOG = "build.log"
_REMEDY = (
    "see whether its `build:` requirements in the matrix are complete, and whether the base has "
    "the headers; the build has no network"
)
_ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/build",
    "LC_ALL": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "SOURCE_DATE_EPOCH": str(wheel_build.EPOCH),
    "TZ": "UTC0",
}


def key(base_debs: Sequence[Deb]) -> str:
    """Return the digest of all inputs of such a build but the sdist and its build requirements."""
    worker = sha256.of_file(wheel_build.WORKER)
    return sha256.of_json(
        {"base": rootfs.key(base_debs), "format": format_numbers.COMPILED_SDIST, "worker": worker}
    )


def build(
    archive: Path,
    requirements: Sequence[Path],
    base_debs: Sequence[Deb],
    cache: Path,
    workdir: Path,
) -> Path:
    """Build the wheel of an sdist with the image's own compiler and return its path.

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
    wheel_build.pack(archive, requirements, workdir / "unpacked", workdir / _INPUT)
    rootfs.change(base_debs, cache, workdir, _hooks)
    log = (workdir / _LOG).read_text(encoding="utf-8", errors="replace")
    return wheel_build.wheel_of(archive.name, workdir / _OUTPUT, log, _REMEDY)


def _hooks(directory: Path) -> list[str]:
    user = sandbox.NOBODY
    return [
        # Sticky: every user may write there, but not replace root's files by links. These hooks
        # write and read them afterwards, with the host's rights.
        'mkdir -m 1777 "$1/build" "$1/build/wheel"',
        f': > "$1/build/{_OUTPUT}"; : > "$1/build/{_LOG}"',
        f"tar-in {shlex.quote(str(directory / _INPUT))} /build",
        f'chown -R {user}:{user} "$1/build/source"',
        # A failed build leaves no wheel and its reason in the log: the hook goes on.
        f'{_confined()} > "$1/build/{_LOG}" 2>&1 || rm -f "$1"/build/wheel/*',
        f'tar -C "$1/build/wheel" -cf "$1/build/{_OUTPUT}" .',
        *(
            f"download /build/{name} {shlex.quote(str(directory / name))}"
            for name in (_OUTPUT, _LOG)
        ),
    ]


def _confined() -> str:
    """Return the command of the worker, apart from the host's network, processes and capabilities.

    Where mmdebstrap may mount, the root has the host's processes in /proc, and the builder's
    terminal: both are hidden. Where the kernel permits no namespaces, the worker is merely another
    user in another session.
    """
    spaces = f"unshare {' '.join(sandbox.SPACES)}"
    user = f"--reuid={sandbox.NOBODY} --regid={sandbox.NOBODY} --clear-groups"
    environment = " ".join(f"{name}={value}" for name, value in _ENVIRONMENT.items())
    inside = (
        'if [ -n "$2" ]; then umount --recursive --lazy "$1/proc" "$1/sys" 2> /dev/null; '
        '[ ! -e "$1/dev/tty" ] || mount --bind /dev/null "$1/dev/tty"; session=; '
        'else session="setsid --wait"; fi; '
        f'$session chroot "$1" setpriv {user} --no-new-privs --inh-caps=-all '
        f"--bounding-set=-all -- env -i {environment} "
        f"/usr/bin/python{image_paths.PYTHON} -s -P -B /build/{wheel_build.WORKER.name} /build"
    )
    return (
        f"alone=; {spaces} true 2> /dev/null && alone='{spaces} --'; "
        f'$alone sh -c {shlex.quote(inside)} sh "$1" "$alone" < /dev/null'
    )
