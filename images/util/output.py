"""Output of the command line: results to standard output, messages to standard error.

A result that cannot be written fails the command: a script must not take a part of it for the
whole. A message that cannot be written is dropped: a log on a full disk must not end a build.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from images import printable
from images.errors import BuildError, OutputError, StoreError

_AGAIN = "free some space or write elsewhere, and run the same command again"


def prepare() -> None:
    """Let both streams accept any character, whatever their encoding.

    Characters that the encoding lacks and undecodable bytes of paths are shown as escapes.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def result(text: str, end: str = "\n") -> None:
    """Write a result to standard output.

    Raises:
        OutputError: it cannot be written.
        BrokenPipeError: its reader has closed it.
    """
    stream = _standard_output()
    with _written("standard output"):
        stream.write(printable.lines(text) + end)
        stream.flush()


def content(data: bytes, out: Path | None = None) -> None:
    """Write a document to a file, or byte for byte to standard output.

    Args:
        data: the document, in UTF-8.
        out: the file; standard output if None.

    Raises:
        OutputError: it cannot be written.
        BrokenPipeError: its reader has closed it.
    """
    if out is not None:
        with _written(str(out)):
            out.write_bytes(data)
        return
    stream = _standard_output()
    with _written("standard output"):
        if isinstance(stream, io.TextIOWrapper):
            stream.buffer.write(data)
        else:
            stream.write(data.decode())
        # The shell's prompt must start a new line; a file gets the document's bytes only.
        if stream.isatty():
            stream.write("\n")
        stream.flush()


def message(text: str, end: str = "\n") -> None:
    """Write a message to standard error, if that is possible.

    Raises:
        BrokenPipeError: its reader has closed it.
    """
    write_line(sys.stderr, text, end)


def write_line(stream: TextIO | None, text: str, end: str = "\n") -> None:
    """Write a message to a stream, if that is possible.

    Raises:
        BrokenPipeError: its reader has closed it.
    """
    if stream is None:  # closed before this program started
        return
    try:
        # In one write: another thread's line could come between two.
        stream.write(printable.lines(text) + end)
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError:
        pass


def refused(error: OSError) -> BuildError:
    """Translate an error of the system that no stage has translated."""
    paths = [os.fsdecode(name) for name in (error.filename, error.filename2) if name is not None]
    where = f"{' -> '.join(paths)}: " if paths else ""
    message = f"{where}{error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(
            message, remedy="free some space on that disk, and run the same command again"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return BuildError(message, remedy="make it writable for this user, or name another path")
    return BuildError(message)


def finish() -> None:
    """Drop what could not be written: Python would report the error again when it exits."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except OSError:
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _standard_output() -> TextIO:
    if sys.stdout is None:
        raise OutputError("standard output is closed", remedy="run the same command without >&-")
    return sys.stdout


@contextmanager
def _written(where: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(
            f"{where}: not written in full: {error.strerror}", remedy=_AGAIN
        ) from error
