"""Verdicts on evidence: whether an image is proven, and a text for users.

Here by the digest and the results alone; `evidence_check.judge`, which users of evidence call,
checks suite and dates as well.
"""

from __future__ import annotations

from dataclasses import dataclass

from images.attest.evidence import FAILED, NOT_RUN, Evidence, Machine, RollRun
from images.inputs.matrix import gpus


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether evidence proves an image, and the reason.

    Attributes:
        proven: whether it proves the image that is built.
        runs: GPUs, date and ROLL's commit of the runs that passed; None unless the evidence proves
            its own image.
        fault: why the evidence proves nothing; None where there is no fault, or no evidence.
        image_digest: of the image that the evidence proves, where none is built.
        roll: the run of ROLL's own code.
    """

    proven: bool
    runs: str | None = None
    fault: str | None = None
    image_digest: str | None = None
    roll: RollRun | None = None

    @property
    def text(self) -> str:
        """The verdict in one line for the user."""
        if self.runs is None:
            return f"no ({self.fault})" if self.fault else "no"
        return f"{self.image_digest[:19]}: {self.runs}" if self.image_digest else self.runs


def needs_roll(target: str) -> bool:
    """Return whether the image of a target must have run ROLL's own code, by the target's id."""
    return gpus.plain_id(target).endswith("-roll")


def judge_results(evidence: Evidence | None, target: str, built: str | None) -> Verdict:
    """Return the verdict on the image in the store, by digest and results.

    Args:
        evidence: of the target, if there is any.
        target: the target.
        built: the digest of its manifest in the store; None where it is not built. Then nothing is
            proven of it, and the verdict names the digest that the evidence is of.
    """
    if evidence is None:
        return Verdict(False)
    if evidence.image.target != target:
        return Verdict(False, fault="of another target")
    if built is not None and built != evidence.image.manifest_digest:
        return Verdict(False, fault="another digest")
    roll = evidence.roll
    for proof in evidence.proofs:
        if count := proof.count(FAILED):
            fault = f"{count} failed on {_gpus(proof.machine)}"
            return Verdict(False, fault=fault, roll=roll)
        if proof.roll is not None and (count := proof.roll.count(FAILED)):
            fault = f"{proof.roll.name}: {count} failed on {_gpus(proof.machine)}"
            return Verdict(False, fault=fault, roll=roll)
    whole = [proof for proof in evidence.proofs if proof.whole]
    if not whole:
        missing = min((proof.count(NOT_RUN) for proof in evidence.proofs), default=0)
        fault = f"{missing} not run" if missing else "nothing passed"
        return Verdict(False, fault=fault, roll=roll)
    if needs_roll(target) and not (roll and roll.whole):
        return Verdict(False, fault=_roll_lacks(roll), roll=roll)
    last = max(proof.date for proof in whole)
    runs = ", ".join([*(_gpus(proof.machine) for proof in whole), last[:10]])
    runs += f" with {_roll_words(roll)}" if roll else ""
    if built is None:
        return Verdict(False, runs, image_digest=evidence.image.manifest_digest, roll=roll)
    return Verdict(True, runs, roll=roll)


def _roll_lacks(run: RollRun | None) -> str:
    """Return why the run of ROLL's own code does not prove the image of a target that needs it."""
    if run is None:
        return "ROLL was not run in it"
    return f"{_roll_words(run)} is no whole run of a commit"


def _roll_words(run: RollRun) -> str:
    """Return ROLL's commit, and how many of its tests were not run."""
    missing = run.count(NOT_RUN)
    return f"{run.name} ({missing} not run)" if missing else run.name


def _gpus(machine: Machine) -> str:
    names = [gpu.name.removeprefix("NVIDIA ") for gpu in machine.gpus]
    counted = {name: names.count(name) for name in names}
    return ", ".join(name if n == 1 else f"{n} x {name}" for name, n in counted.items())
