"""Ctrl-C: the first one ends the command with clean-up, the next one immediately."""

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
_SOON = 0.01  # seconds: by then the code that could not be interrupted has ended
_SHOW_CURSOR = "\x1b[?25h\n"  # and leave the line of a progress bar


def handle() -> None:
    """Handle Ctrl-C from now on, unless the process was started to ignore it."""
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, _raise)
        sys.unraisablehook = _again


def ending() -> None:
    """End the process at the next Ctrl-C: nothing is left to clean up."""
    if signal.getsignal(signal.SIGINT) is _raise:
        signal.signal(signal.SIGINT, _exit)


def _raise(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, _exit)
    raise KeyboardInterrupt


def _again(lost: UnraisableHookArgs) -> None:
    """Interrupt once more if the exception was lost, in code that no exception can leave."""
    if not isinstance(lost.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
        return
    signal.signal(signal.SIGINT, _raise)
    later = threading.Timer(_SOON, os.kill, (os.getpid(), signal.SIGINT))
    later.daemon = True
    later.start()


def _exit(_number: int, _frame: FrameType | None) -> None:
    """End the process: its files so far are complete, or have no name yet.

    Only system calls are used: the signal may have interrupted a write to the same stream.
    """
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            shown = _SHOW_CURSOR if sys.stderr.isatty() else ""
            os.write(sys.stderr.fileno(), f"{shown}interrupted again: ended at once\n".encode())
    os._exit(EXIT_CODE)
