"""SGLang's activation kernel (SiLU, GELU), spelled so that the image's g++ compiles it.

SGLang compiles it on first use. In 0.5.12 the return type of one function in it is spelled such
that g++ 12 and older refuse it (sgl-project/sglang#26444 spells it otherwise), and Debian bookworm
has no newer one: every dense model would fail at its first batch. A copy with that one spelling
changed is compiled instead; where the spelling is not there, nothing is done.
"""

import functools
import hashlib
import logging
import os
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from roll_runtime import whole_files
from roll_runtime.marks import is_ours, mark

log = logging.getLogger("roll_runtime")

_REFUSED = "-> decltype(activation_kernel<ActivationKind::kSiLU, kFilterExpert>)"
_ACCEPTED = "-> decltype(&act_and_mul_kernel<T, ActivationKind::kSiLU, kUsePDL, kFilterExpert>)"


def patch_activation(module: ModuleType, version: str) -> None:
    """Let `sglang.jit_kernel.activation` compile corrected sources; idempotent."""
    load = module.load_jit
    if is_ours(load):
        return
    sources = Path(str(module.__file__)).parent / "csrc"

    @functools.wraps(load)
    def load_jit(*args: Any, cuda_files: "list[str] | None" = None, **kwargs: Any) -> Any:
        files = [corrected(sources, name) for name in cuda_files or []]
        return load(*args, cuda_files=files, **kwargs)

    module.load_jit = mark(load_jit)  # type: ignore[attr-defined]


def corrected(sources: Path, name: str) -> str:
    """Return the source to compile: `name` itself, or the absolute path of its corrected copy.

    SGLang joins the name to `sources`, so an absolute path stays as it is. The copy is in the
    cache of compiled kernels, in a directory named by its digest; where that cannot be written (a
    volume that is full, or read-only because it is warm), below the temporary files.

    Raises:
        OSError: it can be written in neither.
    """
    text = (sources / name).read_text(encoding="utf-8")
    if _REFUSED not in text:
        return name
    copy = text.replace(_REFUSED, _ACCEPTED).encode()
    cache = Path(os.environ.get("TVM_FFI_CACHE_DIR") or Path.home() / ".cache" / "tvm-ffi")
    path = cache / f"roll_runtime-{hashlib.sha256(copy).hexdigest()[:16]}" / Path(name).name
    if not whole_files.holds(path, copy):
        try:
            whole_files.write(path, copy)
        except OSError as error:
            log.debug("%s cannot be written: %s", path, error)
            path = Path(tempfile.mkdtemp(prefix="roll_runtime-")) / path.name
            whole_files.write(path, copy)
        log.debug("%s: corrected for g++ 12: %s", name, path)
    return str(path)
