"""The wheel tags that the image can install, and which of several wheels is best for it."""

from __future__ import annotations

from functools import cache

from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import BuildTag, parse_wheel_filename

from images import image_paths

PLATFORM = "x86_64-manylinux_2_36"
"""The platform that wheels are chosen for, in uv's words: the glibc of Debian bookworm."""

_GLIBC = (2, 36)


def fits(filename: str) -> bool:
    """Return whether a wheel of that file name can be installed in the image.

    Raises:
        packaging.utils.InvalidWheelFilename: it is not the name of a wheel.
    """
    return preference(filename) is not None


def preference(filename: str) -> tuple[int, BuildTag] | None:
    """Return a sort key by which pip prefers wheels: best tag, then highest build.

    Returns:
        None if the wheel does not fit the image.
    """
    ranked = ranks()
    _, _, build, tags = parse_wheel_filename(filename)
    fitting = [ranked[tag] for tag in tags if tag in ranked]
    return (-min(fitting), build) if fitting else None


@cache
def ranks() -> dict[Tag, int]:
    """Return the rank of each wheel tag that the image can install, 0 for the best one.

    See PEP 425 and PEP 600.
    """
    manylinux = [f"manylinux_2_{minor}_x86_64" for minor in range(_GLIBC[1], 4, -1)]
    legacy = {17: "manylinux2014_x86_64", 12: "manylinux2010_x86_64", 5: "manylinux1_x86_64"}
    platforms = ["linux_x86_64"]
    for platform in manylinux:
        platforms.append(platform)
        minor = int(platform.split("_")[2])
        platforms += [legacy[minor]] if minor in legacy else []
    version = tuple(int(part) for part in image_paths.PYTHON.split("."))
    tags = [
        *cpython_tags(version, platforms=platforms),
        *compatible_tags(version, f"cp{''.join(image_paths.PYTHON.split('.'))}", platforms),
    ]
    found: dict[Tag, int] = {}
    for rank, tag in enumerate(tags):
        found.setdefault(tag, rank)
    return found
