"""A target's lock: the one file that each distribution of its image installs from.

`images/locks/<target>.txt` is a requirements file that pip and uv can read, one line a
distribution:

    torch==2.8.0 --hash=sha256:<hex>  # torch-2.8.0-cp311-cp311-manylinux_2_28_x86_64.whl 888063640

What an sdist's build needs is locked in the same file, in lines that pip and uv take for comments
(`# build setuptools==…`). No index is named, so the same lock works with any mirror. Reading it
needs no network and no uv.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from images import format_numbers
from images.errors import LockError
from images.inputs.lock import sealed_text
from images.inputs.lock.distribution import Distribution, line_of, parse_lines
from images.inputs.matrix.conflict_rules import Rule

if TYPE_CHECKING:
    from images.inputs.matrix.matrix import Matrix, Target


_BUILD = "# build "


@dataclass(frozen=True, slots=True)
class Lock:
    """What a target's lock holds.

    Attributes:
        distributions: what is installed in the image, sorted by name.
        build: what sdists are built with, sorted by name; not in the image for that.
        misrecorded: names of distributions whose RECORD is known to be wrong. The matrix says so;
            the file of a lock does not depend on it.
        added: names of distributions that a flavour adds to its engine's.
        compiled: names of the sdists that have C sources, as the matrix says.
        conflicts: who wins where two distributions bring one file, as the matrix says.
    """

    distributions: tuple[Distribution, ...]
    build: tuple[Distribution, ...]
    misrecorded: frozenset[str] = frozenset()
    added: frozenset[str] = frozenset()
    compiled: frozenset[str] = frozenset()
    conflicts: tuple[Rule, ...] = ()

    def of_engine(self) -> tuple[Distribution, ...]:
        """The distributions of the engine: all of a plain target's."""
        return tuple(item for item in self.distributions if item.name not in self.added)

    def of_flavour(self) -> tuple[Distribution, ...]:
        """The distributions that a flavour adds."""
        return tuple(item for item in self.distributions if item.name in self.added)


def inputs_of(target: Target, engine: str = "") -> str:
    """The digest of all that a target's lock is made from.

    Args:
        target: the target.
        engine: of a flavour, the digest of what its engine's lock lists.
    """
    on = {"engine": engine} if engine else {}
    return sealed_text.digest_of(
        {"format": format_numbers.TARGET_LOCK, **target.resolve_inputs(), **on}
    )


def text_of(
    target: Target,
    engine: Lock | None,
    installed: Iterable[Distribution],
    build: Iterable[Distribution],
) -> str:
    """The text of a target's lock.

    Args:
        target: the target.
        engine: of a flavour, its engine's lock.
        installed: what the image gets, sorted by name.
        build: what sdists are built with, sorted by name.
    """
    lines = [line_of(item) for item in installed] + [_BUILD + line_of(item) for item in build]
    return sealed_text.seal(inputs_of(target, _digest(engine)), lines)


def is_current(matrix: Matrix, target: Target) -> bool:
    """Whether a target's lock is there, whole, and made from what the matrix says."""
    try:
        read(matrix, target)
    except LockError:
        return False
    return True


def read(matrix: Matrix, target: Target) -> Lock:
    """A target's lock.

    Raises:
        LockError: the lock is missing, stale or was edited by hand; the error names the command
            that mends it.
    """
    path = matrix.lock_path(target.id)
    remedy = f"python build.py lock --target {target.id}"
    engine = engine_of(matrix, target)
    sealed = sealed_text.read(path, remedy=remedy)
    if sealed.inputs != inputs_of(target, _digest(engine)):
        raise LockError(
            f"{path}: lock is stale: {matrix.path.name}"
            f"{f' or the lock of {target.engine}' if target.engine else ''} changed since it was "
            "made",
            remedy=remedy,
        )
    build = [line.removeprefix(_BUILD) for line in sealed.lines if line.startswith(_BUILD)]
    installed = [line for line in sealed.lines if not line.startswith(_BUILD)]
    try:
        distributions = _with_places(parse_lines(installed), target)
        return Lock(
            distributions,
            parse_lines(build),
            target.misrecorded,
            _added(distributions, engine),
            frozenset(sdist.name for sdist in target.sdists if sdist.compiled),
            target.conflicts,
        )
    except ValueError as error:
        raise LockError(f"{path}: {error}", remedy=remedy) from error


def engine_of(matrix: Matrix, target: Target) -> Lock | None:
    """The lock of a flavour's engine; None of a plain target.

    Raises:
        LockError: as `read`; the error names the command that makes both locks.
    """
    if not target.engine:
        return None
    try:
        return read(matrix, matrix.target(target.engine))
    except LockError as error:
        remedy = f"{error.remedy} --target {target.id}"
        raise LockError(error.message, remedy=remedy) from None


def _with_places(
    distributions: tuple[Distribution, ...], target: Target
) -> tuple[Distribution, ...]:
    """Each own wheel with where the matrix names it; nothing is copied where there is none."""
    if not target.wheels:
        return distributions
    places = {wheel.sha256: wheel.place for wheel in target.wheels}
    return tuple(replace(item, own=places.get(item.artifact.sha256, "")) for item in distributions)


def _added(distributions: Iterable[Distribution], engine: Lock | None) -> frozenset[str]:
    """The names of a flavour's distributions that its engine does not have."""
    if engine is None:
        return frozenset()
    names = {item.name for item in engine.distributions}
    return frozenset(item.name for item in distributions if item.name not in names)


def _digest(engine: Lock | None) -> str:
    """The digest of what an engine's lock lists; "" of none."""
    if engine is None:
        return ""
    lines = [line_of(item) for item in (*engine.distributions, *engine.build)]
    return sealed_text.digest_of(lines)
