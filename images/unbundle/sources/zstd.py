"""zstd by what a machine has: Python itself, a libzstd, the bundle's own libzstd, or a program.

The library's interface is the stable streaming one of zstd 1.0 and later (zstd.h,
`ZSTD_decompressStream`); ctypes lets other threads run during its calls.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Callable, Iterator

from images.errors import IntegrityError, ToolError

Decompress = Callable[[Iterator[bytes]], Iterator["bytes | memoryview"]]
"""Compressed pieces to decompressed ones; raises IntegrityError if they are damaged."""

WAYS = ("python", "host", "carried", "program")
_CHUNK = 1 << 20


class _Buffer(ctypes.Structure):
    """`ZSTD_inBuffer` and `ZSTD_outBuffer`: address, size, and bytes that are done."""

    _fields_ = (("at", ctypes.c_void_p), ("size", ctypes.c_size_t), ("done", ctypes.c_size_t))


def find(carried: Path | None, carried_needs: str, only: str | None = None) -> Decompress:
    """Return the first decompressor that works here.

    Args:
        carried: the bundle's libzstd, if it has one and it is intact.
        carried_needs: what that needs of the machine, for people.
        only: one of WAYS, to try no other.

    Raises:
        ToolError: none works; the message lists what was tried.
    """
    tried = []
    ways: dict[str, Callable[[], Decompress | None]] = {
        "python": of_python,
        "host": of_host,
        "carried": lambda: of_library(str(carried)) if carried else None,
        "program": of_program,
    }
    for name in WAYS if only is None else (only,):
        try:
            found = ways[name]()
        except (OSError, AttributeError, ImportError) as error:
            tried.append(f"{name}: {error}")
            continue
        if found is not None:
            return found
        tried.append(f"{name}: not found")
    raise ToolError(
        "this machine cannot read zstd; tried:\n" + "\n".join(f"  {line}" for line in tried),
        remedy="install libzstd (Debian libzstd1, Fedora libzstd) or the program zstd, or use "
        f"Python 3.14; the libzstd.so.1 of a bundle needs {carried_needs}",
    )


def of_python() -> Decompress | None:
    """Return the decompressor of Python 3.14 or later."""
    from compression import zstd  # type: ignore[import-not-found,unused-ignore]  # 3.14 or later

    def decompress(pieces: Iterator[bytes]) -> Iterator[bytes]:
        frame = None
        try:
            for piece in pieces:
                while piece:
                    frame = frame or zstd.ZstdDecompressor()
                    yield frame.decompress(piece, _CHUNK)
                    while not (frame.eof or frame.needs_input):
                        yield frame.decompress(b"", _CHUNK)
                    piece = frame.unused_data if frame.eof else b""
                    frame = None if frame.eof else frame
        except zstd.ZstdError as error:
            raise _damaged(error) from error
        if frame is not None:
            raise _damaged("its end is missing")

    return decompress


def of_host() -> Decompress | None:
    """Return the decompressor of this machine's libzstd."""
    # find_library needs ldconfig or a compiler: without them the usual name may still work.
    name = ctypes.util.find_library("zstd") or "libzstd.so.1"
    return of_library(name)


def of_library(name: str) -> Decompress:
    """Return the decompressor of a libzstd, by its name or path."""
    library = ctypes.CDLL(name)
    buffer = ctypes.POINTER(_Buffer)
    library.ZSTD_createDStream.restype = ctypes.c_void_p
    library.ZSTD_freeDStream.argtypes = [ctypes.c_void_p]
    library.ZSTD_decompressStream.argtypes = [ctypes.c_void_p, buffer, buffer]
    library.ZSTD_decompressStream.restype = ctypes.c_size_t
    library.ZSTD_isError.argtypes = [ctypes.c_size_t]
    library.ZSTD_getErrorName.argtypes = [ctypes.c_size_t]
    library.ZSTD_getErrorName.restype = ctypes.c_char_p

    def decompress(pieces: Iterator[bytes]) -> Iterator[memoryview]:
        stream = library.ZSTD_createDStream()
        if not stream:
            raise MemoryError("ZSTD_createDStream")
        left = 0
        try:
            for piece in pieces:
                given = _Buffer(ctypes.cast(ctypes.c_char_p(piece), ctypes.c_void_p), len(piece), 0)
                # The library does not consume a frame's last byte before all output is taken.
                while given.done < given.size:
                    room = bytearray(_CHUNK)
                    memory = (ctypes.c_char * _CHUNK).from_buffer(room)
                    made = _Buffer(ctypes.addressof(memory), _CHUNK, 0)
                    left = library.ZSTD_decompressStream(stream, made, given)
                    if library.ZSTD_isError(left):
                        raise _damaged(library.ZSTD_getErrorName(left).decode())
                    if made.done:
                        yield memoryview(room)[: made.done]
        finally:
            library.ZSTD_freeDStream(stream)
        if left:
            raise _damaged("its end is missing")

    return decompress


def of_program() -> Decompress | None:
    """Return the decompressor of the program `zstd`; None if there is none."""
    program = shutil.which("zstd")
    if program is None:
        return None

    def decompress(pieces: Iterator[bytes]) -> Iterator[bytes]:
        with subprocess.Popen(
            [str(program), "-dcq"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as running:
            feeder = _Feeder(running, pieces)
            feeder.start()
            try:
                while True:
                    piece = running.stdout.read(_CHUNK) if running.stdout else b""
                    if not piece:
                        break
                    yield piece
            except GeneratorExit:
                running.kill()
                raise
            finally:
                feeder.join()
            message = running.stderr.read().decode(errors="replace") if running.stderr else ""
            if feeder.error is not None:
                raise feeder.error
            if running.wait():
                raise _damaged(message.strip())

    return decompress


class _Feeder(threading.Thread):
    """A thread that writes to a program, whose output must be read meanwhile: pipes are small."""

    def __init__(self, running: subprocess.Popen[bytes], pieces: Iterator[bytes]) -> None:
        super().__init__(daemon=True)
        self._running, self._pieces = running, pieces
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            if self._running.stdin:
                with self._running.stdin as stdin:
                    for piece in self._pieces:
                        stdin.write(piece)
        except BrokenPipeError:
            pass  # the program reports why it ended
        except BaseException as error:
            self.error = error


def _damaged(why: object) -> IntegrityError:
    return IntegrityError(f"damaged zstd: {why}")
