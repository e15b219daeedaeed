"""The changes of files that make a release of SGLang a target. Nothing is written here."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from images.errors import LockError
from images.inputs.lock import target_lock
from images.inputs.lock.target_lock import Lock
from images.inputs.matrix.load import load
from images.inputs.matrix.records import Matrix, Target
from images.inputs.release import default_entries, insertions, runtime
from images.inputs.release import row as rows
from images.inputs.release.published import Release
from images.inputs.release.row import Row
from images.inputs.resolve import target_locks
from images.repository import RUNTIME_DOCUMENT, SGLANG_VERSIONS, WHEELS_LOCK

_CARRIED = ("flavours", "gpus")
"""Keys that a new row takes from the row of the nearest older release."""

_RESCUING = ("requirements", "constraints", "overrides", "exclude_newer_package", "sdists",
             "misrecorded")  # fmt: skip
"""Keys that it takes from a neighbour where it does not lock without them."""


@dataclass(frozen=True, slots=True)
class Supported:
    """The files of `roll_runtime` with a release added, and notes of its contract."""

    files: dict[Path, str]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Proposal:
    """A new row with its locks.

    Attributes:
        row: the row.
        files: the new text of each file, locks first and the matrix last.
        lock: of the plain target.
        questions: what a person must decide or check.
    """

    row: Row
    files: dict[Path, str]
    lock: Lock
    questions: tuple[str, ...]


def supported(release: Release, wheel: Path) -> Supported:
    """Return the files of `roll_runtime` with a release, whose sources pass the contract.

    Raises:
        ContractError: they do not pass; the message names each symbol and its file.
    """
    table = SGLANG_VERSIONS.read_text(encoding="utf-8")
    missing: list[str] = []
    for fp8 in dict.fromkeys((insertions.has_fp8(table, release.version), False)):
        text = insertions.release_line(table, release.version, fp8=fp8)
        with runtime.with_versions(text) as tried:
            faults, notes = tried.contract(wheel)
            missing = missing or faults
            if faults:
                continue
            document = tried.document(RUNTIME_DOCUMENT.read_text(encoding="utf-8"))
        lock = insertions.wheel_line(WHEELS_LOCK.read_text(encoding="utf-8"), release)
        files = {SGLANG_VERSIONS: text, WHEELS_LOCK: lock, RUNTIME_DOCUMENT: document}
        lost = [f"block FP8 on load is refused, as it would need: {fault}" for fault in missing]
        return Supported(_changed(files), (*lost, *notes))
    raise runtime.ContractError(
        f"SGLang {release.version} does not have what roll_runtime relies on; nothing was written:"
        + "".join(f"\n  {fault}" for fault in missing),
        remedy="adapt the hook in roll_runtime/src/roll_runtime/_hooks.py and its check in "
        f"contract.py, then: python build.py propose sglang=={release.version}",
    )


def make(matrix: Matrix, row: Row, roll_runtime: Supported, cache: Path) -> Proposal:
    """Return the proposal of a row: it is locked with as little as it needs of its neighbours.

    Args:
        matrix: the matrix.
        row: the new row, with nothing copied from another one.
        roll_runtime: the files of `roll_runtime` that list the release.
        cache: the download cache.

    Raises:
        LockError: it cannot be locked.
        MatrixError: the matrix with the row is not valid, e.g. no compiler serves its CUDA.
    """
    with tempfile.TemporaryDirectory(prefix="propose-") as temporary:
        trial = _Trial(matrix, roll_runtime, Path(temporary), cache)
        locked, questions = trial.lock(row)
        locked, lost = trial.lock_flavours(locked)
        return trial.finished(locked, [*questions, *lost])


class _Trial:
    """A matrix with a new row, and its locks, in a temporary directory."""

    def __init__(
        self, matrix: Matrix, roll_runtime: Supported, directory: Path, cache: Path
    ) -> None:
        self._matrix = matrix
        self._runtime = roll_runtime
        self._directory = directory
        self._cache = cache
        self._text = matrix.path.read_text(encoding="utf-8")
        self._versions = directory / SGLANG_VERSIONS.name
        table = roll_runtime.files.get(SGLANG_VERSIONS) or SGLANG_VERSIONS.read_text("utf-8")
        self._versions.write_text(table, encoding="utf-8")

    def lock(self, row: Row) -> tuple[Row, list[str]]:
        """Lock a row, with what a neighbour's row has where it does not lock without."""
        first = LockError(f"{row.id}: not locked")
        for number, (donor, tried) in enumerate(self._attempts(row)):
            trial = self._load(tried.text())
            try:
                target_locks.write(trial, trial.target(row.id), self._cache)
            except LockError as error:
                first = first if number else error
                continue
            if donor is None:
                return tried, []
            cause = first.message.strip().splitlines()[-1].strip()
            return tried, [
                f"copied from {donor.id}, as it does not lock without ({cause}): check that each "
                "entry and its reason hold for this release"
            ]
        raise first.reworded(
            remedy=f"{first.remedy}; another cut-off date: --exclude-newer DATE; or write the row "
            "by hand: docs/matrix.md"
        )

    def lock_flavours(self, row: Row) -> tuple[Row, list[str]]:
        """Lock the flavours of a row; one that does not lock leaves the row without flavours."""
        trial = self._load(row.text())
        try:
            for target in trial.targets:
                if target.engine == row.id:
                    target_locks.write(trial, target, self._cache)
        except LockError as error:
            bare = "".join(
                line for line in row.rest.splitlines(True) if not line.startswith("    flavours:")
            )
            return replace(row, rest=f"    flavours: []\n{bare}"), [
                f"without flavours, as one does not lock: {error.message}"
            ]
        return row, []

    def finished(self, row: Row, questions: Sequence[str]) -> Proposal:
        """Return the proposal of a locked row."""
        trial = self._load(row.text())
        lock = target_lock.read(trial, trial.target(row.id))
        older, newer = rows.neighbours(self._matrix, row.sglang)
        near = older or newer
        budget = rows.budget(_weight(lock), near, self._weight_of(near))
        trial = self._load(row.text(budget))
        locks = {
            self._matrix.lock_path(target.id): trial.lock_path(target.id).read_text("utf-8")
            for target in trial.targets
            if row.id in (target.id, target.engine)
        }
        files = {**locks, **self._runtime.files, self._matrix.path: self._with(row.text(budget))}
        entries = default_entries.questions(self._matrix, lock)
        return Proposal(row, files, lock, (*questions, *entries, *self._contents(lock, near)))

    def _attempts(self, row: Row) -> Iterator[tuple[Target | None, Row]]:
        older, newer = rows.neighbours(self._matrix, row.sglang)
        always = insertions.blocks(self._text, older.line, _CARRIED) if older else ""
        yield None, replace(row, rest=always)
        for donor in (older, newer):
            rescue = insertions.blocks(self._text, donor.line, _RESCUING) if donor else ""
            if rescue:
                yield donor, replace(row, rest=always + rescue)

    def _load(self, row: str) -> Matrix:
        path = self._directory / self._matrix.path.name
        path.write_text(self._with(row), encoding="utf-8")
        return replace(load(path, self._versions), locks=self._directory)

    def _with(self, row: str) -> str:
        """Return the text of the matrix with a row at its place: rows are in order of SGLang."""
        version = next(
            line.partition(": ")[2] for line in row.splitlines() if "sglang: " in line[:12]
        )
        older, newer = rows.neighbours(self._matrix, version)
        if older is None and newer is not None:
            return insertions.before_row(self._text, newer.line, row)
        place = older.line if older is not None else len(self._text.splitlines())
        return insertions.after_row(self._text, place, row)

    def _weight_of(self, target: Target | None) -> int | None:
        try:
            return _weight(target_lock.read(self._matrix, target)) if target else None
        except LockError:
            return None

    def _contents(self, lock: Lock, near: Target | None) -> list[str]:
        """Return what the lock has and that of a neighbour has not, and the other way round."""
        try:
            before = target_lock.read(self._matrix, near) if near else None
        except LockError:
            return []
        if before is None or near is None:
            return []
        names, others = ({item.name for item in one.distributions} for one in (lock, before))
        pairs = ((f"not in {near.id}", names - others), (f"in {near.id} alone", others - names))
        return [f"distributions {what}: {', '.join(sorted(some))}" for what, some in pairs if some]


def _weight(lock: Lock) -> int:
    return sum(item.artifact.size for item in lock.distributions)


def _changed(files: dict[Path, str]) -> dict[Path, str]:
    return {path: text for path, text in files.items() if path.read_text("utf-8") != text}
