"""Evidence: the results of an image's tests on GPUs, in files beside the matrix.

A file is of one digest of one image, with a proof for each kind of machine. It names the GPUs and
the software of the machine, never the machine itself: no host, no user, no path.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from images.errors import EvidenceError
from images.util import limits, untrusted_files, untrusted_json

PASSED, FAILED, SKIPPED, NOT_RUN = "passed", "failed", "skipped", "not run"
_OUTCOMES = (PASSED, FAILED, SKIPPED, NOT_RUN)


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU: its name, its memory in GiB and its compute capability, e.g. `9.0`."""

    name: str
    memory_gib: float
    capability: str


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine that the image ran on.

    Attributes:
        gpus: the GPUs that it saw.
        driver: the NVIDIA driver's version, None if unknown.
        cuda: the newest CUDA that the driver supports, e.g. `13.0`.
        kernel: the release of the Linux kernel.
    """

    gpus: tuple[Gpu, ...]
    driver: str | None
    cuda: str
    kernel: str


@dataclass(frozen=True, slots=True)
class ImageId:
    """The image that was tested, and what it was made from."""

    target: str
    manifest_digest: str
    config_digest: str
    lock_digest: str
    roll_runtime: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one test: passed, failed, skipped or not run; seconds; why it was skipped."""

    outcome: str
    seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """One start of an engine.

    Attributes:
        seconds: by stage, such as `import` and `first token`.
        memory_mib: GPU memory in use, by moment; empty where it was not measured.
        compiled: by compiler, the number of kernels that it compiled meanwhile, and their names.
    """

    seconds: Mapping[str, float] = field(default_factory=dict)
    memory_mib: Mapping[str, int] = field(default_factory=dict)
    compiled: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RollRun:
    """A run of ROLL's own code in the image.

    Attributes:
        commit: of ROLL, its hexadecimal name.
        dirty: whether files that were used differed from the commit.
        date: when it last ran, RFC 3339, UTC.
        tests: by test id.
    """

    commit: str
    dirty: bool
    date: str
    tests: Mapping[str, Outcome]

    def after(self, old: RollRun | None) -> RollRun:
        """Return this run merged over an older one, which is dropped if its source differs."""
        if old is None or (old.commit, old.dirty) != (self.commit, self.dirty):
            return self
        return replace(self, tests={**old.tests, **self.tests})

    def within(self, suite: Collection[str]) -> RollRun:
        """Return this with exactly the tests of a suite: those without a result were not run."""
        return replace(self, tests=_within(self.tests, suite))

    @property
    def whole(self) -> bool:
        """Whether all tests were run of an unchanged commit, none failed and some passed."""
        missing = self.count(FAILED) + self.count(NOT_RUN)
        return bool(self.count(PASSED)) and not (missing or self.dirty)

    def count(self, outcome: str) -> int:
        """Return how many tests had an outcome."""
        return _count(self.tests, outcome)

    @property
    def name(self) -> str:
        """The name for users, e.g. `ROLL 8eb27cc2`."""
        return f"ROLL {self.commit[:8]}{', changed' if self.dirty else ''}"


@dataclass(frozen=True, slots=True)
class Proof:
    """The results of an image on one machine.

    Attributes:
        machine: the machine.
        how: `docker`, `rootfs`, or `rootfs, unpacked before`; then, if so, `, beside another
            image's tests`: its seconds are not those of a quiet machine.
        date: when it last ran, RFC 3339, UTC.
        tests: by test id.
        runs: by name, such as `off the main thread`.
        roll: the run of ROLL's own code, None where it was not run.
    """

    machine: Machine
    how: str
    date: str
    tests: Mapping[str, Outcome]
    runs: Mapping[str, Run]
    roll: RollRun | None = None

    @property
    def gpus(self) -> tuple[str, ...]:
        """The names of the GPUs: a file holds one proof for each such set of them."""
        return tuple(gpu.name for gpu in self.machine.gpus)

    def after(self, old: Proof) -> Proof:
        """Return this proof merged over an older one of the same machine; the newest result wins.

        One with another driver, or of another way to run the image, is dropped.
        """
        if (old.machine, old.how) != (self.machine, self.how):
            return self
        return replace(
            self,
            # A run of ROLL alone does not change when the other tests ran.
            date=self.date if self.tests or not old.tests else old.date,
            tests={**old.tests, **self.tests},
            runs={**old.runs, **self.runs},
            roll=self.roll.after(old.roll) if self.roll else old.roll,
        )

    def within(self, suite: Collection[str]) -> Proof:
        """Return this with exactly the tests of a suite: those without a result were not run.

        Args:
            suite: the ids of all its tests, without parameters.
        """
        return replace(self, tests=_within(self.tests, suite))

    def count(self, outcome: str) -> int:
        """Return how many tests had an outcome."""
        return _count(self.tests, outcome)

    @property
    def whole(self) -> bool:
        """Whether all tests were run, none failed and some passed."""
        return bool(self.count(PASSED)) and not (self.count(FAILED) or self.count(NOT_RUN))


