"""Runs foreign code on files of its own, out of reach of the builder and of the network.

An sdist's build is the one place where code of the package index runs on the machine that builds.
It gets namespaces of its own (mounts, network, processes, IPC): a file system in memory with its
own files, the system's /usr and a few devices, no network, no other process, another user without
any capability, an environment of ours alone. How they are made differs from host to host.

A container without the right to make namespaces gives root one thing less: another user. That user
reads neither root's files nor the environment of root's processes, and writes nothing of root's;
the network and what everybody may read stay within reach, which is reported. Where not even that is
possible nothing is run.
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
from images.util import output

OUTPUT = "output.tar"

_SCRIPT = Path(__file__).with_name("sandbox.sh")
SPACES = ("--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child")
"""Options of `unshare`: the namespaces that end with the builder, and what the code may not see."""

NOBODY = "65534"
"""The id of a user who owns nothing."""

_UNSHARE = ("unshare", *SPACES, "--")
_CONTAINER = "in a container, give it --cap-add SYS_ADMIN --security-opt seccomp=unconfined"
_UNREAD = 128 + signal.SIGPIPE  # nobody took all of it, who says why
_LONGEST_LOG = 1 << 20
_FULL = (os.strerror(errno.ENOSPC), "Wrote only")  # the latter is tar's word
_FEED = """
files=$1; shift
while [ $# -gt 0 ]; do
    tar -C "$2" --mode=u+rw,a+rX --transform="s,^\\./,$1/,S" -cf - .
    shift 2
done
exec cat "$files"
"""

NO_ROOM = (
    "free some space on the disks of the store and of TMPDIR, and memory: a build's files lie in it"
)
_ROOT = "/mnt"  # where the file system in memory is put; nobody else sees it there
_SYSTEM = ":/usr/sbin:/usr/bin:/sbin:/bin"  # users lack chroot's place in their PATH

Command = Callable[[str], Sequence[str]]
"""Makes a command line, given the absolute path of the unpacked files."""


@dataclass(frozen=True, slots=True)
class Way:
    """How code is confined on this host.

    Attributes:
        prefix: what makes the namespaces; empty where there are none.
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
    way: Way | None = None,
) -> Path:
    """Run a command, confined; it never fails because the command does.

    Args:
        files: a tar of what the command is to have.
        command: what is run. It may leave files in `wheel/`.
        env: its whole environment, but for HOME.
        workdir: gets a tar with `wheel/` and `log`, what the command printed.
        trees: directories that it is to have besides, by their names there.
        way: how; by default the strictest that works here.

    Returns:
        The path of that tar.

    Raises:
        ToolError: nothing can be confined on this host.
        StoreError: there is no room for the files.
    """
    way = way or found()
    output = workdir / OUTPUT
    with _feeding(files, trees) as source, output.open("wb") as sink:
        done = _run(way, source, sink.fileno(), command, env)
    if done.returncode:
        raise _failed(done.stderr.decode(errors="replace"))
    return output


def _failed(told: str) -> BuildError:
    message = f"what is built from an sdist cannot be confined: {_end(told)}"
    if any(words in told for words in _FULL):
        return StoreError(f"no space left: {message}", remedy=NO_ROOM)
    return ToolError(message, remedy=f"see whether there is memory for its files; {_CONTAINER}")


@contextmanager
def _feeding(files: Path, trees: Mapping[str, Path]) -> Iterator[int]:
    """A descriptor of one tar after the other; `tar` reads a tree ten times as fast as Python."""
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
        told = feeding.stderr.read()
    if feeding.returncode not in (0, _UNREAD):
        raise ToolError(f"the image's Python cannot be copied: {_end(told.decode())}")


