"""The SGLang versions that roll_runtime supports: the one table.

Read by the dispatch at engine import, by the builder's check of `matrix.yaml` (which loads this
file by its path) and by the documentation's generator. So this module imports the standard library
alone and nothing of its own package.
"""

import re
from typing import NamedTuple


class Release(NamedTuple):
    """One supported SGLang release.

    Attributes:
        version: the release as published, for example `0.5.6.post2`.
        fp8: whether bf16 weights can be quantised to block FP8 on load (see `fp8.py`).
        roll: whether ROLL's own dispatch (`roll/third_party/sglang/__init__.py` at 8eb27cc2)
            knows this version; where it does not, roll_runtime replaces it.
    """

    version: str
    fp8: bool
    roll: bool


RELEASES: tuple[Release, ...] = (
    Release("0.4.6.post1", fp8=False, roll=True),
    Release("0.4.6.post4", fp8=False, roll=True),
    Release("0.4.6.post5", fp8=False, roll=True),
    Release("0.4.10.post2", fp8=False, roll=True),
    Release("0.5.2", fp8=True, roll=True),
    Release("0.5.4.post2", fp8=True, roll=True),
    Release("0.5.5.post3", fp8=True, roll=True),
    Release("0.5.6.post2", fp8=True, roll=True),
    Release("0.5.7", fp8=True, roll=True),
    Release("0.5.8.post1", fp8=True, roll=False),
    Release("0.5.9", fp8=True, roll=False),
    Release("0.5.10.post1", fp8=True, roll=False),
    Release("0.5.12.post1", fp8=False, roll=False),
    Release("0.5.13.post1", fp8=False, roll=False),
    Release("0.5.15.post1", fp8=False, roll=False),
    Release("0.5.17", fp8=False, roll=False),
    Release("0.5.18", fp8=False, roll=False),
    Release("0.5.20", fp8=False, roll=False),
    Release("0.5.23", fp8=False, roll=False),
)
"""Oldest first. A release enters when its wheel passes `python -m roll_runtime contract`."""

SUPPORTED: tuple[str, ...] = tuple(release.version for release in RELEASES)
"""The supported version strings, oldest first."""

_LOCAL = re.compile(r"\+.*$")
_DEV = re.compile(r"\.?dev\d*$")
_POST = re.compile(r"(?:[.-]?post|-)(\d+)$")
_PRE = re.compile(r"[._-]?(a|b|c|rc|alpha|beta|pre|preview)[._-]?(\d*)$")


def base_version(version: str) -> str:
    """Strip what a rebuild adds: `v`, a local `+…` part and a `.devN` suffix.

    A source build of the tag 0.5.7 calls itself `0.5.7.dev1+g0123abc`; it holds 0.5.7's code.
    """
    text = _LOCAL.sub("", version.strip().lower())
    return _DEV.sub("", text.removeprefix("v"))


def version_key(version: str) -> tuple[int, ...]:
    """Return a sort key: four numbers of the release, then pre-release rank, then post number.

    Raises:
        ValueError: the text is no version.
    """
    text = base_version(version)
    post, rank = 0, 0
    if match := _POST.search(text):
        post, text = int(match[1]) + 1, text[: match.start()]
    if match := _PRE.search(text):
        rank, text = -1, text[: match.start()]
    parts = text.split(".")
    if not all(part.isdigit() for part in parts) or len(parts) > 4:
        raise ValueError(f"not an SGLang version: {version!r}")
    return (*map(int, parts), *(0,) * (4 - len(parts)), rank, post)


def in_range(version: str, since: str | None, before: str | None) -> bool:
    """Return whether `since <= version < before`; `None` leaves a side open."""
    key = version_key(version)
    if since is not None and key < version_key(since):
        return False
    return before is None or key < version_key(before)


def find_release(version: str) -> Release | None:
    """Return the table's row for a version, or `None` when it is not supported."""
    base = base_version(version)
    return next((release for release in RELEASES if release.version == base), None)


def is_supported(version: str) -> bool:
    """Return whether roll_runtime supports this SGLang version (local and dev parts ignored)."""
    return find_release(version) is not None


def nearest(version: str) -> str:
    """Return the supported version to move to: the newest not newer, else the oldest."""
    try:
        key = version_key(version)
    except ValueError:
        return SUPPORTED[-1]
    older = [item for item in SUPPORTED if version_key(item) <= key]
    return older[-1] if older else SUPPORTED[0]


def unsupported_message(version: str) -> str:
    """Return the text of the NotImplementedError for an unsupported version, with the remedy."""
    return (
        f"Scale aligner version sglang:{version} is not supported. "
        f"Supported: {', '.join(SUPPORTED)}. "
        f"Install the nearest one (`pip install sglang=={nearest(version)}`) or use the image "
        "built for it. To judge this version first, run `python -m roll_runtime contract "
        f"sglang-{base_version(version)}*.whl`; if that passes, ROLL_RUNTIME_ALLOW_UNTESTED=1 "
        "turns this error into a warning. ROLL_RUNTIME_AUTOLOAD=0 runs SGLang without roll_runtime."
    )
