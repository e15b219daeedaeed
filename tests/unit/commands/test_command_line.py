"""The command line as a user runs it: exit codes, messages, and never a traceback."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from images.attest import evidence, evidence_check
from images.attest.evidence import Evidence, Gpu, ImageId, Machine, Outcome, Proof
from images.oci.descriptor import Blob
from images.oci.image import Image, Layer
from images.oci.layer.entry import of_bytes
from images.oci.layer.writer import write
from images.oci.store.store import Store, open_store
from images.repository import ROOT
from tests.unit.command_line import TARGET, cli, failed
from tests.unit.outlines import Workplace, wheel

COMMANDS = (
    "build", "fetch", "list", "lock", "load", "bundle", "push", "promote", "pull", "sbom",
    "provenance", "test", "inspect", "plan", "diff", "sizes", "verify", "gc",
)  # fmt: skip


@pytest.fixture
def matrix(tmp_path: Path) -> Path:
    """A copy of the real matrix and its locks, to be spoilt."""
    copy = tmp_path / "matrix.yaml"
    shutil.copy(ROOT / "matrix.yaml", copy)
    shutil.copytree(ROOT / "images" / "locks", tmp_path / "images" / "locks")
    return copy


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store that holds one small image."""
    store = open_store(tmp_path / "my store")
    with store.blobs.new_file() as (out, commit):
        blob: Blob = write([of_bytes("a", b"1")], out, "gzip")
        commit(blob.digest)
    store.save(Image(TARGET, (Layer("only", blob),), {"A": "1"}, {"roll.target": TARGET}, "t"))
    return store


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


# -- usage -----------------------------------------------------------------------------------------


def test_build_without_a_network_reads_no_registry(tmp_path: Path) -> None:
    cache = ("--cache-from", "localhost:1/cache")
    said = failed(2, "build", "--all", "--offline", "--store", tmp_path / "store", *cache)
    assert "--offline uses no network" in said


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_lists_commands_and_exit_codes(option: str) -> None:
    done = cli(option)
    assert done.returncode == 0
    for word in (*COMMANDS, "exit codes"):
        assert word in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command: str) -> None:
    done = cli(command, "--help")
    assert done.returncode == 0
    assert "--store" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "COMMAND"),
        (["nonsense"], "nonsense"),
        (["build"], "--target"),
        (["--target"], "--target"),
        (["--target", TARGET, "--all"], "not allowed"),
        (["--target", TARGET, "--jobs", "0"], "at least 1"),
        (["--target", TARGET, "--jobs", "-1"], "at least 1"),
        (["--target", TARGET, "--jobs", "two"], "at least 1"),
        (["--target", TARGET, "--compression", "xz"], "xz"),
        (["--target", TARGET, "--nonsense"], "--nonsense"),
        (["--targ", TARGET], "--targ"),
        (["load"], "--target"),
        (["plan"], "--target"),
        (["diff", TARGET], "TO"),
        (["bundle", "--target", TARGET], "--out"),
        (["bundle", "--out", "x"], "--target"),
        (["test", "--target", TARGET, "--backend", "vm"], "vm"),
        (["test", "--target", TARGET, "--backend", "docker", "--rootfs", "/"], "--rootfs"),
        (["test", "--target", TARGET, "--rootfs", "/x"], "/x: no root file system"),
        (["test", "--all", "--gpu", "--evidence", "/x"], "name one --target"),
        (["test", "--all", "--rootfs", "/x"], "name one --target"),
        (["test", "--target", TARGET, "--roll", "/x"], "/x: no checkout of ROLL"),
    ],
)
def test_wrong_usage_says_what_is_wrong(arguments: list[str], word: str) -> None:
    assert word in failed(2, *arguments)


@pytest.mark.parametrize("command", ["build", "test", "lock", "plan"])
def test_unknown_target_names_the_nearest_and_all(command: str) -> None:
    said = failed(2, command, "--target", "torch280-sglang52")
    assert "no target 'torch280-sglang52'" in said
    assert f"did you mean '{TARGET}'" in said
    assert "torch260-sglang046" in said


# -- the matrix and the locks ----------------------------------------------------------------------


def test_typo_in_the_matrix_is_told_with_its_line(matrix: Path, tmp_path: Path) -> None:
    change(matrix, "    cuda: ", "    cudaa: ")
    lines = matrix.read_text().splitlines()
    number = next(index for index, line in enumerate(lines, 1) if "cudaa" in line)
    for arguments in (["list"], ["--target", TARGET], ["lock", "--check"]):
        said = failed(3, *arguments, "--matrix", matrix, "--store", tmp_path / "s")
        assert "did you mean 'cuda'" in said
        assert f"{number}" in said
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"a: &a [*a]\n"])
def test_matrix_that_cannot_be_read_is_told(matrix: Path, content: bytes) -> None:
    matrix.write_bytes(content)
    assert str(matrix.name) in failed(3, "list", "--matrix", matrix)


