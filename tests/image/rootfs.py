"""The image as an unpacked root file system, through testinfra's chroot backend.

A box is what users get: a command that DIR.enter runs, in a scratch view and a process namespace of
its own. Whatever happens, its mounts and processes go with that command, and the unpacked files are
never changed. Every other command joins it, with the environment that it was given.
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

from images.oci.image import Image
from images.unbundle.destinations import enter
from images.util import network_namespace
from tests.image.box import Box

_SCRATCH = "--scratch"
_HOLD = ("sh", "-c", "echo ready; exec sleep infinity")
# What `docker run --tmpfs` and `--read-only` do; in the box's root, by the host's programs. The
# host's files are no part of the image, for tests that look at all files.
_MORE = """
cd "$1" && read_only=$2 && shift 2
umount --lazy ./mnt
for directory; do
    mkdir -p ".$directory"
    mount -t tmpfs -o mode=1777 tmpfs ".$directory"
done
[ "$read_only" = 0 ] || mount -o remount,bind,ro .
"""


class _Backend(ChrootBackend):  # type: ignore[misc]  # testinfra has no types
    """Testinfra's chroot backend inside the namespaces of a process."""

    def __init__(self, pid: int, env: Mapping[str, str], user: str | None) -> None:
        root = f"/proc/{pid}/root"
        super().__init__(root)
        self._enter = ["nsenter", "--target", str(pid), "--mount", "--pid", "--net", "--", "chroot"]
        self._enter += ["--userspec", user] if user else []
        self._enter += [root, "/usr/bin/env", "-i"]
        self._enter += [f"{name}={value}" for name, value in env.items()]

    def run(self, command: str, *args: str, **kwargs: Any) -> CommandResult:
        text = self.get_command(command, *args)
        result = self.run_local(shlex.join([*self._enter, "/bin/sh", "-c", text]))
        result.command = self.encode(text)
        return result


class RootfsBox(Box):
    """An unpacked image, and a private view of it once it is started.

    Args:
        root: the directory. DIR.enter beside it is used; without one, the same script is made.
        image: what was unpacked there.
        host: testinfra's, of a started box.
    """

    kind = "rootfs"

    def __init__(self, root: Path, image: Image, host: Host | None = None) -> None:
        self._root, self._image = root.absolute(), image
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
        loopback_only: bool = False,
    ) -> Iterator[RootfsBox]:
        """Enter the root file system; all goes with the block.

        Without `gpus` nothing in the environment names the driver, as in a container without them.
        """
        network = network_namespace.loopback_only() if loopback_only else ()
        with (
            self._script() as script,
            _held([*network, str(script), *_options(user), *_HOLD]) as pid,
        ):
            more = ["nsenter", "--target", str(pid), "--mount", "--", "sh", "-ec", _MORE, "sh"]
            subprocess.run([*more, f"/proc/{pid}/root", str(int(read_only)), *tmpfs], check=True)
            given = _environ(pid) if gpus else _without_driver(_environ(pid), self._image.env)
            backend = _Backend(pid, {**given, **(env or {})}, user)
            yield RootfsBox(self._root, self._image, Host(backend))

    @contextmanager
    def _script(self) -> Iterator[Path]:
        """The script by which users enter the directory."""
        beside = Path(f"{self._root}.enter")
        if beside.exists():
            if _SCRATCH not in beside.read_text():
                pytest.fail(f"{beside} is an older unpack.py's: unpack the image again", False)
            yield beside
            return
        with tempfile.TemporaryDirectory(prefix="roll-image-test-") as place:
            root = Path(place, "root")
            root.symlink_to(self._root)
            script = Path(f"{root}.enter")
            image = self._image
            script.write_text(enter.script(image.ref, image.manifest_digest, image.env))
            script.chmod(0o755)
            yield script


def _options(user: str | None) -> list[str]:
    return [_SCRATCH, "--pid", *(["--user", user] if user else [])]


def _child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def _environ(pid: int) -> dict[str, str]:
    """The environment that a process was started with."""
    items = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return {name: value for name, _, value in (item.partition("=") for item in items if item)}


def _without_driver(env: Mapping[str, str], image: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name != "LD_LIBRARY_PATH"} | dict(image)


@contextmanager
def _held(command: Sequence[str]) -> Iterator[int]:
    """A process that holds the namespaces; it ends with this one, even if that is killed."""
    holder = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        if not holder.stdout or holder.stdout.readline().strip() != "ready":
            _, said = holder.communicate()
            pytest.fail(f"the root file system cannot be entered:\n{said}", False)
        yield _child(_child(holder.pid))  # the command of the script that `unshare` started
    finally:
        holder.kill()
        holder.communicate()
