"""Byte code for the image's Python: deterministic `.pyc` files beside their sources.

They are of the unchecked-hash kind (PEP 552): Python takes them as they are, whatever the
source's time says, so a fixed modification time does not make it compile again at each start.
"""

from __future__ import annotations

import posixpath
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from images import layout
from images.entry import Entry, of_bytes
from images.errors import ToolError

FORMAT = "3"
"""Part of the key of every layer with byte code. Raise it when other bytes come out."""

_WORKER = Path(__file__).with_name("bytecode_worker.py")
_TAG = f"cpython-{layout.PYTHON.replace('.', '')}"
_COMPILED = (f"{layout.SITE_PACKAGES}/", f"usr/lib/python{layout.PYTHON}/", "usr/lib/python3/")


class Compiler:
    """Compiles with the image's interpreter, one process for each thread that asks.

    Use it as a context manager; leaving it ends the processes.

    Args:
        command: the interpreter's command line.
        env: its whole environment.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        self._command = [*command, str(_WORKER)]
        self._env = dict(env)
        self._local = threading.local()
        self._workers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Compiler:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            worker.kill()
            worker.communicate()

    def compile(self, path: str, source: bytes) -> bytes:
        """The `.pyc` of a source; empty when it does not compile (templates, old syntax).

        Args:
            path: absolute path that the source will have in the image.
            source: its bytes.

        Raises:
            ToolError: the interpreter does not start or died.
        """
        worker = self._worker()
        if worker.stdin is None or worker.stdout is None:
            raise AssertionError("the worker was started with pipes")
        name = path.encode(errors="surrogateescape")
        head = len(name).to_bytes(4, "big") + len(source).to_bytes(4, "big")
        try:
            worker.stdin.write(head + name + source)
            worker.stdin.flush()
            size = worker.stdout.read(4)
            code = worker.stdout.read(int.from_bytes(size, "big"))
        except BrokenPipeError:
            size = code = b""
        if len(size) < 4 or len(code) < int.from_bytes(size, "big"):
            raise ToolError(
                f"the image's Python died with status {worker.wait()} while compiling {path}",
                remedy=f"try it by hand: {' '.join(self._command[:-1])} -c pass",
            )
        return code

    def _worker(self) -> subprocess.Popen[bytes]:
        worker: subprocess.Popen[bytes] | None = getattr(self._local, "worker", None)
        if worker is None:
            try:
                worker = subprocess.Popen(
                    self._command,
                    env=self._env,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            except OSError as error:
                raise ToolError(f"the image's Python does not start: {error}") from error
            self._local.worker = worker
            self._workers.append(worker)
        return worker


def compiled(entries: Iterable[Entry], compiler: Compiler) -> Iterator[Entry]:
    """The entries, each Python source in an import path followed by its byte code.

    Byte code that came with the entries is dropped: it was made for other times and paths. The
    byte code of sources that are links to others of the entries comes last.
    """
    sources: dict[str, Entry] = {}
    links: dict[str, str] = {}
    for entry in entries:
        imported = entry.path.startswith(_COMPILED)
        if imported and "/__pycache__/" in entry.path and entry.path.endswith(".pyc"):
            continue
        if entry.kind == "file" and entry.path.endswith(".py"):
            sources[entry.path] = entry
        elif imported and entry.kind == "symlink" and entry.path.endswith(".py"):
            links[entry.path] = posixpath.normpath(
                posixpath.join("/", posixpath.dirname(entry.path), entry.target)
            ).lstrip("/")
        if imported and entry.path in sources:
            yield from _with_code(entry, compiler)
        else:
            yield entry
    for link, target in links.items():
        if target in sources and (code := compiler.compile(f"/{link}", _source(sources[target]))):
            yield of_bytes(_code_path(link), code)


def _with_code(entry: Entry, compiler: Compiler) -> Iterator[Entry]:
    source = _source(entry)
    yield of_bytes(entry.path, source, entry.mode)
    if code := compiler.compile(f"/{entry.path}", source):
        yield of_bytes(_code_path(entry.path), code)


def _source(entry: Entry) -> bytes:
    with entry.open() as stream:
        return stream.read()


def _code_path(source: str) -> str:
    directory, _, name = source.rpartition("/")
    return f"{directory}/__pycache__/{name.removesuffix('.py')}.{_TAG}.pyc"