def test_missing_matrix_is_told(tmp_path: Path) -> None:
    assert "none.yaml" in failed(3, "list", "--matrix", tmp_path / "none.yaml")


def lock_of(matrix: Path) -> Path:
    return matrix.parent / "images" / "locks" / f"{TARGET}.txt"


def test_missing_lock_is_told_with_the_command_that_makes_it(matrix: Path, tmp_path: Path) -> None:
    lock_of(matrix).unlink()
    said = failed(4, "--target", TARGET, "--matrix", matrix, "--store", tmp_path / "s")
    assert "no such lock" in said
    assert f"python build.py lock --target {TARGET}" in said
    assert not (tmp_path / "s").exists()


def test_edited_lock_is_told(matrix: Path, tmp_path: Path) -> None:
    change(lock_of(matrix), "einops==", "einops==9.")
    said = failed(4, "--target", TARGET, "--matrix", matrix, "--store", tmp_path / "s")
    assert "edited by hand" in said
    assert f"python build.py lock --target {TARGET}" in said


def test_stale_lock_is_told(matrix: Path, tmp_path: Path) -> None:
    change(matrix, "date: 2025-09-16", "date: 2025-09-17")
    said = failed(4, "--target", TARGET, "--matrix", matrix, "--store", tmp_path / "s")
    assert "lock is stale" in said
    assert f"python build.py lock --target {TARGET}" in said


def test_check_lists_every_stale_lock_and_changes_nothing(matrix: Path) -> None:
    lock_of(matrix).unlink()
    other = lock_of(matrix).with_name("torch260-sglang046.txt")
    change(other, "einops==", "einops==9.")
    before = other.read_bytes()
    said = failed(4, "lock", "--check", "--matrix", matrix)
    assert "no such lock" in said
    assert "edited by hand" in said
    assert said.count("python build.py lock --target") == 2
    assert other.read_bytes() == before
    assert not lock_of(matrix).exists()


def test_real_locks_are_those_of_the_real_matrix() -> None:
    done = cli("lock", "--check")
    assert done.returncode == 0, done.stderr
    assert "locks match their inputs" in done.stdout


# -- list, inspect, verify, gc ---------------------------------------------------------------------


def test_list_tells_what_is_locked_and_built(matrix: Path, store: Store) -> None:
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


def test_gpu_tests_fail_where_there_is_no_gpu(matrix: Path, store: Store) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("a GPU is here")
    given = ("--matrix", matrix, "--store", store.path, "--backend", "rootfs")
    done = cli("test", "--target", TARGET, "--gpu", *given, "--", "-k", "doctor")
    assert done.returncode == 10
    assert "no NVIDIA GPU here" in done.stdout
    assert "no evidence kept: no GPU was seen" in done.stdout
    assert not evidence.path_of(matrix, TARGET).exists()
    done = cli("test", "--target", TARGET, *given, "--", "-k", "triton_kernel or nvcc_kernel")
    assert done.returncode == 0, done.stdout
    assert "2 skipped" in done.stdout


def keep_evidence(matrix: Path, digest: str, **outcomes: str) -> None:
    tested = ImageId(TARGET, digest, "sha256:c", "sha256:l", "0.1.0")
    machine = Machine((Gpu("NVIDIA H100 80GB HBM3", 79.2, "9.0"),), "580.1", "13.0", "6.18")
    tests = {name: Outcome("passed") for name in evidence_check.suite(evidence_check.GPU_SUITE)}
    tests |= {f"test_fp8.py::{name}": Outcome(found) for name, found in outcomes.items()}
    proof = Proof(machine, "rootfs", "2026-11-24T21:00:00Z", tests, {})
    evidence.write(evidence.path_of(matrix, TARGET), Evidence(tested, (proof,)))


def listed(matrix: Path, store: Path) -> tuple[bool, str]:
    """What `list` tells of the evidence, in JSON; the table has the same words."""
    given = ("--matrix", matrix, "--store", store)
    rows = json.loads(cli("list", "--json", *given).stdout)["targets"]
    (row,) = (row for row in rows if row["target"] == TARGET)
    (line,) = (
        line for line in cli("list", *given).stdout.splitlines() if line.startswith(f"{TARGET} ")
    )
    assert line.endswith(f"  {row['evidence']['summary']}")
    assert [other["proven"] for other in rows if other is not row] == [False] * (len(rows) - 1)
    return row["proven"], row["evidence"]["summary"]


