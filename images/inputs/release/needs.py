"""The torch that a release of SGLang requires, and the CUDA that this torch is built for."""

from __future__ import annotations

from pathlib import Path

from installer.utils import parse_metadata_file
from packaging.requirements import Requirement

from images.errors import LockError
from images.formats import wheel_file
from images.inputs.lock.distribution import Distribution
from images.inputs.resolve import pylock, uv

_EXTRAS = ("", "srt")
"""The engine's dependencies are plain from 0.5.4 on, and an extra before."""


def torch_of(wheel: Path) -> str:
    """Return the version of torch that a wheel of SGLang pins.

    Raises:
        IntegrityError: it is not a valid wheel.
        LockError: it pins none, or several.
    """
    with wheel_file.opened(wheel, misrecorded=True) as opened:
        metadata = parse_metadata_file(opened.source.read_dist_info("METADATA"))
    wanted = map(Requirement, map(str, metadata.get_all("Requires-Dist", [])))
    pins = {str(item.specifier) for item in wanted if item.name == "torch" and _applies(item)}
    pin = pins.pop() if len(pins) == 1 else ""
    if not pin.startswith("==") or "," in pin or "*" in pin:
        raise LockError(
            f"{wheel.name}: its requirements pin no single version of torch",
            remedy="write the row by hand: docs/matrix.md",
        )
    return pin.removeprefix("==")


def cuda_of(torch: str, exclude_newer: str) -> str:
    """Return the CUDA version, `MAJOR.MINOR`, that a torch of the index is built for.

    Raises:
        LockError: torch does not resolve, or requires no CUDA runtime.
        ToolError: uv cannot be run.
    """
    for item in uv.resolve(uv.Request([f"torch=={torch}"], exclude_newer=exclude_newer)):
        if Distribution(item.name, item.version, item.artifact).is_cuda_runtime:
            return ".".join(item.version.split(".")[:2])
    raise LockError(
        f"torch=={torch} requires no CUDA runtime: it is not built for CUDA",
        remedy="use an index whose torch is built for CUDA",
    )


def _applies(item: Requirement) -> bool:
    return item.marker is None or any(
        item.marker.evaluate({**pylock.MARKERS, "extra": extra}) for extra in _EXTRAS
    )
