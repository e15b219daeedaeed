"""The post-import hook, loaded from roll_runtime.pth in every interpreter of an image.

Limited to what start-up needs: one finder, a check of the user's name and HOME, imports of modules
that are always loaded. The patches themselves (`patch.py`) are imported when SGLang's engine is.
Spawned children start a fresh interpreter, read the .pth again and so are reached too, and their
children.
"""

import os
import sys
from _thread import get_ident

# See __init__.py: `typing` costs more than all of this.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

TARGETS = {
    "flashinfer.jit.core": "roll_runtime.flashinfer_kernels:patch_core",
    "sglang.srt.entrypoints.engine": "roll_runtime.engine:patch_engine",
    "sglang.jit_kernel.activation": "roll_runtime.jit:patch_activation",
    "sglang.jit_kernel.utils": "roll_runtime.jit_kernels:patch_utils",
    "sglang.kernels.jit.utils.compile": "roll_runtime.jit_kernels:patch_utils",
    "sglang.kernels.jit.utils.compile.loader": "roll_runtime.jit_kernels:patch_utils",
    "sglang.srt.layers.quantization.fp8": "roll_runtime.fp8:patch_fp8",
    "sglang.srt.managers.io_struct": "roll_runtime.records:patch_records",
    "sglang.srt.managers.scheduler": "roll_runtime.scheduler:patch_scheduler",
    "sglang.srt.server_args": "roll_runtime.records:patch_records",
    "roll.distributed.strategy.sglang_strategy": "roll_runtime.strategy:patch_strategy",
    "roll.third_party.sglang": "roll_runtime.roll:execute_dispatch",
}
"""The hooked modules, and the function that patches each after its import; the last one's executes
it (see `patch.execute`)."""

INITIAL_FLASHINFER_BASE = os.environ.get("FLASHINFER_WORKSPACE_BASE", "")
"""The value when the interpreter started. ROLL and SGLang 0.5.18 overwrite it later, and then the
operator's own value could no longer be distinguished from theirs."""


class Finder:
    """A `sys.meta_path` finder that lets the others find a module, then wraps its loader."""

    def __init__(self) -> None:
        self._busy: set[tuple[int, str]] = set()

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "Any":
        """Return the spec that the other finders return, with its loader wrapped; else `None`."""
        if name not in TARGETS:
            return None
        # Another finder of this kind may call all finders, so this one, again.
        search = (get_ident(), name)
        if search in self._busy:
            return None
        self._busy.add(search)
        try:
            spec = self._search_others(name, path, target)
        finally:
            self._busy.discard(search)
        if spec is not None and spec.loader is not None:
            _wrap(spec.loader, name)
        return spec

    def _search_others(self, name: str, path: "Any", target: "Any") -> "Any":
        for finder in sys.meta_path:
            find_spec = getattr(finder, "find_spec", None)
            if finder is self or find_spec is None:
                continue
            spec = find_spec(name, path, target)
            if spec is not None:
                return spec
        return None


def _wrap(loader: "Any", name: str) -> None:
    """Wrap `exec_module` on this loader object alone; its type and source are unchanged."""
    exec_module = loader.exec_module
    running = set()

    def exec_and_patch(module: "Any") -> None:
        from roll_runtime import patch

        if id(module) in running:
            # A proxy (wrapt's, for one) passed this assignment on to the loader that it wraps, and
            # now calls it: execute the code itself.
            loader.__class__.exec_module(loader, module)
            return
        running.add(id(module))
        try:
            patch.execute(name, module, exec_module)
        finally:
            running.discard(id(module))

    loader.exec_module = exec_and_patch


def install() -> None:
    """Put the finder first on `sys.meta_path`; idempotent."""
    if not any(type(finder) is Finder for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder())


def _has_user() -> bool:
    """Return whether the user has a name and a writable HOME; else `user.py` provides them.

    Passwd is read only where no variable names the user.
    """
    environ = os.environ
    home = environ.get("HOME")
    if not home or not os.access(home, os.W_OK | os.X_OK):
        return False
    name = environ.get("USER") or environ.get("LOGNAME")
    if name:
        # A parent's user.py set such a name: getpwuid must know it here as well.
        return name != f"uid{os.getuid()}"
    import pwd

    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        return False
    return True


install()
if not _has_user():
    from roll_runtime import user

    user.settle()