def test_list_tells_what_is_proven(matrix: Path, store: Store, tmp_path: Path) -> None:
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


def test_list_gives_the_evidence_in_fields_of_its_own(matrix: Path, store: Store) -> None:
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


def test_list_tells_damaged_evidence(matrix: Path, store: Store) -> None:
    keep_evidence(matrix, store.images()[TARGET], test_generates="passed")
    evidence.path_of(matrix, TARGET).write_text("{")
    assert listed(matrix, store.path) == (False, "no (the evidence cannot be read)")


def test_list_needs_no_store(tmp_path: Path) -> None:
    assert cli("list", "--store", tmp_path / "none").returncode == 0
    assert not (tmp_path / "none").exists()


def test_inspect_gives_one_document(store: Store) -> None:
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
def test_image_that_is_not_there_is_wrong_usage(command: list[str], store: Store) -> None:
    given = (*command, "--store", store.path, "--target")
    said = failed(2, *given, "torch280-sglang52")
    assert f"no image 'torch280-sglang52'; did you mean '{TARGET}'?" in said
    assert "torch260-sglang046" in said
    said = failed(2, *given, "torch280-sglang054")
    assert "holds no image torch280-sglang054" in said
    assert "python build.py --target torch280-sglang054" in said
    assert "did you mean" not in failed(2, *given, "x")


def test_inspect_without_a_store_is_wrong_usage(tmp_path: Path) -> None:
    assert "no store there" in failed(2, "inspect", "--store", tmp_path / "none")


# -- plan, diff, sizes, budgets --------------------------------------------------------------------


@pytest.fixture
def work(tmp_path: Path) -> Workplace:
    work = Workplace(tmp_path)
    torch = wheel("torch", 9_000_000, "2.8.0")
    work.write({"052": [torch, wheel("scipy", 3_000_000)], "054": [torch, wheel("attrs", 10)]})
    return work


def run(work: Workplace, command: str, *arguments: object) -> str:
    given = ("--matrix", work.matrix.path, "--store", work.place / "store")
    done = cli(command, *arguments, *given)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_plan_needs_no_store_and_makes_none(work: Workplace) -> None:
    text = run(work, "plan", "--target", TARGET)
    assert "torch 2.8.0" in text
    assert "in the store 0 layers" in text
    document = json.loads(run(work, "plan", "--all", "--json"))
    assert [item["target"] for item in document["targets"]] == [TARGET, "torch280-sglang054"]
    assert not (work.place / "store").exists()


def test_plan_tells_what_a_build_would_make(work: Workplace) -> None:
    work.build("052")
    document = json.loads(run(work, "plan", "--target", "torch280-sglang054", "--json"))
    lacking = [layer["title"] for layer in document["layers"] if not layer["in_store"]]
    assert len(lacking) == document["to_make"] == 1
    assert lacking[0].startswith("small distributions")
    assert [layer["packages"] for layer in document["layers"] if layer["title"] == lacking[0]] == [
        ["attrs==1.0"]
    ]
    text = run(work, "plan", "--target", "torch280-sglang054").splitlines()
    assert next(line for line in text if lacking[0] in line).split()[1:3] == ["to", "make"]
    assert "to make 1, from 10 B of locked files" in text[-1]


def test_diff_says_what_moving_costs(work: Workplace) -> None:
    image = work.build("052")
    document = json.loads(run(work, "diff", TARGET, "torch280-sglang054", "--json"))
    assert document["from"]["manifest_digest"] == image.manifest_digest
    assert (document["to"]["built"], document["layers"]["pull"]["not_made"]) == (False, 1)
    assert [item["name"] for item in document["packages"]["distribution"]] == ["attrs", "scipy"]
    assert document["layers"]["common"]["layers"] == 4
    assert len(document["pull"]) == 1
    text = run(work, "diff", image.manifest_digest[:19], "torch280-sglang054")
    assert "distributions: 1 added, 1 removed, 0 changed" in text
    assert "1 of the layers to pull are not made: their bytes are those of the locked files" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["to", "pull", "1", "layers", "10", "B"] in lines
    assert ["scipy", "1.0", "->", "(gone)"] in lines
    assert ["attrs", "(new)", "->", "1.0"] in lines


