"""The post-import hook, loaded from roll_runtime.pth in every interpreter of an image.

Kept to what start-up needs: one finder, a look at the user's name and HOME, imports of modules that
are always loaded. The patches themselves (``patch.py``) are imported when SGLang's engine is.
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

#: Modules whose import is followed by a patch; ``patch.py`` holds the patch of each.
TARGETS = frozenset(
    {
        "sglang.jit_kernel.activation",
        "sglang.srt.entrypoints.engine",
        "sglang.srt.layers.quantization.fp8",
        "sglang.srt.managers.io_struct",
        "sglang.srt.managers.scheduler",
        "sglang.srt.server_args",
        "roll.third_party.sglang",
        "roll.distributed.strategy.sglang_strategy",
    }
)

#: What the environment held when the interpreter started. ROLL and SGLang 0.5.18 overwrite it
#: later, and then the operator's own value could no longer be told from theirs.
INITIAL_FLASHINFER_BASE = os.environ.get("FLASHINFER_WORKSPACE_BASE", "")


class Finder:
    """A ``sys.meta_path`` finder that lets the others find, then follows the import."""

    def __init__(self) -> None:
        self._busy: set[tuple[int, str]] = set()

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "Any":
        """Return the spec that the other finders give, with its loader followed; else ``None``."""
        if name not in TARGETS:
            return None
        # Another finder of this kind may ask all finders, so this one, again.
        asking = (get_ident(), name)
        if asking in self._busy:
            return None
        self._busy.add(asking)
        try:
            spec = self._ask_others(name, path, target)
        finally:
            self._busy.discard(asking)
        if spec is not None and spec.loader is not None:
            _follow(spec.loader, name)
        return spec

    def _ask_others(self, name: str, path: "Any", target: "Any") -> "Any":
        for finder in sys.meta_path:
            find_spec = getattr(finder, "find_spec", None)
            if finder is self or find_spec is None:
                continue
            spec = find_spec(name, path, target)
            if spec is not None:
                return spec
        return None


def _follow(loader: "Any", name: str) -> None:
    """Wrap ``exec_module`` on this loader object alone; its type and source stay as they are."""
    exec_module = loader.exec_module
    running = set()

    def exec_and_patch(module: "Any") -> None:
        from roll_runtime import patch

        if id(module) in running:
            # A proxy (wrapt's, for one) passed our assignment on to the loader that it wraps, and
            # now calls it: the code itself is due.
            loader.__class__.exec_module(loader, module)
            return
        running.add(id(module))
        try:
            patch.execute(name, module, exec_module)
        finally:
            running.discard(id(module))

    loader.exec_module = exec_and_patch


def install() -> None:
    """Put the finder first on ``sys.meta_path``; again and again is the same as once."""
    if not any(type(finder) is Finder for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder())


def _has_user() -> bool:
    """Tell whether the user has a name and a HOME to write in; else ``user.py`` sees to it.

    Passwd is asked only where no variable names the user, and by a user whom it does not know.
    """
    environ = os.environ
    home = environ.get("HOME")
    if not home or not os.access(home, os.W_OK | os.X_OK):
        return False
    name = environ.get("USER") or environ.get("LOGNAME")
    if name:
        # Such a name was given by a parent's user.py: getpwuid is to answer here as well.
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
