"""The image as an unpacked root file system, through testinfra's chroot backend.

Each box has a mount and process namespace of its own: whatever happens, its mounts and processes go
with the one process that holds it, and the unpacked files are never changed.
"""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from testinfra.backend.base import CommandResult
from testinfra.backend.chroot import ChrootBackend
from testinfra.host import Host

from tests.image import host_driver
from tests.image.box import Box

# Arguments: unpacked root, an empty directory, 1 for read-only, the list of the driver's files or
# nothing, then directories in memory. What an engine would give a container: /proc, /sys, /dev with
# its own shared memory, and with GPUs the driver, known to the dynamic linker's cache (Triton asks
# it). The last line of output is `ready`, or says what was refused.
_HOLD = """
set -e
lower=$1 work=$2 read_only=$3 driver=$4; shift 4
mount -t tmpfs -o mode=0755 tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/root"
layers=lowerdir=$lower,upperdir=$work/upper,workdir=$work/work
mount -t overlay overlay -o "$layers" "$work/root" || { echo overlay; exit 1; }
cd "$work/root"
mkdir -p proc sys dev tmp
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs -o mode=1777 shm dev/shm
for directory; do
    mkdir -p ".$directory"
    mount -t tmpfs -o mode=1777 tmpfs ".$directory"
done
if [ -n "$driver" ]; then
    while read -r file inside; do
        [ -e "$inside" ] || : > "$inside"
        mount --bind "$file" "$inside"
    done < "$driver"
    chroot . /sbin/ldconfig
fi
[ "$read_only" = 0 ] || mount -o remount,bind,ro .
echo ready
exec sleep infinity
"""
_REFUSED = {
    "overlay": "an overlay on the root file system was refused, see above: the directory is none, "
    "or this kernel offers no overlays (gVisor): use --backend docker, or another machine",
    "": "the root file system could not be mounted; see above",
}
_LIBRARIES = "usr/lib/x86_64-linux-gnu"


class _Backend(ChrootBackend):  # type: ignore[misc]  # testinfra tells no types
    """Testinfra's chroot backend inside the namespaces, with the image's environment."""

    def __init__(self, root: str, pid: int, env: Mapping[str, str], user: str | None) -> None:
        super().__init__(root)
        self._enter = ["nsenter", "--target", str(pid), "--mount", "--pid", "--", "chroot"]
        self._enter += ["--userspec", user] if user else []
        self._enter += [root, "/usr/bin/env", "-i"]
        self._enter += [f"{name}={value}" for name, value in env.items()]

    def run(self, command: str, *args: str, **kwargs: Any) -> CommandResult:
        text = self.get_command(command, *args)
        result = self.run_local(shlex.join([*self._enter, "/bin/sh", "-c", text]))
        result.command = self.encode(text)
        return result


class RootfsBox(Box):
    """An unpacked image, and a private view of it once it is started."""

    kind = "rootfs"

    def __init__(self, root: Path, env: Mapping[str, str], host: Host | None = None) -> None:
        self._root, self._env = root.absolute(), env
        if host is not None:
            self.host = host

    @contextmanager
    def started(
        self,
        *,
        user: str | None = None,
        read_only: bool = False,
        env: Mapping[str, str] | None = None,
        tmpfs: Sequence[str] = (),
        gpus: bool = False,
    ) -> Iterator[RootfsBox]:
        """Mount a view of the root file system; it goes with the block."""
        env = {**self._env, **(env or {})}
        with tempfile.TemporaryDirectory(prefix="roll-image-test-") as place:
            work, driver = Path(place, "work"), Path(place, "driver")
            work.mkdir()
            if gpus:
                driver.write_text(_driver_files())
            options = [str(self._root), str(work), str(int(read_only))]
            options += [str(driver) if gpus else "", *tmpfs]
            with _held(options) as pid:
                backend = _Backend(f"{work}/root", pid, env, user)
                yield RootfsBox(self._root, env, Host(backend))


def _driver_files() -> str:
    """Lines of a file of this machine's driver and where it goes inside."""
    program = host_driver.program()
    lines = [f"{path} {_LIBRARIES}/{name}" for name, path in host_driver.libraries().items()]
    if program is not None:
        lines.append(f"{program} usr/bin/{host_driver.PROGRAM}")
    return "".join(f"{line}\n" for line in lines)


@contextmanager
def _held(options: Sequence[str]) -> Iterator[int]:
    """A process that holds the namespaces; it ends with this one, even if that is killed."""
    command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork"]
    command += ["--kill-child", "--propagation", "private", "--", "/bin/sh", "-c", _HOLD, "sh"]
    holder = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
    try:
        told = holder.stdout.readline().strip() if holder.stdout else ""
        if told != "ready":
            pytest.fail(_REFUSED.get(told, _REFUSED[""]))
        children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()
        yield int(children[0])
    finally:
        holder.kill()
        holder.wait()
