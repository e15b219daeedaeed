"""Byte code for the image's Python: deterministic `.pyc` files beside their sources.

They hold the time and the size of their source, as Python's own do: the time that all files in
layers have (`tar_header.MTIME`). Python then uses the byte code without reading the source, and
compiles an edited source, which has another time, again. The alternatives and their costs:
docs/cold-start.md, "Byte code and edited sources".
"""

from __future__ import annotations

import fcntl
import mmap
import os
import posixpath
import signal
import subprocess
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple

from images import image_paths
from images.errors import ToolError
from images.oci.layer import tar_header
from images.oci.layer.entry import Entry, of_bytes

_WORKER = Path(__file__).with_name("bytecode_worker.py")
_TAG = f"cpython-{image_paths.PYTHON.replace('.', '')}"
_PIPE = 1 << 20  # bytes; the largest pipe that Linux gives every user
_AHEAD = 256  # entries that may wait behind a source that is being compiled
_COMPILED = (
    f"{image_paths.SITE_PACKAGES}/",
    f"usr/lib/python{image_paths.PYTHON}/",
    "usr/lib/python3/",
)


class Compiler:
    """Processes of the image's interpreter that compile, one for each layer that is being made.

    A context manager: leaving it ends the processes.

    Args:
        command: the interpreter's command line.
        env: its whole environment.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        self._command = command
        self._env = dict(env)
        self._workers: list[Worker] = []
        self._idle: list[Worker] = []

    def __enter__(self) -> Compiler:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            worker.end()

    def prepare(self) -> None:
        """Start a process before it is needed: it takes a moment until it can compile.

        Raises:
            ToolError: the interpreter does not start.
        """
        with self.worker():
            pass

    @contextmanager
    def worker(self) -> Iterator[Worker]:
        """Lend a process to one thread.

        Raises:
            ToolError: the interpreter does not start.
        """
        try:
            worker = self._idle.pop()
        except IndexError:
            worker = Worker(self._command, self._env)
            self._workers.append(worker)
        yield worker
        # Not after an error: answers that were not read would be taken for those of other sources.
        self._idle.append(worker)


class Worker:
    """A process that compiles one source after the other.

    Sources are sent before the answers to earlier ones are read, so that the process has work while
    the layer's thread does something else. No more than the pipe holds: sending then never waits
    for a process that waits for its answer to be read.

    Args:
        command: the interpreter's command line.
        env: its whole environment.

    Raises:
        ToolError: the interpreter does not start.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        self._by_hand = f"{' '.join(command)} -c pass"
        self._asked: deque[tuple[str, int]] = deque()  # path, and pages of the pipe
        try:
            self._process = subprocess.Popen(
                [*command, str(_WORKER), str(tar_header.MTIME)],
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # it has a child, which is ended with it
            )
        except OSError as error:
            raise ToolError(
                f"the image's Python does not start: {error}",
                remedy="it is in the download cache: if that is mounted noexec, choose another "
                "directory with --cache DIR",
            ) from error
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("the worker was started with pipes")
        self._requests, self._answers = self._process.stdin, self._process.stdout
        self._room = _widened(self._requests)
        _widened(self._answers)

    def takes(self, path: str, source: bytes) -> bool:
        """Return whether a source can be sent now; if not, read an answer first."""
        return not self._asked or _pages(path, source) <= self._room

    def ask(self, path: str, source: bytes) -> None:
        """Send a source that `takes` allows.

        Args:
            path: absolute path of the source in the image.
            source: its bytes.
        """
        name = path.encode(errors="surrogateescape")
        head = len(name).to_bytes(4, "big") + len(source).to_bytes(4, "big")
        pages = _pages(path, source)
        self._asked.append((path, pages))
        self._room -= pages
        with suppress(BrokenPipeError):  # `answer` reports it
            self._requests.write(head + name + source)
            self._requests.flush()

    def answer(self) -> bytes:
        """Return the `.pyc` of the earliest source without an answer; empty if it does not compile.

        Templates and old syntax do not compile.

        Raises:
            ToolError: the interpreter died.
        """
        path, pages = self._asked.popleft()
        self._room += pages
        length = self._answers.read(4)
        code = self._answers.read(int.from_bytes(length, "big"))
        if len(length) < 4 or len(code) < int.from_bytes(length, "big"):
            raise ToolError(
                f"the image's Python died with status {self._process.wait()} while compiling "
                f"{path}",
                remedy=f"try it by hand: {self._by_hand}",
            )
        return code

    def end(self) -> None:
        """Kill the process."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


def _widened(pipe: IO[bytes]) -> int:
    """Widen a pipe as far as the system lets every user; return how many pages it holds."""
    with suppress(OSError):  # the user has many pipes
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)
    return fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) // mmap.PAGESIZE


def _pages(path: str, source: bytes) -> int:
    """Return the most pages of a pipe that a request takes up: it may be written in two pieces."""
    return (8 + 4 * len(path) + len(source)) // mmap.PAGESIZE + 2


def compiled(entries: Iterable[Entry], compiler: Compiler) -> Iterator[Entry]:
    """Yield the entries, each Python source in an import path followed by its byte code.

    Byte code among the entries is dropped: it was made for other times and paths. The byte code of
    links to sources among the entries comes last.

    Raises:
        ToolError: the interpreter does not start or died.
    """
    with compiler.worker() as worker:
        waiting: deque[_Step] = deque()
        for step in _steps(entries):
            if step.source is not None:
                while not worker.takes(step.path, step.source):
                    yield from _done(waiting.popleft(), worker)
                worker.ask(step.path, step.source)
            waiting.append(step)
            while waiting and (waiting[0].source is None or len(waiting) > _AHEAD):
                yield from _done(waiting.popleft(), worker)
        while waiting:
            yield from _done(waiting.popleft(), worker)


class _Step(NamedTuple):
    """One entry to pass on, and the source to compile.

    Attributes:
        entry: the entry; None for a link, which was passed on before.
        path: absolute path of the source in the image.
        source: its bytes; None for an entry that is not compiled.
    """

    entry: Entry | None
    path: str = ""
    source: bytes | None = None


def _steps(entries: Iterable[Entry]) -> Iterator[_Step]:
    sources: dict[str, Entry] = {}
    links: dict[str, str] = {}
    for entry in entries:
        imported = entry.path.startswith(_COMPILED)
        if imported and is_code(entry.path):
            continue
        if entry.kind == "file" and entry.path.endswith(".py"):
            sources[entry.path] = entry
        elif imported and entry.kind == "symlink" and entry.path.endswith(".py"):
            links[entry.path] = posixpath.normpath(
                posixpath.join("/", posixpath.dirname(entry.path), entry.target)
            ).lstrip("/")
        if imported and entry.path in sources:
            source = _source(entry)
            yield _Step(of_bytes(entry.path, source, entry.mode), f"/{entry.path}", source)
        else:
            yield _Step(entry)
    for link, target in links.items():
        if target in sources:
            yield _Step(None, f"/{link}", _source(sources[target]))


def _done(step: _Step, worker: Worker) -> Iterator[Entry]:
    if step.entry is not None:
        yield step.entry
    if step.source is not None and (code := worker.answer()):
        yield of_bytes(code_path(step.path.lstrip("/")), code)


def _source(entry: Entry) -> bytes:
    with entry.open() as stream:
        return stream.read()


def is_code(path: str) -> bool:
    """Return whether a file is byte code, which is dropped from wheels: the image has its own."""
    return "/__pycache__/" in path and path.endswith(".pyc")


def code_path(source: str) -> str:
    """Return the path of a source's byte code."""
    directory, _, name = source.rpartition("/")
    return f"{directory}/__pycache__/{name.removesuffix('.py')}.{_TAG}.pyc"
