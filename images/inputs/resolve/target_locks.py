"""Makes the lock of a target: uv resolves, and its choice is checked against the matrix."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from images.errors import LockError
from images.inputs.fetch import custom_wheels
from images.inputs.lock import target_lock
from images.inputs.lock.distribution import Distribution
from images.inputs.lock.target_lock import Lock
from images.inputs.resolve import pylock, sdists, uv
from images.util import atomic_file

if TYPE_CHECKING:
    from images.inputs.matrix.records import Matrix, Target

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def write(matrix: Matrix, target: Target, cache: Path) -> bool:
    """Resolve a target and write its lock; return whether the lock changed.

    Args:
        matrix: the matrix of the target.
        target: the target.
        cache: the download cache, which has the target's custom wheels.

    Raises:
        LockError: it does not resolve, a distribution has only an sdist and the matrix does not
            allow it, torch is built for another CUDA than the matrix says, or a flavour would
            change a version of its engine.
        FetchError: a custom wheel is not in the cache.
    """
    engine = target_lock.engine_of(matrix, target)
    with TemporaryDirectory(prefix="custom-wheels-") as directory:
        links = custom_wheels.linked(target, cache, Path(directory))
        found = _resolved(target, engine, links, cache)
    locked = _keeping_files(_distributions(found), engine)
    check(target, locked)
    built = {item.name for item in locked if not item.is_wheel}
    needs = sorted({pin for sdist in target.sdists if sdist.name in built for pin in sdist.build})
    build = _distributions(uv.resolve(uv.Request(needs, dependencies=False)) if needs else [])
    text = target_lock.text_of(target, engine, locked, build)
    path = matrix.lock_path(target.lock_id)
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    atomic_file.write_text(path, text)
    return True


def _resolved(
    target: Target, engine: Lock | None, links: Path | None, cache: Path
) -> list[pylock.Locked]:
    overrides = [_filled(pin.requirement, engine) for pin in target.overrides]
    kept = _kept(engine, overrides)
    request = uv.Request(
        [*target.requirements, *custom_wheels.requirements(target)],
        [*(pin.requirement for pin in target.constraints), *kept],
        overrides,
        target.exclude_newer,
        {item.name: item.date for item in target.package_dates},
        target.dependencies,
        links,
    )
    try:
        return sdists.resolve(request, [sdist.name for sdist in target.sdists], cache)
    except LockError as error:
        output = error.output if isinstance(error, uv.UvError) else ""
        if not any(pin in output for pin in kept):
            raise LockError(f"{target.id}: {error.message}", remedy=error.remedy) from None
        raise LockError(
            f"{target.id}: what the flavour {target.flavour!r} asks for does not fit the versions "
            f"of {target.engine}, which a flavour keeps:\n{error.message}",
            remedy=f"two ways out under `flavours: {target.flavour}:` in matrix.yaml: ask for "
            "another version of what conflicts; or add an override with its reason "
            "(`pin: NAME=={locked}` keeps the engine's version, `pin: NAME==VERSION` changes it)",
        ) from None


def _kept(engine: Lock | None, overrides: Sequence[str]) -> list[str]:
    """Return the engine's versions as constraints, except those that an override names."""
    if engine is None:
        return []
    free = {_name_of(requirement) for requirement in overrides}
    return [item.pin for item in engine.distributions if item.name not in free]


def _filled(override: str, engine: Lock | None) -> str:
    """Return an override with the engine's version in place of `{locked}`.

    Raises:
        LockError: the engine does not have the package.
    """
    if "{locked}" not in override or engine is None:
        return override
    name = _name_of(override)
    for item in engine.distributions:
        if item.name == name:
            return override.replace("{locked}", item.version)
    raise LockError(
        f"the override {override!r} keeps the engine's version of {name}, and its lock has none",
        remedy="remove the override, or restrict it with `sglang:` to the rows that have it",
    )


def _name_of(requirement: str) -> str:
    found = _NAME.match(requirement)
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""


def _distributions(found: list[pylock.Locked]) -> tuple[Distribution, ...]:
    return tuple(Distribution(item.name, item.version, item.artifact) for item in found)


def _keeping_files(
    locked: tuple[Distribution, ...], engine: Lock | None
) -> tuple[Distribution, ...]:
    """Return distributions, with the engine's file where the version is the engine's.

    The date of a flavour may admit a newer file of the same version.
    """
    files = {item.pin: item for item in engine.distributions} if engine else {}
    return tuple(files.get(item.pin, item) for item in locked)


def check(target: Target, locked: tuple[Distribution, ...]) -> None:
    """Check uv's choice against the matrix.

    Raises:
        LockError: an sdist that the matrix does not allow, a custom wheel that was not chosen, or
            torch for another CUDA.
    """
    allowed = {sdist.name for sdist in target.sdists}
    if surprises := [item.pin for item in locked if not item.is_wheel and item.name not in allowed]:
        raise LockError(
            f"{target.id}: no wheel fits the image for {', '.join(surprises)}",
            remedy="pin a version that has one, or list the distribution under `sdists:` in "
            "matrix.yaml with what its build needs",
        )
    custom_wheels.check(target, locked)
    for item in locked:
        if item.is_cuda_runtime:
            built_for = ".".join(item.version.split(".")[:2])
            if built_for != target.cuda:
                raise LockError(
                    f"{target.id}: torch {target.torch} is built for CUDA {built_for} "
                    f"({item.pin}), not for {target.cuda}",
                    remedy=f"write `cuda: {built_for!r}` in matrix.yaml, or another torch",
                )
