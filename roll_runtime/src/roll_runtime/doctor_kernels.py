"""Checks of compiled kernels: those of the image, and the caches of what is compiled besides."""

import os
from collections.abc import Iterator
from pathlib import Path

from roll_runtime import caches, compiled, image_kernels
from roll_runtime.findings import Check, Status


def check_kernels() -> Iterator[Check]:
    """Report which kernels the image has."""
    counts = image_kernels.found()
    listed = ", ".join(f"{count} for {name}" for name, count in counts.items())
    found = listed or "none: they are compiled when an engine starts"
    yield Check("kernels in the image", Status.OK, found)


def check_caches() -> Iterator[Check]:
    """Report where compiled kernels are kept, and whether that can be written and is warm."""
    wanted = caches.configured(os.environ)
    folder = wanted / caches.image_name()
    reason = caches.why_unusable(folder)
    if reason:
        yield Check(
            "kernel caches",
            Status.WARN,
            f"{wanted} cannot be used ({reason}); a directory below the temporary files is",
            f"Make it writable for uid {os.getuid()}, or set {caches.SETTING} to a directory that "
            "is.",
        )
    else:
        yield Check("kernel caches", Status.OK, f"{folder}, {_warmth(folder)}")


def _warmth(folder: Path) -> str:
    counts = compiled.count(folder)
    listed = ", ".join(f"{count} for {name}" for name, count in counts.items())
    return f"warm: {listed}" if listed else "cold: nothing has been compiled yet"