@cache
def found() -> Way:
    """The strictest way that works here; tried once in a process, and reported if it is weak.

    Raises:
        ToolError: there is none.
    """
    reasons = []
    for way in ways():
        if reason := why_not(way):
            reasons.append(reason)
            continue
        if not way.closed:
            output.message(_weak(reasons))
        return way
    raise ToolError(
        "an sdist's build would see your files and the network: this system lets you make no "
        f"namespaces ({'; '.join(dict.fromkeys(reasons))})",
        remedy="build as root; or let users make them (sysctl kernel.unprivileged_userns_clone=1, "
        f"on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0); {_CONTAINER}; or take the "
        "layers that are made from sdists out of a shared cache (--cache-from)",
    )


def _weak(reasons: Sequence[str]) -> str:
    return (
        "warning: sdists are built as another user, but with this machine's network and with what "
        f"everybody may read on it: no namespaces can be made ({'; '.join(reasons)}); {_CONTAINER}"
    )


def ways() -> Iterator[Way]:
    """The ways that may work for this user, strictest first."""
    if os.geteuid() == 0:
        yield Way(_UNSHARE, NOBODY)
    yield Way(("unshare", "--user", "--map-root-user", *SPACES, "--"), "self")
    if os.geteuid() == 0:
        yield Way((), NOBODY)
    elif shutil.which("mmdebstrap"):
        # Ubuntu's AppArmor lets mmdebstrap make user namespaces, and not `unshare`.
        yield Way(("mmdebstrap", "--unshare-helper", *_UNSHARE), NOBODY)


def why_not(way: Way) -> str:
    """Why a way does not work here; empty if it does."""
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as sink:
        with tarfile.open(fileobj=source, mode="w"):
            pass
        source.seek(0)
        done = _run(way, source.fileno(), sink.fileno(), _reads_its_files, {})
        if done.returncode:
            return _end(done.stderr.decode(errors="replace"))
        sink.seek(0)
        return log_of(sink).strip()


def _reads_its_files(place: str) -> Sequence[str]:
    return ["ls", f"{place}/wheel"]


def log_of(output: IO[bytes]) -> str:
    """What a command printed (of very much the end), out of the tar that `run` gives."""
    with tarfile.open(fileobj=output) as tar:
        if (log := tar.extractfile("log")) is None:
            return ""
        log.seek(max(0, tar.getmember("log").size - _LONGEST_LOG))
        return log.read().decode(errors="replace")


def _run(
    way: Way, source: int, sink: int, command: Command, env: Mapping[str, str]
) -> subprocess.CompletedProcess[bytes]:
    path = os.environ.get("PATH", "") + _SYSTEM
    with _directory(way) as top:
        place = "/build" if way.closed else f"{top}/build"
        settings = [f"{name}={value}" for name, value in {**env, "HOME": f"{place}/home"}.items()]
        where = "closed" if way.closed else "open"
        script = ["sh", "-c", _SCRIPT.read_text(encoding="utf-8"), "confine", where, top, way.user]
        try:
            return subprocess.run(
                [*way.prefix, *script, *settings, *command(place)],
                env={"PATH": path},
                cwd="/",  # the new user may not be able to enter where we are
                stdin=source,
                stdout=sink,
                stderr=subprocess.PIPE,
                umask=0o022,
                check=False,
            )
        except OSError as error:
            return subprocess.CompletedProcess([], 127, b"", str(error).encode())


@contextmanager
def _directory(way: Way) -> Iterator[str]:
    if way.closed:
        yield _ROOT
        return
    if not interpreter.is_literal(tempfile.gettempdir()):
        # The image's Python would be started with this machine's libraries, or not at all.
        raise ToolError(
            f"an sdist cannot be built below {tempfile.gettempdir()}: the image's Python cannot be "
            f"started in a path with any of : ; $, and this system makes no namespaces",
            remedy=f"name another directory for temporary files, TMPDIR=/var/tmp; or {_CONTAINER}",
        )
    with tempfile.TemporaryDirectory(prefix="confined-") as top:
        Path(top).chmod(0o711)  # another user passes through it
        yield top


def _end(told: str) -> str:
    lines = told.strip().splitlines()
    return "; ".join(lines[-2:]) or "no reason given"  # the last line of tar's says nothing
