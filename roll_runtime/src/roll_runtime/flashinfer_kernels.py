"""The image's kernels for FlashInfer 0.2.5, which has no directory of compiled ones in its package.

Later releases load `data/aot/NAME/NAME.so` of their package by themselves; what they compile goes
through a class that 0.2.5 does not have.
"""

import functools
import logging
from types import ModuleType
from typing import Any

from roll_runtime import image_kernels
from roll_runtime.marks import is_ours, mark

log = logging.getLogger("roll_runtime")


def patch_core(module: ModuleType, version: str) -> None:
    """Let `flashinfer.jit.core` load the image's kernels; idempotent.

    Args:
        module: `flashinfer.jit.core`, executed. The package's other modules import its function by
            name, after this.
        version: SGLang's version.
    """
    upstream = getattr(module, "load_cuda_ops", None)
    folder = image_kernels.directory("flashinfer")
    if hasattr(module, "JitSpec") or upstream is None or folder is None:
        return
    if is_ours(upstream):
        return

    @functools.wraps(upstream)
    def load_cuda_ops(name: str, *args: Any, **kwargs: Any) -> Any:
        library = folder / name / f"{name}.so"
        if not library.is_file():
            return upstream(name, *args, **kwargs)
        operations = vars(module)["torch"].ops
        # As torch's own loader does what is not a Python module.
        operations.load_library(str(library))
        return getattr(operations, name)

    module.load_cuda_ops = mark(load_cuda_ops)  # type: ignore[attr-defined]
    log.debug("FlashInfer's kernels are looked for in %s", folder)
