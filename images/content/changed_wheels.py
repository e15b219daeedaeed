"""Which wheels of a target are changed as they are installed, by the rules of the matrix."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from images import format_numbers, image_paths
from images.errors import MatrixError
from images.formats.libraries import served_gpus
from images.inputs.lock.distribution import Distribution
from images.inputs.lock.target_lock import Lock

if TYPE_CHECKING:
    from images.formats.wheel_changes import Changes, Rules
    from images.inputs.matrix.change_rules import LeftOut

_ONLY_SOME = (
    "correct the entry, or restrict it with `sglang:` or `cuda:` to the targets that it is for"
)


def check(lock: Lock) -> None:
    """Refuse rules about distributions that the target does not have.

    Raises:
        MatrixError: there is one.
    """
    idle = [f"{place}: {key}: the target has no {name}" for place, key, name in lock.idle_rules()]
    if idle:
        raise MatrixError("\n".join(idle), remedy=_ONLY_SOME)


def inputs(lock: Lock, items: Iterable[Distribution]) -> dict[str, Any]:
    """Return what decides about the changes to some distributions, for a layer's key."""
    items = tuple(items)
    names = {item.name for item in items}
    found: dict[str, Any] = {}
    if gpu_code := [[one.name, one.licence] for one in lock.gpu_code if one.name in names]:
        served = served_gpus.served_by(lock.gpus)
        found["gpu_code"] = [format_numbers.GPU_CODE, *served, *gpu_code]
    if debug := [[one.name, one.licence] for one in lock.debug_sections if one.name in names]:
        found["debug_sections"] = [format_numbers.GPU_CODE, *debug]
    if paths := not_installed(lock, items):
        found["not_installed"] = [format_numbers.GPU_CODE, *paths]
    return found


def not_installed(lock: Lock, items: Iterable[Distribution]) -> list[list[str]]:
    """Return the rules about files of some distributions that are not installed, for a key."""
    names = {item.name for item in items}
    return sorted(
        [one.distribution, one.path] for one in lock.left_out if one.distribution in names
    )


def installed_members(lock: Lock, item: Distribution, members: Iterable[str]) -> list[str]:
    """Return the members of a wheel that are installed, sorted; all are below site-packages."""
    from images.formats import wheel_changes

    paths = [wheel_changes.pattern(one.path) for one in _left_out(lock, item)]
    return [
        member
        for member in sorted(members)
        if not any(path.fullmatch(f"{image_paths.SITE_PACKAGES}/{member}") for path in paths)
    ]


def rules(lock: Lock, item: Distribution) -> Rules | None:
    """Return the changes to a distribution; None if it is installed as it is published."""
    from images.formats.wheel_changes import Rules

    code = [one.licence for one in lock.gpu_code if one.name == item.name]
    debug = [one.licence for one in lock.debug_sections if one.name == item.name]
    served = served_gpus.served_by(lock.gpus) if code else None
    unused = tuple(one.path for one in _left_out(lock, item))
    if not (served or debug or unused):
        return None
    return Rules(served, next(iter((*code, *debug)), ""), unused, debug=not debug)


def notes(lock: Lock, item: Distribution) -> dict[str, str]:
    """Return what is changed of a distribution, for an SBOM; empty if nothing is."""
    found = {}
    if any(one.name == item.name for one in lock.gpu_code):
        majors, newest = served_gpus.served_by(lock.gpus)
        kept = ", ".join(f"{major}.x" for major in majors)
        found["gpu_code"] = f"machine code for {kept}; PTX up to {newest // 10}.{newest % 10}"
    if any(one.name == item.name for one in lock.debug_sections):
        found["debug_sections"] = "left out"
    if paths := [path for _, path in not_installed(lock, [item])]:
        found["left_out"] = " ".join(paths)
    return found


def all_notes(lock: Lock) -> dict[str, dict[str, str]]:
    """Return the notes of all distributions that are changed, by name."""
    every = {item.name: notes(lock, item) for item in lock.distributions}
    return {name: found for name, found in every.items() if found}


def parameters(lock: Lock) -> dict[str, Any]:
    """Return the rules by which the distributions of a target are changed, for its provenance."""
    found: dict[str, Any] = {}
    if lock.gpu_code:
        licences = {one.name: one.licence for one in lock.gpu_code}
        found["gpu_code"] = {"gpus": list(lock.gpus), "distributions": licences}
    if lock.debug_sections:
        found["debug_sections"] = {one.name: one.licence for one in lock.debug_sections}
    if lock.left_out:
        found["left_out"] = [path for _, path in not_installed(lock, lock.distributions)]
    return found


def check_used(lock: Lock, item: Distribution, changes: Changes) -> None:
    """Refuse a rule that leaves out nothing of a distribution whose files have passed.

    Raises:
        MatrixError: there is one.
    """
    idle = [one for one in _left_out(lock, item) if one.path in changes.idle]
    if idle:
        lines = (f"{one.location}: {item.name} {item.version} has no {one.path}" for one in idle)
        raise MatrixError("\n".join(lines), remedy=_ONLY_SOME)


def _left_out(lock: Lock, item: Distribution) -> list[LeftOut]:
    return [one for one in lock.left_out if one.distribution == item.name]
