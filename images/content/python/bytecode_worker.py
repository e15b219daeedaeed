"""Compiles sources that come on standard input; run by the image's own interpreter.

    python bytecode_worker.py MTIME     what the image says of each source's modification time

Each request is a path and a source, each behind its length (4 bytes, big-endian); each answer is
the .pyc behind its length, of which 0 says that the source does not compile.
"""

import importlib
import os
import sys
import warnings
from typing import Any

# What `py_compile` uses; its own function reads and writes files.
bootstrap: Any = importlib.import_module("importlib._bootstrap_external")

_USED = 3  # a child's exit status: go on with a fresh one


def compiled(path: bytes, source: bytes, mtime: int) -> bytes:
    """The .pyc of a source that will lie at `path` with that time; empty on errors."""
    try:
        code = compile(
            source, path.decode(errors="surrogateescape"), "exec", dont_inherit=True, optimize=0
        )
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return b""
    return bytes(bootstrap._code_to_timestamp_pyc(code, mtime, len(source)))


def exactly(size: int) -> bytes:
    """That many bytes of standard input, and none of what is behind them: the next process's."""
    found = b""
    while len(found) < size and (piece := os.read(0, size - len(found))):
        found += piece
    return found


def serve(mtime: int) -> int:
    """Answer requests until standard input ends, or until the process is no longer as it began."""
    answers = sys.stdout.buffer
    modules = len(sys.modules)
    while head := exactly(8):
        size = int.from_bytes(head[:4], "big")
        request = exactly(size + int.from_bytes(head[4:], "big"))
        answer = compiled(request[:size], request[size:], mtime)
        try:
            answers.write(len(answer).to_bytes(4, "big") + answer)
            answers.flush()
        except BrokenPipeError:  # the builder was killed: nobody waits for the others
            return 0
        if not answer or len(sys.modules) != modules:
            return _USED
    return 0


def main(mtime: int) -> None:
    """Answer requests in a child process that is replaced when a source has left its mark on it.

    Byte code tells of the process that made it: marshal writes strings that are interned, and
    objects that something else refers to, in another way. What a source leaves behind in that way
    (a name of one letter, a codec) comes with an import (of unicodedata, of the codec).
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
