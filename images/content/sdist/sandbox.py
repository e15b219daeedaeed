"""A sandbox for foreign code: it gets its own files, and neither the builder's nor the network.

An sdist's build is the one step in which code of the package index runs on the building machine. It
gets namespaces of its own (mounts, network, processes, IPC): a file system in memory with its own
files, the system's /usr and a few devices, no network, no other process, another user without
capabilities, a fixed environment. How these are made differs from host to host.

In a container that may make no namespaces, root can still run it as another user. That user can
neither read root's files and the environment of root's processes nor write anything of root's; the
network and world-readable files stay within reach, which is reported. Where not even that is
possible, nothing is run.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import IO

from images.content.python import interpreter
from images.errors import BuildError, StoreError, ToolError
from images.util import output, programs

OUTPUT = "output.tar"

_SCRIPT = Path(__file__).with_name("sandbox.sh")
SPACES = ("--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child")
"""Options of `unshare`: namespaces that hide the host, and end with the builder."""

NOBODY = "65534"
"""The id of a user who owns no files."""

_UNSHARE = ("unshare", *SPACES, "--")
_CONTAINER = "in a container, give it --cap-add SYS_ADMIN --security-opt seccomp=unconfined"
_UNREAD = 128 + signal.SIGPIPE  # the reader stopped, and reports why
_LONGEST_LOG = 1 << 20
_FULL = (os.strerror(errno.ENOSPC), "Wrote only")  # the latter is tar's message
_FEED = """
files=$1; shift
while [ $# -gt 0 ]; do
    tar -C "$2" --mode=u+rw,a+rX --transform="s,^\\./,$1/,S" -cf - .
    shift 2
done
exec cat "$files"
"""

NO_ROOM = (
    "free some space on the disks of the store and of TMPDIR, and memory, which holds a build's "
    "files"
)
_ROOT = "/mnt"  # mount point of the file system in memory, in its own mount namespace
_SYSTEM = ":/usr/sbin:/usr/bin:/sbin:/bin"  # the PATH of users lacks chroot's directory

Command = Callable[[str], Sequence[str]]
"""Returns a command line, given the absolute path of the unpacked files."""


@dataclass(frozen=True, slots=True)
class Confinement:
    """One kind of confinement of code on this host.

    Attributes:
        prefix: the command that makes the namespaces; empty without them.
        user: the numeric id that the code gets, or `self` for that of the caller, which in
            namespaces is an ordinary user's.
    """

    prefix: tuple[str, ...]
    user: str

    @property
    def closed(self) -> bool:
        """Whether the code has a file system and a network of its own."""
        return bool(self.prefix)


def run(
    files: Path,
    command: Command,
    env: Mapping[str, str],
    workdir: Path,
    *,
    trees: Mapping[str, Path] = MappingProxyType({}),
    confinement: Confinement | None = None,
) -> Path:
    """Run a command in the sandbox; a command that fails is no error.

    Args:
        files: a tar of the command's files.
        command: the command. It may leave files in `wheel/`.
        env: its whole environment, without HOME.
        workdir: gets a tar with `wheel/` and `log`, the command's output.
        trees: further directories of the command, by their names in the sandbox.
        confinement: by default the strictest that works here.

    Returns:
        The path of that tar.

    Raises:
        ToolError: this host permits no sandbox.
        StoreError: no space is left for the files.
    """
    confinement = confinement or found()
    output = workdir / OUTPUT
    with _feeding(files, trees) as source, output.open("wb") as sink:
        done = _run(confinement, source, sink.fileno(), command, env)
    if done.returncode:
        raise _failed(done.stderr.decode(errors="replace"))
    return output


def _failed(stderr: str) -> BuildError:
    message = f"the sandbox of an sdist's build failed: {_end(stderr)}"
    if any(words in stderr for words in _FULL):
        return StoreError(f"no space left: {message}", remedy=NO_ROOM)
    return ToolError(message, remedy=f"check that memory is free for its files; {_CONTAINER}")


@contextmanager
def _feeding(files: Path, trees: Mapping[str, Path]) -> Iterator[int]:
    """Open a stream of tars in a row; `tar` reads a tree ten times as fast as Python.

    Yields:
        Its descriptor.
    """
    if not trees:
        with files.open("rb") as stream:
            yield stream.fileno()
        return
    script = ["sh", "-ec", _FEED, "sh", str(files)]
    for name, tree in trees.items():
        script += [name, str(tree)]
    with subprocess.Popen(script, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as feeding:
        if feeding.stdout is None or feeding.stderr is None:
            raise AssertionError("it was started with pipes")
        yield feeding.stdout.fileno()
        feeding.stdout.close()
        stderr = feeding.stderr.read()
    if feeding.returncode not in (0, _UNREAD):
        raise ToolError(f"the image's Python cannot be copied: {_end(stderr.decode())}")


@cache
def found() -> Confinement:
    """Return the strictest confinement that works here; a weak one is reported, once in a process.

    Raises:
        ToolError: there is none.
    """
    reasons = []
    for confinement in confinements():
        if reason := failure(confinement):
            reasons.append(reason)
            continue
        if not confinement.closed:
            output.message(_weak(reasons))
        return confinement
    raise ToolError(
        "an sdist's build would see your files and the network: this system does not let you make "
        f"namespaces ({'; '.join(dict.fromkeys(reasons))})",
        remedy="build as root; or let users make them (sysctl kernel.unprivileged_userns_clone=1, "
        f"on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0); {_CONTAINER}; or fetch the "
        "layers that are made from sdists from a shared cache (--cache-from)",
    )


def _weak(reasons: Sequence[str]) -> str:
    return (
        "warning: sdists are built as another user, but with this machine's network and its "
        f"world-readable files: no namespaces can be made ({'; '.join(reasons)}); {_CONTAINER}"
    )


def confinements() -> Iterator[Confinement]:
    """Yield the confinements that may work for this user, strictest first."""
    if os.geteuid() == 0:
        yield Confinement(_UNSHARE, NOBODY)
    yield Confinement(("unshare", "--user", "--map-root-user", *SPACES, "--"), "self")
    if os.geteuid() == 0:
        yield Confinement((), NOBODY)
    elif shutil.which("mmdebstrap"):
        # Ubuntu's AppArmor lets mmdebstrap make user namespaces, but not `unshare`.
        yield Confinement(("mmdebstrap", "--unshare-helper", *_UNSHARE), NOBODY)


def failure(confinement: Confinement) -> str:
    """Return the reason why a confinement does not work here; empty if it does."""
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as sink:
        with tarfile.open(fileobj=source, mode="w"):
            pass
        source.seek(0)
        done = _run(confinement, source.fileno(), sink.fileno(), _reads_its_files, {})
        if done.returncode:
            return _end(done.stderr.decode(errors="replace"))
        sink.seek(0)
        return log_of(sink).strip()


def _reads_its_files(directory: str) -> Sequence[str]:
    return ["ls", f"{directory}/wheel"]


def log_of(output: IO[bytes]) -> str:
    """Return a command's output from the tar that `run` made; only the end of a very long one."""
    with tarfile.open(fileobj=output) as tar:
        if (log := tar.extractfile("log")) is None:
            return ""
        log.seek(max(0, tar.getmember("log").size - _LONGEST_LOG))
        return log.read().decode(errors="replace")


def _run(
    confinement: Confinement, source: int, sink: int, command: Command, env: Mapping[str, str]
) -> subprocess.CompletedProcess[bytes]:
    path = os.environ.get("PATH", "") + _SYSTEM
    with _directory(confinement) as top:
        directory = "/build" if confinement.closed else f"{top}/build"
        settings = [
            f"{name}={value}" for name, value in {**env, "HOME": f"{directory}/home"}.items()
        ]
        arguments = ["closed" if confinement.closed else "open", top, confinement.user]
        script = ["sh", "-c", _SCRIPT.read_text(encoding="utf-8"), "confine", *arguments]
        try:
            return programs.run(
                [*confinement.prefix, *script, *settings, *command(directory)],
                env={"PATH": path},
                cwd="/",  # the new user may not be able to enter the current directory
                stdin=source,
                stdout=sink,
                stderr=subprocess.PIPE,
                umask=0o022,
            )
        except OSError as error:
            return subprocess.CompletedProcess([], 127, b"", str(error).encode())


@contextmanager
def _directory(confinement: Confinement) -> Iterator[str]:
    if confinement.closed:
        yield _ROOT
        return
    if not interpreter.is_literal(tempfile.gettempdir()):
        # The image's Python would be started with this machine's libraries, or not at all.
        raise ToolError(
            f"an sdist cannot be built below {tempfile.gettempdir()}: the image's Python cannot be "
            f"started in a path with any of : ; $, and this system makes no namespaces",
            remedy=f"use another directory for temporary files, TMPDIR=/var/tmp; or {_CONTAINER}",
        )
    with tempfile.TemporaryDirectory(prefix="confined-") as top:
        Path(top).chmod(0o711)  # another user must enter it
        yield top


def _end(stderr: str) -> str:
    lines = stderr.strip().splitlines()
    return "; ".join(lines[-2:]) or "no reason given"  # tar's last line alone has no reason
