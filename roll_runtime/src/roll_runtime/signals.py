"""Signal handlers off the main thread.

SGLang up to 0.5.9 calls `signal.signal` at engine start, which Python allows on the main thread
alone; a Ray async actor runs elsewhere. Only the name `signal` of SGLang's engine module is
replaced: the process's own `signal` module is unchanged.
"""

import logging
import signal
import threading
import types
from typing import Any

log = logging.getLogger("roll_runtime")


class ThreadAwareSignal(types.ModuleType):
    """Stands for the module `signal`; registers handlers on the main thread alone."""

    __roll_runtime__ = True

    def __init__(self) -> None:
        super().__init__("signal", "The module signal, safe off the main thread (roll_runtime).")

    def __getattr__(self, name: str) -> Any:
        return getattr(signal, name)

    def signal(self, signum: int, handler: Any) -> Any:
        """Register a handler as `signal.signal` does; off the main thread, log and continue."""
        if threading.current_thread() is threading.main_thread():
            return signal.signal(signum, handler)
        log.info(
            "%s: no handler off the main thread (a Ray actor). If a child of the engine fails, "
            "this process ends by that signal; the cause is in the child's log above.",
            signal.Signals(signum).name,
        )
        return signal.getsignal(signum)
