"""Where FlashInfer keeps the kernels that it compiles: `FLASHINFER_WORKSPACE_BASE`."""

import logging
import os
from collections.abc import MutableMapping
from pathlib import Path

log = logging.getLogger("roll_runtime")

Environ = MutableMapping[str, str]


def choose(environ: Environ, initial: str = "", shared: Path | None = None) -> str | None:
    """Choose `FLASHINFER_WORKSPACE_BASE` for this worker; `None` leaves FlashInfer's default.

    The operator's own value is kept: the one in the environment unless it is only ROLL's or
    SGLang's default, else the one that the interpreter started with. Without one, a warm cache
    in the image's directory of caches or in SGLang's is shared by all workers; else each worker,
    by its WORKER_NAME, gets a directory of its own: FlashInfer locks what it compiles, but writes
    sources and build files before it has the lock.

    Args:
        environ: the environment at engine start.
        initial: the variable's value when the interpreter started.
        shared: the image's directory of caches; `None` if there is none.
    """
    current = environ.get("FLASHINFER_WORKSPACE_BASE", "")
    name = environ.get("WORKER_NAME", "")
    common = str(shared / "flashinfer") if shared else Path.home().as_posix()
    own = str(shared / f"flashinfer-{name.replace('/', '_')}") if shared else _rolls_base(environ)
    defaults = {_rolls_base(environ), _sglang_base(environ), own, common, ""}
    for value in (current, initial):
        if value not in defaults:
            return value
    for base in (common, _sglang_base(environ)):
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
    if name:
        return own
    return common if shared else current or None


def _rolls_base(environ: Environ) -> str:
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
