"""Checks of kernels: the image's, those that would be downloaded, and caches of compiled ones."""

import os
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from roll_runtime import caches, compiled, image_kernels, nvml, served
from roll_runtime.findings import Check, Status

_REFUSES, _DIRECTORY = "FLASHINFER_NO_DOWNLOAD", "FLASHINFER_CUBIN_DIR"


def check_kernels() -> Iterator[Check]:
    """Report which kernels the image has."""
    counts = image_kernels.found()
    listed = ", ".join(f"{count} for {name}" for name, count in counts.items())
    found = listed or "none: they are compiled when an engine starts"
    yield Check("kernels in the image", Status.OK, found)


def check_downloads() -> Iterator[Check]:
    """Report whether FlashInfer would download kernels: those for Blackwell are ready-made."""
    flashinfer = _version("flashinfer-python")
    if not flashinfer:
        return
    name = "downloaded kernels"
    rule = f"{_REFUSES} refuses downloads" if os.environ.get(_REFUSES) else "it may download"
    blackwell = [one for one in nvml.capabilities() or served.served() if one[0] >= 10]
    if _version("flashinfer-cubin") == flashinfer:
        yield Check(name, Status.OK, f"FlashInfer's are in the image (flashinfer-cubin); {rule}")
    elif not blackwell:
        yield Check(name, Status.OK, f"FlashInfer asks for none on these GPUs; {rule}")
    elif folder := os.environ.get(_DIRECTORY):
        yield Check(name, Status.OK, f"FlashInfer's are in {folder} ({_DIRECTORY}); {rule}")
    else:
        yield Check(
            name,
            Status.WARN,
            "FlashInfer has ready-made kernels for compute capability 10.0 and later, the image "
            f"has none; {rule}",
            "Use backends that need none; or fill a directory (`flashinfer download-cubin`, with a "
            f"network and {_REFUSES} empty) and name it in {_DIRECTORY}.",
        )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


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