@dataclass(frozen=True, slots=True)
class Evidence:
    """All evidence of one image.

    Attributes:
        image: the image.
        proofs: one for each set of GPUs, in the order of their names.
    """

    image: ImageId
    proofs: tuple[Proof, ...]

    def count(self, outcome: str) -> int:
        """Return how many tests had an outcome, those of ROLL's own code included."""
        rolls = [proof.roll for proof in self.proofs if proof.roll is not None]
        return sum(proof.count(outcome) for proof in self.proofs) + sum(
            run.count(outcome) for run in rolls
        )

    @property
    def tests(self) -> dict[str, Outcome]:
        """The tests by id on all machines together: some need two GPUs, which not all have."""
        return _together(proof.tests for proof in self.proofs)

    @property
    def roll(self) -> RollRun | None:
        """The tests of ROLL's own code on all machines together, of the source that ran last."""
        runs = [proof.roll for proof in self.proofs if proof.roll is not None]
        last = max(runs, key=lambda run: run.date, default=None)
        if last is None:
            return None
        same = [run.tests for run in runs if (run.commit, run.dirty) == (last.commit, last.dirty)]
        return replace(last, tests=_together(same))


def path_of(matrix: Path, target: str) -> Path:
    """Return the path of a target's evidence: `evidence/TARGET.json` beside the matrix file."""
    return matrix.parent / "evidence" / f"{target}.json"


def add(
    old: Evidence | None,
    image: ImageId,
    proof: Proof,
    suite: Collection[str],
    roll_suite: Collection[str] = (),
) -> Evidence:
    """Return evidence with a new proof; that of another image is dropped.

    Args:
        old: the evidence so far.
        image: the image of the proof.
        proof: the proof.
        suite: the ids of all tests that it should have, without parameters.
        roll_suite: those of ROLL's own code; empty if it did not run this time.
    """
    before = {item.gpus: item for item in old.proofs} if old and old.image == image else {}
    if proof.gpus in before:
        proof = proof.after(before[proof.gpus])
    if proof.roll is not None and roll_suite:
        proof = replace(proof, roll=proof.roll.within(roll_suite))
    before[proof.gpus] = proof.within(suite)
    return Evidence(image, _in_order(before.values()))


def read(path: Path) -> Evidence | None:
    """Return the evidence in a file; None if there is no file.

    Raises:
        EvidenceError: the file contains something else.
    """
    try:
        return _parse(untrusted_json.loads(untrusted_files.whole(path, limits.LIST)))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EvidenceError(
            f"{path}: not evidence of a GPU run: {error!r}",
            remedy="remove the file and run `python build.py test --gpu` on a machine with a GPU",
        ) from error


def _parse(value: Mapping[str, Any]) -> Evidence:
    proofs = _in_order([_parse_proof(proof) for proof in value["proofs"]])
    image = {name: _text(found) for name, found in value["image"].items()}
    return Evidence(ImageId(**image), proofs)


def _parse_proof(value: Mapping[str, Any]) -> Proof:
    machine = value["machine"]
    return Proof(
        machine=Machine(**{**machine, "gpus": tuple(map(_parse_gpu, machine["gpus"]))}),
        how=str(value["how"]),
        date=str(value["date"]),
        tests=_parse_tests(value["tests"]),
        runs={name: Run(**found) for name, found in value["runs"].items()},
        roll=_parse_roll(value["roll"]) if "roll" in value else None,
    )


