"""Where FlashInfer keeps the kernels that it compiles: `FLASHINFER_WORKSPACE_BASE`."""

import logging
import os
from collections.abc import MutableMapping
from pathlib import Path

log = logging.getLogger("roll_runtime")

Environ = MutableMapping[str, str]


def choose(environ: Environ, initial: str = "") -> str | None:
    """Choose `FLASHINFER_WORKSPACE_BASE` for this worker; `None` leaves FlashInfer's default.

    The operator's own value is kept: the one in the environment unless it is only ROLL's or
    SGLang's default, else the one that the interpreter started with. Without one, a warm cache
    below HOME or SGLang's cache directory is shared by all workers (FlashInfer locks each kernel);
    else each worker, by its WORKER_NAME, gets the directory that ROLL would set.

    Args:
        environ: the environment at engine start.
        initial: the variable's value when the interpreter started.
    """
    current = environ.get("FLASHINFER_WORKSPACE_BASE", "")
    defaults = {_worker_base(environ), _sglang_base(environ), ""}
    for value in (current, initial):
        if value not in defaults:
            return value
    for base in (Path.home().as_posix(), _sglang_base(environ)):
        if not is_warm(base):
            continue
        if _is_writable(base):
            return base
        log.warning(
            "The compiled FlashInfer kernels below %s cannot be used, because that directory is "
            "not writable for uid %d: this worker compiles its own. Make it writable, or set "
            "FLASHINFER_WORKSPACE_BASE.",
            base,
            os.getuid(),
        )
    if environ.get("WORKER_NAME"):
        return _worker_base(environ)
    return current or None


def _worker_base(environ: Environ) -> str:
    """Return `~/.cache/<WORKER_NAME>`, the directory that ROLL sets for a worker."""
    return os.path.join(Path.home().as_posix(), ".cache", environ.get("WORKER_NAME", ""))  # noqa: PTH118


def _sglang_base(environ: Environ) -> str:
    """Return the base that SGLang 0.5.18 and later set on import (`srt/environ.py`)."""
    configured = environ.get("SGLANG_CACHE_DIR") or "~/.cache/sglang"
    return os.path.expanduser(configured)  # noqa: PTH111


def is_warm(base: str) -> bool:
    """Return whether a FlashInfer base holds at least one compiled kernel.

    FlashInfer keeps them in `<base>/.cache/flashinfer/[<version>/]<arch>/cached_ops/<name>/`.
    """
    cache = Path(base) / ".cache" / "flashinfer"
    patterns = ("*/cached_ops/*/*.so", "*/*/cached_ops/*/*.so")
    return any(True for pattern in patterns for _ in cache.glob(pattern))


def _is_writable(base: str) -> bool:
    # FlashInfer opens a log and takes a lock per kernel below it, also when nothing is compiled.
    return os.access(Path(base) / ".cache" / "flashinfer", os.W_OK | os.X_OK)
