"""`list` and `inspect`, and images that commands do not find."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from images.attest import evidence, evidence_check
from images.attest.evidence import Evidence, Gpu, ImageId, Machine, Outcome, Proof
from images.oci.store.store import Store
from tests.unit.command_line import TARGET, cli, failed, lock_of


def test_list_reports_what_is_locked_and_built(matrix: Path, store: Store) -> None:
    lock_of(matrix).unlink()
    done = cli("list", "--json", "--matrix", matrix, "--store", store.path)
    targets = {item["target"]: item for item in json.loads(done.stdout)["targets"]}
    assert len(targets) >= 5
    assert targets[TARGET]["built"] == store.images()[TARGET]
    assert targets[TARGET]["locked"] is False
    assert targets["torch260-sglang046"]["locked"] is True
    assert targets["torch260-sglang046"]["built"] is None
    table = cli("list", "--matrix", matrix, "--store", store.path).stdout.splitlines()
    assert len(table) == len(targets) + 1


def keep_evidence(matrix: Path, digest: str, **outcomes: str) -> None:
    tested = ImageId(TARGET, digest, "sha256:c", "sha256:l", "0.1.0")
    machine = Machine((Gpu("NVIDIA H100 80GB HBM3", 79.2, "9.0"),), "580.1", "13.0", "6.18")
    tests = {name: Outcome("passed") for name in evidence_check.suite(evidence_check.GPU_SUITE)}
    tests |= {f"test_fp8.py::{name}": Outcome(found) for name, found in outcomes.items()}
    proof = Proof(machine, "rootfs", "2026-11-24T21:00:00Z", tests, {})
    evidence.write(evidence.path_of(matrix, TARGET), Evidence(tested, (proof,)))


def listed(matrix: Path, store: Path) -> tuple[bool, str]:
    """What `list` reports of the evidence, in JSON; the table has the same words."""
    given = ("--matrix", matrix, "--store", store)
    rows = json.loads(cli("list", "--json", *given).stdout)["targets"]
    (row,) = (row for row in rows if row["target"] == TARGET)
    (line,) = (
        line for line in cli("list", *given).stdout.splitlines() if line.startswith(f"{TARGET} ")
    )
    assert line.endswith(f"  {row['evidence']['summary']}")
    assert [other["proven"] for other in rows if other is not row] == [False] * (len(rows) - 1)
    return row["proven"], row["evidence"]["summary"]


def test_list_reports_what_is_proven(matrix: Path, store: Store, tmp_path: Path) -> None:
    digest = store.images()[TARGET]
    assert listed(matrix, store.path) == (False, "no")
    keep_evidence(matrix, digest, test_generates="passed")
    assert listed(matrix, store.path) == (True, "H100 80GB HBM3, 2026-11-24")
    not_built = (False, f"{digest[:19]}: H100 80GB HBM3, 2026-11-24")
    assert listed(matrix, tmp_path / "none") == not_built
    keep_evidence(matrix, digest, test_generates="failed")
    assert listed(matrix, store.path) == (False, "no (1 failed on H100 80GB HBM3)")
    keep_evidence(matrix, digest, test_invented="passed")
    assert listed(matrix, store.path) == (False, "no (test_fp8.py::test_invented is no test)")


def test_list_has_the_evidence_in_fields_of_its_own(matrix: Path, store: Store) -> None:
    keep_evidence(matrix, f"sha256:{'0' * 64}", test_generates="skipped")
    rows = json.loads(cli("list", "--json", "--matrix", matrix, "--store", store.path).stdout)
    found = {row["target"]: row["evidence"] for row in rows["targets"]}
    assert found[TARGET]["digest"] == f"sha256:{'0' * 64}"
    (machine,) = found[TARGET]["machines"]
    assert machine == {
        "gpus": ["NVIDIA H100 80GB HBM3"],
        "driver": "580.1",
        "how": "rootfs",
        "date": "2026-11-24T21:00:00Z",
        "tests": {"passed": len(evidence_check.suite(evidence_check.GPU_SUITE)) - 1, "skipped": 1},
    }
    others = [evidence for target, evidence in found.items() if target != TARGET]
    assert others == [{"digest": None, "machines": [], "summary": "no"}] * len(others)


def test_list_never_takes_another_digest_for_proof(matrix: Path, store: Store) -> None:
    keep_evidence(matrix, f"sha256:{'0' * 64}", test_generates="passed")
    assert listed(matrix, store.path) == (False, "no (another digest)")


def test_list_reports_damaged_evidence(matrix: Path, store: Store) -> None:
    keep_evidence(matrix, store.images()[TARGET], test_generates="passed")
    evidence.path_of(matrix, TARGET).write_text("{")
    assert listed(matrix, store.path) == (False, "no (the evidence cannot be read)")


def test_list_needs_no_store(tmp_path: Path) -> None:
    assert cli("list", "--store", tmp_path / "none").returncode == 0
    assert not (tmp_path / "none").exists()


def test_inspect_prints_one_document(store: Store) -> None:
    done = cli("inspect", "--target", TARGET, "--store", store.path, "--json")
    document = json.loads(done.stdout)
    assert document["manifest_digest"] == store.images()[TARGET]
    assert document["layout"] == str(store.path)
    assert len(document["layers"]) == 1
    assert TARGET in cli("inspect", "--store", store.path).stdout


@pytest.mark.parametrize(
    "command",
    [["inspect"], ["sbom"], ["provenance"], ["load"], ["pull"], ["push", "--to", "127.0.0.1:9/x"]],
    ids=lambda command: command[0],
)
def test_image_that_is_not_in_the_store_is_wrong_usage(command: list[str], store: Store) -> None:
    given = (*command, "--store", store.path, "--target")
    said = failed(2, *given, "torch280-sglang52")
    assert f"no image 'torch280-sglang52'; did you mean '{TARGET}'?" in said
    assert "torch260-sglang046" in said
    said = failed(2, *given, "torch280-sglang054")
    assert "holds no image torch280-sglang054" in said
    assert "python build.py --target torch280-sglang054" in said
    assert "did you mean" not in failed(2, *given, "x")
    said = failed(2, *given, f"{TARGET}-sm90")
    assert f"holds no image {TARGET}-sm90" in said
    assert f"python build.py --target {TARGET}-sm90" in said
    assert "does not serve compute capability 7.5" in failed(2, *given, f"{TARGET}-sm75")


def test_inspect_without_a_store_is_wrong_usage(tmp_path: Path) -> None:
    assert "no store there" in failed(2, "inspect", "--store", tmp_path / "none")