def _parse_gpu(value: Mapping[str, Any]) -> Gpu:
    return Gpu(**{**value, "name": _text(value["name"])})


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r}: not a string")
    return value


def _parse_roll(value: Mapping[str, Any]) -> RollRun:
    return RollRun(
        commit=str(value["commit"]),
        dirty=bool(value["dirty"]),
        date=str(value["date"]),
        tests=_parse_tests(value["tests"]),
    )


def _parse_tests(value: Mapping[str, Any]) -> dict[str, Outcome]:
    tests = {name: Outcome(**found) for name, found in value.items()}
    for name, found in tests.items():
        if found.outcome not in _OUTCOMES:
            raise ValueError(f"{name}: {found.outcome!r}")
    return tests


def _in_order(proofs: Iterable[Proof]) -> tuple[Proof, ...]:
    return tuple(sorted(proofs, key=lambda proof: proof.gpus))


def write(path: Path, evidence: Evidence) -> None:
    """Write evidence, the same bytes for the same evidence.

    Raises:
        EvidenceError: the file cannot be written.
    """
    document = {
        "image": asdict(evidence.image),
        "proofs": [_proof(proof) for proof in _in_order(evidence.proofs)],
    }
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # By a rename: a run that is killed leaves the earlier file intact.
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as out:
            out.write(text)
        os.chmod(out.name, 0o644)  # noqa: PTH101
        Path(out.name).replace(path)
    except OSError as error:
        raise EvidenceError(
            f"{path}: cannot be written: {error.strerror}", remedy="choose another --evidence FILE"
        ) from error


def _proof(proof: Proof) -> dict[str, Any]:
    document: dict[str, Any] = {
        "machine": asdict(proof.machine),
        "how": proof.how,
        "date": proof.date,
        "tests": _tests(proof.tests),
        "runs": {name: asdict(proof.runs[name]) for name in sorted(proof.runs)},
    }
    if proof.roll is not None:
        document["roll"] = {**asdict(proof.roll), "tests": _tests(proof.roll.tests)}
    return document


def _tests(tests: Mapping[str, Outcome]) -> dict[str, Any]:
    return {name: _outcome(tests[name]) for name in sorted(tests)}


def _within(tests: Mapping[str, Outcome], suite: Collection[str]) -> dict[str, Outcome]:
    """Return exactly the tests of a suite: those without a result were not run."""
    kept = _without_superseded(
        {name: found for name, found in tests.items() if base(name) in suite}
    )
    had = {base(name) for name in kept}
    return {**kept, **{name: Outcome(NOT_RUN) for name in suite if name not in had}}


def _without_superseded(tests: Mapping[str, Outcome]) -> dict[str, Outcome]:
    """Return tests without a `not run` of a test that has results by its parameters."""
    parameterised = {base(name) for name in tests if name != base(name)}
    return {
        name: found
        for name, found in tests.items()
        if found.outcome != NOT_RUN or name not in parameterised
    }


def _together(machines: Iterable[Mapping[str, Outcome]]) -> dict[str, Outcome]:
    """Return the outcome of each test on all machines: a failure on one counts for all."""
    found: dict[str, Outcome] = {}
    for tests in machines:
        for name, outcome in tests.items():
            if name not in found or _rank(outcome) < _rank(found[name]):
                found[name] = outcome
    return found


def _rank(outcome: Outcome) -> int:
    return (FAILED, PASSED, SKIPPED, NOT_RUN).index(outcome.outcome)


def _count(tests: Mapping[str, Outcome], outcome: str) -> int:
    return sum(found.outcome == outcome for found in tests.values())


def _outcome(found: Outcome) -> dict[str, Any]:
    document = {"outcome": found.outcome, "seconds": found.seconds, "reason": found.reason}
    return {name: value for name, value in document.items() if value or name == "outcome"}


def base(name: str) -> str:
    """Return the id of a test without its parameters."""
    return name.partition("[")[0]
