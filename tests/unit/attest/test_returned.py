"""Evidence that came back: taken if it proves the image of the store, refused without a loss."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from images.attest import evidence, returned
from images.attest.evidence import Evidence, ImageId, Outcome, Proof
from images.errors import EvidenceError
from tests.unit import whole_proofs
from tests.unit.whole_proofs import SINCE, proof

TARGET = "torch280-sglang052"
DIGEST, OTHER = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
FAILED = Outcome("failed")


def write(path: Path, *proofs: Proof, digest: str = DIGEST) -> Path:
    evidence.write(path, Evidence(ImageId(TARGET, digest, DIGEST, DIGEST, "0.1.0"), proofs))
    return path


def take(place: Path, digest: str | None = DIGEST) -> Evidence:
    path = place / "evidence.json"
    returned.take(place / "arrived.json", path, TARGET, digest, SINCE)
    found = evidence.read(path)
    assert found
    return found


def test_another_image_is_replaced(tmp_path: Path) -> None:
    write(tmp_path / "evidence.json", proof(), digest=OTHER)
    write(tmp_path / "arrived.json", proof())
    assert take(tmp_path).image.manifest_digest == DIGEST


def test_other_machines_and_rolls_run_stay(tmp_path: Path) -> None:
    old = replace(proof(), roll=whole_proofs.roll())
    write(tmp_path / "evidence.json", proof("NVIDIA H100"), old)
    write(tmp_path / "arrived.json", replace(proof(), date=whole_proofs.now()))
    found = take(tmp_path)
    assert [one.gpus[0] for one in found.proofs] == ["NVIDIA H100", "NVIDIA H200"]
    assert found.roll == old.roll


def test_unfinished_evidence_is_taken_where_nothing_failed(tmp_path: Path) -> None:
    write(tmp_path / "evidence.json", proof(), digest=OTHER)
    half = {name: test for name, test in proof().tests.items() if name < "test_h"}
    unfinished = replace(proof(), tests=half).within(proof().tests)
    write(tmp_path / "arrived.json", unfinished)
    assert take(tmp_path).image.manifest_digest == DIGEST
    # What proves it replaces this, and is not replaced by it.
    write(tmp_path / "arrived.json", proof())
    before = take(tmp_path)
    write(tmp_path / "arrived.json", unfinished)
    with pytest.raises(EvidenceError, match="not run"):
        take(tmp_path)
    assert evidence.read(tmp_path / "evidence.json") == before


def test_what_does_not_prove_the_image_is_refused(tmp_path: Path) -> None:
    before = write(tmp_path / "evidence.json", proof()).read_bytes()
    failed = replace(proof(), tests={**proof().tests, "test_engine.py::test_x": FAILED})
    for proofs, digest, store, reason in (
        ([proof()], OTHER, DIGEST, "of another image"),
        ([failed], DIGEST, DIGEST, "1 failed on H200"),
        ([replace(proof(), tests={})], DIGEST, DIGEST, "nothing passed"),
        ([proof()], DIGEST, None, "the store has no image"),
    ):
        write(tmp_path / "arrived.json", *proofs, digest=digest)
        with pytest.raises(EvidenceError, match=reason):
            take(tmp_path, store)
    (tmp_path / "arrived.json").write_text("{}")
    with pytest.raises(EvidenceError, match="not evidence"):
        take(tmp_path)
    assert (tmp_path / "evidence.json").read_bytes() == before
