"""The installed SGLang's version, and whether it is supported."""

import importlib
import importlib.metadata
import logging
import os
import sys

from roll_runtime import versions

log = logging.getLogger("roll_runtime")

ALLOW_UNTESTED = "ROLL_RUNTIME_ALLOW_UNTESTED"
"""Set to 1, an unsupported SGLang is patched all the same, with a warning."""


def sglang_version() -> str:
    """Return SGLang's version, or `unknown`.

    Where `sglang` is already imported, its own `sglang/version.py` is read (it is also right
    for a source tree); else the installed metadata, because importing sglang takes seconds.
    """
    if "sglang" in sys.modules:
        try:
            version = importlib.import_module("sglang.version").__version__
        except (ImportError, AttributeError):
            version = getattr(sys.modules["sglang"], "__version__", None)
        if isinstance(version, str):
            return version
    try:
        return importlib.metadata.version("sglang")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def may_patch(version: str) -> bool:
    """Return whether this version is patched: supported, or untested and allowed."""
    return versions.is_supported(version) or os.environ.get(ALLOW_UNTESTED) == "1"


def require_supported(version: str) -> None:
    """Refuse an SGLang that roll_runtime was not tested with.

    Raises:
        NotImplementedError: the version is not in the table and not allowed by
            `ROLL_RUNTIME_ALLOW_UNTESTED=1`.
    """
    if versions.is_supported(version):
        return
    if os.environ.get(ALLOW_UNTESTED) != "1":
        raise NotImplementedError(versions.unsupported_message(version))
    log.warning(
        "SGLang %s is not among the tested versions (%s); going on because %s=1.",
        version,
        ", ".join(versions.SUPPORTED),
        ALLOW_UNTESTED,
    )
