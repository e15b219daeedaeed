"""A program that compiles sources from standard input; the image's own interpreter runs it.

    python bytecode_worker.py MTIME     the modification time of each source in the image

Each request is a path and a source, each behind its length (4 bytes, big-endian); each answer is
the .pyc behind its length, which is 0 for a source that does not compile.
"""

import importlib
import os
import sys
import warnings
from typing import Any

# What `py_compile` uses; its own function reads and writes files.
bootstrap: Any = importlib.import_module("importlib._bootstrap_external")

_USED = 3  # exit status of a child that must be replaced


def compiled(path: bytes, source: bytes, mtime: int) -> bytes:
    """Return the .pyc of a source at `path` with that time; empty if it does not compile."""
    try:
        code = compile(
            source, path.decode(errors="surrogateescape"), "exec", dont_inherit=True, optimize=0
        )
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return b""
    return bytes(bootstrap._code_to_timestamp_pyc(code, mtime, len(source)))


def exactly(size: int) -> bytes:
    """Return `size` bytes of standard input and read no more: the rest is for the next process."""
    found = b""
    while len(found) < size and (piece := os.read(0, size - len(found))):
        found += piece
    return found


def serve(mtime: int) -> int:
    """Answer requests until standard input ends or a source has left its mark on this process.

    Returns:
        The exit status.
    """
    answers = sys.stdout.buffer
    modules = len(sys.modules)
    while head := exactly(8):
        size = int.from_bytes(head[:4], "big")
        request = exactly(size + int.from_bytes(head[4:], "big"))
        answer = compiled(request[:size], request[size:], mtime)
        try:
            answers.write(len(answer).to_bytes(4, "big") + answer)
            answers.flush()
        except BrokenPipeError:  # the builder was killed
            return 0
        if not answer or len(sys.modules) != modules:
            return _USED
    return 0


def main(mtime: int) -> None:
    """Answer requests in a child process that is replaced when a source has left its mark on it.

    Byte code depends on the process that makes it: marshal writes interned strings, and objects
    that something else refers to, in another way. A source that leaves such a thing behind (a name
    of one letter, a codec) also causes an import (of unicodedata, of the codec).
    """
    warnings.simplefilter("ignore")
    status = _USED
    while status == _USED:
        child = os.fork()
        if not child:
            os._exit(serve(mtime))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    sys.exit(status)


if __name__ == "__main__":
    main(int(sys.argv[1]))
