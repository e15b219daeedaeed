"""Where FlashInfer keeps the kernels that it compiles: `FLASHINFER_WORKSPACE_BASE`."""

import logging
import os
import re
from collections.abc import Collection, MutableMapping
from pathlib import Path

log = logging.getLogger("roll_runtime")

Environ = MutableMapping[str, str]


def choose(
    environ: Environ,
    initial: str = "",
    shared: Path | None = None,
    gpus: Collection[tuple[int, int]] | None = None,
) -> str | None:
    """Choose `FLASHINFER_WORKSPACE_BASE` for this worker; `None` leaves FlashInfer's default.

    The operator's own value is kept: the one in the environment unless it is only ROLL's or
    SGLang's default, else the one that the interpreter started with. Without one, a cache that
    is warm for these GPUs is shared by all workers: the one in the image's directory of caches, or
    in an SGLANG_CACHE_DIR of the operator's. SGLang's default one is other images' as well, so it
    counts only where there is no directory of caches. Else each worker, by its WORKER_NAME, gets a
    directory of its own: FlashInfer locks what it compiles, but writes sources and build files
    before it has the lock.

    Args:
        environ: the environment at engine start.
        initial: the variable's value when the interpreter started.
        shared: the image's directory of caches; `None` if there is none.
        gpus: the compute capabilities of the GPUs; `None` if they are not known.
    """
    current = environ.get("FLASHINFER_WORKSPACE_BASE", "")
    name = environ.get("WORKER_NAME", "")
    common = str(shared / "flashinfer") if shared else Path.home().as_posix()
    own = str(shared / f"flashinfer-{name.replace('/', '_')}") if shared else _rolls_base(environ)
    # SGLang's own is its default's even after `caches` has set SGLANG_CACHE_DIR.
    defaults = {_rolls_base(environ), _sglang_base(environ), _sglang_base({}), own, common, ""}
    for value in (current, initial):
        if value not in defaults:
            return value
    bases = [common]
    if shared is None or environ.get("SGLANG_CACHE_DIR"):
        bases.append(_sglang_base(environ))
    for base in bases:
        if not is_warm(base, gpus):
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


def is_warm(base: str, gpus: Collection[tuple[int, int]] | None = None) -> bool:
    """Return whether a FlashInfer base holds at least one kernel that was compiled for such a GPU.

    FlashInfer keeps them in `<base>/.cache/flashinfer/[<version>/]<arch>/cached_ops/<name>/`, where
    `<arch>` is such as `90` or `90a_100a`.

    Args:
        base: the directory.
        gpus: compute capabilities; any kernel counts if they are not known.
    """
    cache = Path(base) / ".cache" / "flashinfer"
    numbers = {f"{major}{minor}" for major, minor in gpus or ()}
    return any(
        gpus is None or numbers & set(re.findall(r"\d+", kernel.parts[-4]))
        for pattern in ("*/cached_ops/*/*.so", "*/*/cached_ops/*/*.so")
        for kernel in cache.glob(pattern)
    )


def _is_writable(base: str) -> bool:
    # FlashInfer opens a log and takes a lock per kernel below it, also when nothing is compiled.
    return os.access(Path(base) / ".cache" / "flashinfer", os.W_OK | os.X_OK)
