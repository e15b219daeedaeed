"""A daemon in namespaces of its own, of the host's programs or of those in another root."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

# Programs of another suite run in the root that they were unpacked in, with their data at the same
# path as outside.
IN_ITS_ROOT = """
set -e
root=$1 place=$2; shift 2
mount --bind "$root" "$root"
mkdir -p "$root/mnt"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mkdir -p "$root$place"
mount --rbind "$place" "$root$place"
cd "$root"
pivot_root . mnt
umount -l /mnt
exec "$@"
"""
_HOST = 'set -e; mount -t proc proc /proc; shift 2; exec "$@"'
_PATIENCE = 60.0


@contextmanager
def running(
    root: Path | None,
    place: Path,
    command: Sequence[str],
    address: Path,
    ready: Callable[[Path], bool],
) -> Iterator[int]:
    """Run a daemon; yield the process id of its parent.

    It has namespaces of its own, so that no process and no mount is left of it when it ends, and
    the kernel ends it when this process is gone.

    Args:
        root: the directory that its programs are in; None for the host's.
        place: the directory of its data and its log.
        command: the daemon.
        address: the socket that it listens on.
        ready: returns whether it answers there.
    """
    address.unlink(missing_ok=True)
    log = place / f"{Path(command[0]).name}.log"
    holder_command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork"]
    holder_command += ["--kill-child", "--propagation", "private", "--", "/bin/sh", "-c"]
    holder_command += [IN_ITS_ROOT if root else _HOST, "sh", str(root), str(place), *command]
    with log.open("wb") as out:
        holder = subprocess.Popen(holder_command, stdout=out, stderr=out)
    try:
        _wait(holder, lambda: address.exists() and ready(address), log)
        yield holder.pid
    finally:
        _stop(holder)


def _wait(holder: subprocess.Popen[bytes], ready: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and holder.poll() is None:
        if ready():
            return
        time.sleep(0.1)
    text = log.read_text(errors="replace")[-3000:]
    sys.exit(f"{log.stem} did not come up:\n{text}")


def _stop(holder: subprocess.Popen[bytes]) -> None:
    """Stop the daemon gently: it saves its state and removes its cgroups."""
    children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children")
    for child in children.read_text().split() if children.exists() else ():
        subprocess.run(["kill", "-TERM", child], check=False)
    try:
        holder.wait(30)
    except subprocess.TimeoutExpired:
        holder.kill()
        holder.wait()