def test_diff_of_what_is_not_there_is_wrong_usage(work: Workplace) -> None:
    given = ("--matrix", work.matrix.path, "--store", work.place / "store")
    assert "did you mean 'torch280-sglang054'" in failed(2, "diff", TARGET, "torch280-054", *given)


def test_sizes_of_all_that_is_built_and_locked(work: Workplace) -> None:
    image = work.build("052")
    work.build("054")
    document = json.loads(run(work, "sizes", "--json"))
    assert [item["target"] for item in document["targets"]] == [TARGET, "torch280-sglang054"]
    assert document["targets"][0]["bytes"] == image.size
    assert document["images"]["union"] < document["images"]["sum"]
    assert document["images"]["over_whole_wheels"] == pytest.approx(0, abs=1e-3)
    assert document["files"] == {
        "sum": 21_000_010,
        "union": 12_000_010,
        "ratio": 12_000_010 / 21_000_010,
    }
    assert document["largest"][0]["images"] == 2
    lines = run(work, "sizes").splitlines()
    assert lines[0].split()[0] == "TARGET"
    assert lines[1].split()[:2] == [TARGET, str(len(image.layers))]
    assert [line.split()[-2:] for line in lines if line.startswith("union /")] == [["57.1", "%"]]


def test_sizes_of_an_empty_place(work: Workplace) -> None:
    work.matrix.lock_path(TARGET).unlink()
    lines = run(work, "sizes").splitlines()
    assert lines[1].split() == [TARGET, "not", "built", "no", "lock"]


def test_crossed_budget_fails_the_build_before_the_image_has_its_name(work: Workplace) -> None:
    """Every layer is in the store, so that nothing is fetched or made."""
    torch, before = wheel("torch", 9_000_000, "2.8.0"), work.build("052")
    work.write({"052": [torch, wheel("scipy", 6_000_000, "2.0")]})
    image = work.build("052")
    work.store.save(before)
    places = ("--matrix", work.matrix.path, "--store", work.place / "store")
    given = ("--target", TARGET, *places, "--cache", work.place / "cache")
    change(work.matrix.path, "why: a test}\n", "why: a test}\n    budget: {size: 1kB, why: so}\n")
    said = failed(13, *given)
    assert "scipy 1.0 -> 2.0" in said
    assert "fix: take out or pin what grew" in said
    assert work.store.images()[TARGET] == before.manifest_digest
    change(work.matrix.path, "size: 1kB", "size: 1GB")
    assert cli(*given).returncode == 0
    assert work.store.images()[TARGET] == image.manifest_digest


# -- upkeep ----------------------------------------------------------------------------------------


def test_verify_of_a_good_store_says_so(store: Store) -> None:
    done = cli("verify", "--store", store.path)
    assert (done.returncode, "no fault" in done.stdout) == (0, True)
    assert json.loads(cli("verify", "--json", "--store", store.path).stdout)["faults"] == []


def test_verify_lists_all_faults_and_its_remedy_works(store: Store) -> None:
    (layer,) = store.load(TARGET).layers
    store.blobs.path(layer.blob.digest).write_bytes(b"damaged")
    done = cli("verify", "--json", "--store", store.path)
    assert done.returncode == 6
    assert len(json.loads(done.stdout)["faults"]) == 2
    assert layer.blob.digest in done.stderr
    assert "gc --damaged" in done.stderr
    assert cli("gc", "--damaged", "--store", store.path).returncode == 0
    assert not store.blobs.path(layer.blob.digest).exists()


def test_broken_index_is_a_fault_and_no_traceback(store: Store) -> None:
    (store.path / "index.json").write_text("broken")
    assert "index.json" in failed(6, "verify", "--store", store.path)
    assert "index.json" in failed(7, "inspect", "--store", store.path)
    assert "index.json" in failed(7, "gc", "--store", store.path)


def test_store_in_a_foreign_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    assert "not empty" in failed(7, "--target", TARGET, "--store", tmp_path)


def test_reader_that_goes_away_is_no_traceback(store: Store) -> None:
    command = [sys.executable, str(ROOT / "build.py"), "inspect", "--store", str(store.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout
        assert child.stderr
        child.stdout.close()
        assert b"Traceback" not in child.stderr.read()


@pytest.mark.parametrize("variable", ["LC_ALL", "PYTHONIOENCODING"])
def test_terminal_without_unicode_is_no_traceback(store: Store, variable: str) -> None:
    value = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}[variable]
    assert cli("list", "--store", store.path, **{variable: value}).returncode == 0
    assert cli("nonsense", **{variable: value}).returncode == 2
