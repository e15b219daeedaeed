"""The lock of a target: which file each distribution of its image is installed from.

`images/locks/<target>.txt` is a requirements file that pip and uv can read, one line a
distribution:

    torch==2.8.0 --hash=sha256:<hex>  # torch-2.8.0-cp311-cp311-manylinux_2_28_x86_64.whl 888063640

What an sdist's build needs is locked in the same file, in lines that pip and uv take for comments
(`# build setuptools==…`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from images import format_numbers
from images.errors import LockError
from images.inputs.lock import sealed_text
from images.inputs.lock.distribution import Distribution, line_of, parse_lines
from images.inputs.matrix.change_rules import LeftOut, Licensed
from images.inputs.matrix.conflict_rules import Rule
from images.util import sha256

if TYPE_CHECKING:
    from images.inputs.matrix.records import Matrix, Target


_BUILD = "# build "


@dataclass(frozen=True, slots=True)
class Lock:
    """The content of a target's lock, with what the matrix adds to it.

    Attributes:
        distributions: what is installed in the image, sorted by name.
        build: the requirements of building the sdists, sorted by name; not installed in the image.
        misrecorded: names of distributions whose RECORD is known to be wrong. They come from the
            matrix; the file of a lock does not depend on them.
        added: names of distributions that a flavour adds to those of its engine.
        compiled: names of the sdists that have C sources, from the matrix.
        conflicts: which distribution wins where two contain the same file, from the matrix.
        gpu_code: of which distributions only the GPU code for `gpus` is installed, from the matrix.
        debug_sections: of which distributions the libraries are installed without debug sections,
            from the matrix.
        gpus: compute capabilities of the GPUs that the image serves, from the matrix.
        left_out: files that are not installed, from the matrix.
    """

    distributions: tuple[Distribution, ...]
    build: tuple[Distribution, ...]
    misrecorded: frozenset[str] = frozenset()
    added: frozenset[str] = frozenset()
    compiled: frozenset[str] = frozenset()
    conflicts: tuple[Rule, ...] = ()
    gpu_code: tuple[Licensed, ...] = ()
    debug_sections: tuple[Licensed, ...] = ()
    gpus: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    def of_engine(self) -> tuple[Distribution, ...]:
        """Return the distributions of the engine: all of them for a plain target."""
        return tuple(item for item in self.distributions if item.name not in self.added)

    def of_flavour(self) -> tuple[Distribution, ...]:
        """Return the distributions that a flavour adds."""
        return tuple(item for item in self.distributions if item.name in self.added)

    def idle_rules(self) -> Iterator[tuple[str, str, str]]:
        """Yield place, key and distribution of each rule whose distribution is not in the lock."""
        rules = [("gpu_code", one.name, one.location) for one in self.gpu_code]
        rules += [("debug_sections", one.name, one.location) for one in self.debug_sections]
        rules += [("left_out", one.distribution, one.location) for one in self.left_out]
        names = {item.name for item in self.distributions}
        return ((place, key, name) for key, name, place in rules if name not in names)


def inputs_of(target: Target, engine: str = "") -> str:
    """Return the digest of a lock's inputs, for its seal.

    Args:
        target: the target.
        engine: for a flavour, the digest of the lines of its engine's lock.
    """
    on = {"engine": engine} if engine else {}
    return sha256.of_json({"format": format_numbers.TARGET_LOCK, **target.resolve_inputs(), **on})


def text_of(
    target: Target,
    engine: Lock | None,
    installed: Iterable[Distribution],
    build: Iterable[Distribution],
) -> str:
    """Return the text of a target's lock.

    Args:
        target: the target.
        engine: for a flavour, its engine's lock.
        installed: the distributions of the image, sorted by name.
        build: the requirements of building its sdists, sorted by name.
    """
    lines = [line_of(item) for item in installed] + [_BUILD + line_of(item) for item in build]
    return sealed_text.seal(inputs_of(target, _digest(engine)), lines)


def is_current(matrix: Matrix, target: Target) -> bool:
    """Return whether a target's lock exists, is intact, and was made from the current matrix."""
    try:
        read(matrix, target)
    except LockError:
        return False
    return True


def read(matrix: Matrix, target: Target) -> Lock:
    """Return a target's lock.

    Raises:
        LockError: the lock is missing, stale or was edited by hand; the error names the command
            that renews it.
    """
    path = matrix.lock_path(target.lock_id)
    remedy = f"python build.py lock --target {target.lock_id}"
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
            target.gpu_code,
            target.debug_sections,
            target.gpus,
            target.left_out,
        )
    except ValueError as error:
        raise LockError(f"{path}: {error}", remedy=remedy) from error


def engine_of(matrix: Matrix, target: Target) -> Lock | None:
    """Return the lock of a flavour's engine, or None for a plain target.

    Raises:
        LockError: as `read`; the error names the command that renews both locks.
    """
    if not target.engine:
        return None
    try:
        return read(matrix, matrix.target(target.engine))
    except LockError as error:
        remedy = f"{error.remedy} --target {target.lock_id}"
        raise LockError(error.message, remedy=remedy) from None


def _with_places(
    distributions: tuple[Distribution, ...], target: Target
) -> tuple[Distribution, ...]:
    """Return the distributions, with the lines of the matrix that name custom wheels.

    Most targets have no custom wheel: theirs are returned as they are, without a copy.
    """
    if not target.wheels:
        return distributions
    locations = {wheel.sha256: wheel.location for wheel in target.wheels}
    return tuple(
        replace(item, custom=locations.get(item.artifact.sha256, "")) for item in distributions
    )


def _added(distributions: Iterable[Distribution], engine: Lock | None) -> frozenset[str]:
    """Return the names of a flavour's distributions that its engine does not have."""
    if engine is None:
        return frozenset()
    names = {item.name for item in engine.distributions}
    return frozenset(item.name for item in distributions if item.name not in names)


def _digest(engine: Lock | None) -> str:
    """Return the digest of the lines of an engine's lock; "" if there is none."""
    if engine is None:
        return ""
    lines = [line_of(item) for item in (*engine.distributions, *engine.build)]
    return sha256.of_json(lines)
