"""Verdicts on evidence: whether an image is proven, and a text for users."""

from __future__ import annotations

from dataclasses import dataclass

from images.attest.evidence import FAILED, NOT_RUN, Evidence, Machine, RollRun

ROLL = "-roll"
"""The end of the ids of targets whose image must have run ROLL's own code."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an image is proven, a text for it, and the run of ROLL's own code in it."""

    proven: bool
    text: str
    roll: RollRun | None = None


def judge(evidence: Evidence | None, target: str, built: str | None) -> Verdict:
    """Return whether the image in the store is proven.

    Args:
        evidence: of the target, if there is any.
        target: the target.
        built: the digest of its manifest in the store; None where it is not built. Then it is not
            proven, and the text names the digest of the evidence.
    """
    if evidence is None:
        return Verdict(False, "no")
    if evidence.image.target != target:
        return Verdict(False, "no (of another target)")
    if built is not None and built != evidence.image.manifest_digest:
        return Verdict(False, "no (another digest)")
    roll = evidence.roll
    for proof in evidence.proofs:
        if count := proof.count(FAILED):
            return Verdict(False, f"no ({count} failed on {_gpus(proof.machine)})", roll)
        if proof.roll is not None and (count := proof.roll.count(FAILED)):
            what = f"{proof.roll.name}: {count} failed on {_gpus(proof.machine)}"
            return Verdict(False, f"no ({what})", roll)
    whole = [proof for proof in evidence.proofs if proof.whole]
    if not whole:
        missing = min((proof.count(NOT_RUN) for proof in evidence.proofs), default=0)
        return Verdict(False, f"no ({missing} not run)" if missing else "no (nothing passed)", roll)
    if target.endswith(ROLL) and not (roll and roll.whole):
        return Verdict(False, f"no ({_roll_lacks(roll)})", roll)
    last = max(proof.date for proof in whole)
    words = ", ".join([*(_gpus(proof.machine) for proof in whole), last[:10]])
    words += f" with {_roll_words(roll)}" if roll else ""
    if built is None:
        return Verdict(False, f"{evidence.image.manifest_digest[:19]}: {words}", roll)
    return Verdict(True, words, roll)


def _roll_lacks(run: RollRun | None) -> str:
    """Return why the run of ROLL's own code does not prove the image of a target that needs it."""
    if run is None:
        return "ROLL was not run in it"
    return f"{_roll_words(run)} is no whole run of a commit"


def _roll_words(run: RollRun) -> str:
    """Return ROLL's commit, with the number of tests that were not run."""
    missing = run.count(NOT_RUN)
    return f"{run.name} ({missing} not run)" if missing else run.name


def _gpus(machine: Machine) -> str:
    names = [gpu.name.removeprefix("NVIDIA ") for gpu in machine.gpus]
    counted = {name: names.count(name) for name in names}
    return ", ".join(name if n == 1 else f"{n} x {name}" for name, n in counted.items())
