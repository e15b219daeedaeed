"""What an image did on a GPU, kept beside the matrix: read, written, merged, judged.

A file holds for one digest of one image. It names the GPUs and the software of the machine, never
the machine: no host, no user, no path of it.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from images import jsontext
from images.errors import EvidenceError

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
    """What the image ran on.

    Attributes:
        gpus: the GPUs that it saw.
        driver: the NVIDIA driver's version, None where it did not tell.
        cuda: the newest CUDA that the driver serves, e.g. `13.0`.
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
    """How one test ended: passed, failed, skipped or not run; its seconds; why it was skipped."""

    outcome: str
    seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """One start of an engine.

    Attributes:
        seconds: by stage, such as `import` and `first token`.
        memory_mib: GPU memory in use, by moment; empty where it was not measured.
        compiled: by compiler, how many kernels it compiled meanwhile, and their names.
    """

    seconds: Mapping[str, float] = field(default_factory=dict)
    memory_mib: Mapping[str, int] = field(default_factory=dict)
    compiled: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of one image on one machine.

    Attributes:
        image: the image.
        machine: what it ran on.
        how: `docker`, `rootfs`, or `rootfs, unpacked before`.
        date: when it last ran, RFC 3339, UTC.
        tests: by test id.
        runs: by name, such as `off the main thread`.
    """

    image: ImageId
    machine: Machine
    how: str
    date: str
    tests: Mapping[str, Outcome]
    runs: Mapping[str, Run]

    def after(self, old: Evidence | None) -> Evidence:
        """This, on top of an older one of the same image on the same machine; newest wins.

        One of another image, machine or way to run it counts for nothing.
        """
        if old is None or (old.image, old.machine, old.how) != (
            self.image,
            self.machine,
            self.how,
        ):
            return self
        return replace(self, tests={**old.tests, **self.tests}, runs={**old.runs, **self.runs})

    def within(self, suite: Collection[str]) -> Evidence:
        """This, with exactly the tests of a suite: those without a result were not run.

        Args:
            suite: the ids of all its tests, without parameters.
        """
        kept = {name: found for name, found in self.tests.items() if _base(name) in suite}
        had = {_base(name) for name in kept}
        missing = {name: Outcome(NOT_RUN) for name in suite if name not in had}
        return replace(self, tests={**kept, **missing})


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an image is proven, and the words for it."""

    proven: bool
    text: str


def path_of(matrix: Path, target: str) -> Path:
    """Where the evidence of a target lies: `evidence/TARGET.json` beside the matrix file."""
    return matrix.parent / "evidence" / f"{target}.json"


def judge(evidence: Evidence | None, target: str, built: str | None) -> Verdict:
    """Say whether the image that is in the store is proven.

    Args:
        evidence: what there is, if anything.
        target: the target.
        built: the digest of its manifest in the store; None where it is not built. Then nothing is
            proven of it, and the words name the digest that the evidence is of.
    """
    if evidence is None:
        return Verdict(False, "no")
    if evidence.image.target != target:
        return Verdict(False, "no (of another target)")
    if built is not None and built != evidence.image.manifest_digest:
        return Verdict(False, "no (another digest)")
    outcomes = [found.outcome for found in evidence.tests.values()]
    for bad in (FAILED, NOT_RUN):
        if count := outcomes.count(bad):
            return Verdict(False, f"no ({count} {bad})")
    if PASSED not in outcomes:
        return Verdict(False, "no (nothing passed)")
    words = f"{_gpus(evidence.machine)}, {evidence.date[:10]}"
    if built is None:
        return Verdict(False, f"{evidence.image.manifest_digest[:19]}: {words}")
    return Verdict(True, words)


def _gpus(machine: Machine) -> str:
    names = [gpu.name.removeprefix("NVIDIA ") for gpu in machine.gpus]
    counted = {name: names.count(name) for name in names}
    return ", ".join(name if n == 1 else f"{n} x {name}" for name, n in counted.items())


def read(path: Path) -> Evidence | None:
    """The evidence in a file; None where there is no file.

    Raises:
        EvidenceError: it holds something else.
    """
    try:
        return _parse(jsontext.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EvidenceError(
            f"{path}: not evidence of a GPU run: {error!r}",
            remedy="remove the file, and run `python build.py test --gpu` on a machine with a GPU",
        ) from error


def _parse(value: Mapping[str, Any]) -> Evidence:
    machine = value["machine"]
    tests = {name: Outcome(**found) for name, found in value["tests"].items()}
    for name, found in tests.items():
        if found.outcome not in _OUTCOMES:
            raise ValueError(f"{name}: {found.outcome!r}")
    return Evidence(
        image=ImageId(**value["image"]),
        machine=Machine(**{**machine, "gpus": tuple(Gpu(**gpu) for gpu in machine["gpus"])}),
        how=str(value["how"]),
        date=str(value["date"]),
        tests=tests,
        runs={name: Run(**found) for name, found in value["runs"].items()},
    )


def write(path: Path, evidence: Evidence) -> None:
    """Write evidence; the same evidence gives the same bytes.

    Raises:
        EvidenceError: the file cannot be written.
    """
    document = {
        "image": asdict(evidence.image),
        "machine": asdict(evidence.machine),
        "how": evidence.how,
        "date": evidence.date,
        "tests": {name: _outcome(evidence.tests[name]) for name in sorted(evidence.tests)},
        "runs": {name: asdict(evidence.runs[name]) for name in sorted(evidence.runs)},
    }
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # By a rename: a run that is killed leaves the file before, whole.
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as out:
            out.write(text)
        os.chmod(out.name, 0o644)  # noqa: PTH101
        Path(out.name).replace(path)
    except OSError as error:
        raise EvidenceError(
            f"{path}: cannot be written: {error.strerror}", remedy="name another --evidence FILE"
        ) from error


def _outcome(found: Outcome) -> dict[str, Any]:
    document = {"outcome": found.outcome, "seconds": found.seconds, "reason": found.reason}
    return {name: value for name, value in document.items() if value or name == "outcome"}


def _base(name: str) -> str:
    return name.partition("[")[0]
