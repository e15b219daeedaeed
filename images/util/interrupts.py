"""What Ctrl-C does: the first one ends the command in order, the next one at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

EXIT_CODE = 130
_SOON = 0.01  # seconds: by then whatever could not be interrupted has gone on
_SHOW_CURSOR = "\x1b[?25h\n"  # and leave the line that a bar is drawn on


def handle() -> None:
    """Take Ctrl-C from now on; a process that was started to ignore it goes on doing so."""
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, _raise)
        sys.unraisablehook = _again


def ending() -> None:
    """Nothing is left to be put in order: the next Ctrl-C ends the process."""
    if signal.getsignal(signal.SIGINT) is _raise:
        signal.signal(signal.SIGINT, _exit)


def _raise(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, _exit)
    raise KeyboardInterrupt


def _again(lost: UnraisableHookArgs) -> None:
    """Interrupt once more where it came up in a place that nothing can be raised from."""
    if not isinstance(lost.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
        return
    signal.signal(signal.SIGINT, _raise)
    later = threading.Timer(_SOON, os.kill, (os.getpid(), signal.SIGINT))
    later.daemon = True
    later.start()


def _exit(_number: int, _frame: FrameType | None) -> None:
    """End the process: what it wrote so far is whole or has no name yet.

    By system calls alone: the signal may have come in the middle of a write to the same stream.
    """
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            shown = _SHOW_CURSOR if sys.stderr.isatty() else ""
            os.write(sys.stderr.fileno(), f"{shown}interrupted again: ended at once\n".encode())
    os._exit(EXIT_CODE)
