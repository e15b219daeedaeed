"""Reports of targets, for `list`: whether each is locked, built and proven."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from images.attest import evidence, evidence_check
from images.attest.evidence import Evidence, Outcome, Proof, RollRun
from images.commands.report.printing import table
from images.errors import EvidenceError
from images.inputs.lock import target_lock
from images.inputs.matrix.records import Matrix, Target

_HEAD = ("TARGET", "SGLANG", "TORCH", "CUDA", "LOCK", "IN THE STORE", "PROVEN")


def rows(
    matrix: Matrix, targets: Sequence[Target], built: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return the documents of targets.

    Args:
        matrix: the matrix; the evidence is beside its file.
        targets: the targets.
        built: the digests of the manifests that the store has, by target.
    """
    return [_row(matrix, target, built.get(target.id)) for target in targets]


def _row(matrix: Matrix, target: Target, built: str | None) -> dict[str, Any]:
    return {
        "target": target.id,
        "sglang": target.sglang,
        "torch": target.torch,
        "cuda": target.cuda,
        "locked": target_lock.is_current(matrix, target),
        "built": built,
        **_proof(evidence.path_of(matrix.path, target.id), target, built),
    }


def text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as a table."""
    return table([_HEAD, *map(_cells, rows)])


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    built = row["built"][:19] if row["built"] else "no"
    locked = "yes" if row["locked"] else "stale or missing"
    versions = (row["sglang"], row["torch"], row["cuda"])
    return (row["target"], *versions, locked, built, row["evidence"]["summary"])


def _proof(path: Path, target: Target, built: str | None) -> dict[str, Any]:
    try:
        found = evidence.read(path)
    except EvidenceError as error:
        unreadable = {**_evidence(None, "no (the evidence cannot be read)"), "error": error.message}
        return {"proven": False, "evidence": unreadable, "roll": None}
    verdict = evidence_check.judge(found, target.id, built, target.exclude_newer)
    return {
        "proven": verdict.proven,
        "evidence": _evidence(found, verdict.text),
        "roll": _roll(verdict.roll),
    }


def _evidence(found: Evidence | None, summary: str) -> dict[str, Any]:
    """Return the evidence, whichever digest it belongs to; `summary` is for people."""
    return {
        "digest": found.image.manifest_digest if found else None,
        "machines": [_machine(proof) for proof in found.proofs] if found else [],
        "summary": summary,
    }


def _machine(proof: Proof) -> dict[str, Any]:
    return {
        "gpus": list(proof.gpus),
        "driver": proof.machine.driver,
        "how": proof.how,
        "date": proof.date,
        "tests": _counts(proof.tests),
    }


def _roll(run: RollRun | None) -> dict[str, Any] | None:
    if run is None:
        return None
    return {
        "commit": run.commit,
        "dirty": run.dirty,
        "date": run.date,
        "tests": _counts(run.tests),
    }


def _counts(tests: Mapping[str, Outcome]) -> dict[str, int]:
    return dict(Counter(test.outcome for test in tests.values()))
