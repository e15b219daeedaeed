"""What evidence says of an image: proven or not, in words for people."""

from __future__ import annotations

from dataclasses import dataclass

from images.attest.evidence import FAILED, NOT_RUN, Evidence, Machine, RollRun

ROLL = "-roll"
"""How the ids of targets end in whose image ROLL's own code must have run."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an image is proven, the words for it, and what ROLL's own code did in it."""

    proven: bool
    text: str
    roll: RollRun | None = None


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
    """Why the image of a target that is for ROLL's own code is not proven by it."""
    if run is None:
        return "ROLL was not run in it"
    return f"{_roll_words(run)} is no whole run of a commit"


def _roll_words(run: RollRun) -> str:
    """ROLL's commit; a part of its tests is named as such."""
    missing = run.count(NOT_RUN)
    return f"{run.name} ({missing} not run)" if missing else run.name


def _gpus(machine: Machine) -> str:
    names = [gpu.name.removeprefix("NVIDIA ") for gpu in machine.gpus]
    counted = {name: names.count(name) for name in names}
    return ", ".join(name if n == 1 else f"{n} x {name}" for name, n in counted.items())
