"""The row of matrix.yaml that a release gets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from packaging.version import Version

from images.errors import UsageError
from images.inputs.matrix import rules
from images.inputs.matrix.records import Matrix, Target
from images.util.progress import size

_DAYS = 5
"""From a release to its cut-off date: late enough for the fixes of what it pins, early enough for
the versions that it was tried with."""

_STEP = 50_000_000


@dataclass(frozen=True, slots=True)
class CutOff:
    """The date up to which files are used.

    Attributes:
        text: as the matrix has it.
        why: the reason.
        early: whether it is less than the usual number of days after the release.
    """

    text: str
    why: str
    early: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """The values of a row; `rest` are lines copied from another row."""

    id: str
    sglang: str
    torch: str
    cuda: str
    cut_off: CutOff
    rest: str = ""

    def text(self, budget: tuple[str, str] | None = None) -> str:
        """Return the lines of the row; a budget has its size and its reason."""
        allowed = (
            f"    budget:\n      size: {budget[0]}\n      why: {budget[1]}\n" if budget else ""
        )
        return (
            f"  - id: {self.id}\n    sglang: {self.sglang}\n    torch: {self.torch}\n"
            f'    cuda: "{self.cuda}"\n{allowed}    exclude_newer:\n'
            f"      date: {self.cut_off.text}\n      why: {self.cut_off.why}\n{self.rest}"
        )


def new_id(matrix: Matrix, torch: str, sglang: str) -> str:
    """Return the id of a new row, with the release's suffix if it is not the first of its release.

    Raises:
        UsageError: other rows have all ids that it may have.
    """
    taken = {target.id: target for target in matrix.targets}
    possible = rules.target_ids(torch, sglang)
    for found in possible:
        if found not in taken:
            return found
    raise UsageError(
        f"SGLang {sglang} with torch {torch} would be {possible[-1]}, which is the id of SGLang "
        f"{taken[possible[-1]].sglang}",
        remedy="propose another release, or replace that row by hand: docs/matrix.md",
    )


def cut_off(version: str, uploaded: datetime, now: datetime, given: str | None = None) -> CutOff:
    """Return the cut-off date of a release: five days after it, but not in the future.

    A date in the future would give another lock on each day until then.

    Raises:
        UsageError: the given date is none, is in the future or before the release.
    """
    if given is not None:
        wrong, full = rules.cut_off(given)
        moment = datetime.fromisoformat(full.replace("Z", "+00:00")) if not wrong else now
        if wrong or not uploaded < moment <= now:
            raise UsageError(
                wrong or f"{given} is in the future, or before {version} was uploaded: {uploaded}",
                remedy="give a date between the two: --exclude-newer 2026-11-04",
            )
        return CutOff(given, f"chosen when {version} was proposed")
    day = (uploaded + timedelta(days=_DAYS)).replace(hour=0, minute=0, second=0, microsecond=0)
    if day <= now:
        why = f"five days after {version}; later, most of the web stack has moved on untested"
        return CutOff(day.strftime("%Y-%m-%d"), why)
    moment = now.astimezone(timezone.utc)
    why = f"when {version} was proposed, less than five days after its release"
    return CutOff(moment.strftime("%Y-%m-%dT%H:%M:%SZ"), why, early=True)


def neighbours(matrix: Matrix, version: str) -> tuple[Target | None, Target | None]:
    """Return the plain targets of the nearest older and the nearest newer release.

    Raises:
        UsageError: the matrix has a row of this release.
    """
    plain = [target for target in matrix.targets if not target.flavour]
    if same := next((target for target in plain if target.sglang == version), None):
        raise UsageError(
            f"SGLang {version} is a target already: {same.id} ({matrix.path.name}:{same.line})",
            remedy=f"python build.py --target {same.id}",
        )
    key = Version(version)
    older = [target for target in plain if Version(target.sglang) < key]
    newer = [target for target in plain if Version(target.sglang) > key]
    return (
        max(older, key=lambda target: Version(target.sglang), default=None),
        min(newer, key=lambda target: Version(target.sglang), default=None),
    )


def budget(wheels: int, other: Target | None, its_wheels: int | None) -> tuple[str, str]:
    """Return a budget and its reason: that of another target and what the wheels weigh more.

    Without another target it is what all wheels weigh: an image in zstd is smaller.
    """
    if other is None or other.budget is None or its_wheels is None:
        found, of = wheels, "the size of all its wheels"
    else:
        found = other.budget.size + max(wheels - its_wheels, 0)
        more = f" and {size(wheels - its_wheels)} of wheels more" if wheels > its_wheels else ""
        of = f"the budget of {other.id}{more}"
    steps = -(-found // _STEP)
    text = f"{steps * _STEP / 1e9:.2f}".rstrip("0").rstrip(".")
    return f"{text}GB", f"not measured; estimated from {of}"
