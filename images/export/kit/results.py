"""Results of a kit's images: their evidence, and which tests it lacks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from images.attest import evidence, evidence_check, verdict
from images.attest.evidence import FAILED, NOT_RUN, Evidence, Outcome, Proof, RollRun
from images.attest.evidence_check import GPU_SUITE, ROLL_SUITE
from images.errors import EvidenceError
from images.export.kit import document
from images.export.kit.document import Kit, KitTarget
from images.repository import ROOT
from images.util import output

GPU, ROLL = "GPU tests", "tests of ROLL"
"""The suites."""


@dataclass(frozen=True, slots=True)
class Results:
    """The evidence so far.

    Attributes:
        kit: the kit.
        directory: its directory, which may have evidence of an earlier machine.
        evidence: the output directory.
        with_roll: whether ROLL's own code runs.
    """

    kit: Kit
    directory: Path
    evidence: Path
    with_roll: bool

    def path(self, target: KitTarget) -> Path:
        """Return the path of a target's evidence."""
        return self.evidence / f"{target.id}.json"

    def read(self, target: KitTarget) -> Evidence | None:
        """Return the evidence of the image, of this run or one that came with the kit."""
        path = self.path(target)
        came_with_it = self.directory / document.EVIDENCE / path.name
        if not path.exists() and came_with_it.is_file():
            shutil.copyfile(came_with_it, path)
        try:
            found = evidence.read(path)
        except EvidenceError as error:
            path.replace(f"{path}.unreadable")
            output.message(f"{error.message}; it was renamed to {path}.unreadable")
            return None
        of_it = found and (found.image.target, found.image.manifest_digest)
        return found if of_it == (target.id, target.digest) else None

    def todo(self, target: KitTarget) -> list[str]:
        """Return the suites without a whole run that passed."""
        found = self.read(target)
        proofs = found.proofs if found else ()
        passed = any(_is_complete(proof, GPU_SUITE) for proof in proofs)
        todo = [] if passed and not self.failed(target, GPU) else [GPU]
        if self.with_roll and verdict.needs_roll(target.id):
            run = found.roll if found else None
            todo += [] if run and _is_complete(run, ROLL_SUITE) else [ROLL]
        return todo

    def failed(self, target: KitTarget, suite: str) -> bool:
        """Return whether a test of a suite failed, on whichever machine."""
        found = self.read(target)
        proofs = found.proofs if found else ()
        runs = proofs if suite == GPU else [proof.roll for proof in proofs if proof.roll]
        return any(run.count(FAILED) for run in runs)

    def modules(self, target: KitTarget, suite: str) -> list[str]:
        """Return the modules of a suite that the last run lacks, as pytest's arguments."""
        tests = self._last(target, suite)
        directories = self.kit.gpu_tests if suite == GPU else self.kit.roll_tests
        return list(_lacking(directories, tests))

    def _last(self, target: KitTarget, suite: str) -> Mapping[str, Outcome]:
        found = self.read(target)
        if found is None:
            return {}
        last = max(found.proofs, key=lambda proof: proof.date)
        run = last if suite == GPU else last.roll
        return run.tests if run else {}


def _is_complete(run: Proof | RollRun, directory: Path) -> bool:
    """Return whether a run was whole, and had all tests that `judge` asks for today."""
    return run.whole and evidence_check.suite(directory) <= set(map(evidence.base, run.tests))


def _lacking(directories: Sequence[str], tests: Mapping[str, Outcome]) -> Iterator[str]:
    again = (FAILED, NOT_RUN)
    bad = {evidence.base(name) for name, test in tests.items() if test.outcome in again}
    done = {evidence.base(name) for name in tests} - bad
    for directory in directories:
        wanted = evidence_check.suite(ROOT / directory)
        for module in sorted({name.partition("::")[0] for name in wanted}):
            own = {name for name in wanted if name.startswith(f"{module}::")}
            if not own <= done:
                yield f"{directory}/{module}"
