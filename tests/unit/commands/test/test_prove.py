"""`prove`: the kit is written, its program runs, and its evidence comes back."""

from __future__ import annotations

import json
from pathlib import Path

from images.attest import evidence
from tests.unit import kits
from tests.unit.command_line import cli
from tests.unit.small_matrix import A, B, SmallMatrix, two_targets


def prove(work: SmallMatrix, *options: object) -> tuple[int, str, str]:
    where = ("--matrix", work.matrix.path, "--store", work.store.path)
    done = cli("prove", *where, *options)
    return done.returncode, done.stdout, done.stderr


def test_evidence_comes_back_from_a_kit(tmp_path: Path) -> None:
    work = two_targets(tmp_path)
    digest = work.build("052").manifest_digest
    work.build("055")
    kit = tmp_path / "kit"
    code, out, said = prove(work, "--target", A, "--target", B, "--out", kit)
    assert code == 0, said
    assert out.splitlines()[1].split()[:2] == [A, digest[:19]]
    made = kits.with_stand_in(kit, tmp_path / "stand-in")
    made.behave(v055="fail")
    assert made.run().code == 10

    code, out, said = prove(work, "--take", kit)
    assert code == 1
    assert "1 of 2 files were refused, and nothing was lost" in said
    assert f"{B} is not proven by it: 1 failed on H200" in said
    assert [line.split()[0] for line in out.splitlines()] == ["TARGET", A]
    assert "H200" in out
    found = evidence.read(evidence.path_of(work.matrix.path, A))
    assert found
    assert found.image.manifest_digest == digest
    assert not evidence.path_of(work.matrix.path, B).exists()

    code, out, said = prove(work, "--all", "--out", tmp_path / "rest")
    assert code == 0, said
    assert f"{A}: left out, it is proven on H200" in said
    targets = json.loads((tmp_path / "rest/kit.json").read_text())["targets"]
    assert [target["id"] for target in targets] == [B]


def test_wrong_usage_is_reported(tmp_path: Path) -> None:
    work = two_targets(tmp_path)
    work.build("052")
    assert "add --out DIR" in prove(work, "--target", A)[2]
    assert "no evidence is there" in prove(work, "--take", tmp_path)[2]
    code, _, said = prove(work, "--target", B, "--out", tmp_path / "kit")
    assert (code, f"holds no image {B}" in said) == (2, True)
