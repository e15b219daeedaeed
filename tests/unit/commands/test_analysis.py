"""`plan`, `diff` and `sizes`."""

from __future__ import annotations

import json

import pytest

from tests.unit.command_line import TARGET, cli, failed
from tests.unit.small_matrix import SmallMatrix


def run(work: SmallMatrix, command: str, *arguments: object) -> str:
    given = ("--matrix", work.matrix.path, "--store", work.place / "store")
    done = cli(command, *arguments, *given)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_plan_needs_no_store_and_makes_none(work: SmallMatrix) -> None:
    text = run(work, "plan", "--target", TARGET)
    assert "torch 2.8.0" in text
    assert "in the store 0 layers" in text
    document = json.loads(run(work, "plan", "--all", "--json"))
    assert [item["target"] for item in document["targets"]] == [TARGET, "torch280-sglang054"]
    assert not (work.place / "store").exists()


def test_plan_of_some_gpus_has_the_name_of_the_image(work: SmallMatrix) -> None:
    named = json.loads(run(work, "plan", "--target", f"{TARGET}-sm80-sm90", "--json"))
    assert named["target"] == f"{TARGET}-sm80-sm90"
    for given in (["--gpu", "9.0,8.0"], ["--gpu", "9.0", "--gpu", "8.0"], ["--gpu", "8.0 9.0"]):
        assert json.loads(run(work, "plan", "--target", TARGET, *given, "--json")) == named
    both = json.loads(run(work, "plan", "--all", "--gpu", "9.0", "--json"))
    names = [item["target"] for item in both["targets"]]
    assert names == [f"{TARGET}-sm90", "torch280-sglang054-sm90"]
    assert f"{TARGET}-sm90" in run(work, "diff", TARGET, f"{TARGET}-sm90")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("sm_90", "'sm_90' is not a compute capability: write 9.0"),
        (",", "',' is no compute capability such as 9.0"),
        ("10.0", f"{TARGET} does not serve compute capability 10.0"),
        ("8.0,8.6,8.9,9.0", f"{TARGET} itself serves compute capability 8.0, 8.6, 8.9, 9.0"),
    ],
)
def test_gpus_that_no_image_is_for_are_wrong_usage(
    work: SmallMatrix, given: str, said: str
) -> None:
    matrix = ("--matrix", work.matrix.path)
    assert said in failed(2, "plan", "--target", TARGET, "--gpu", given, *matrix)


def test_plan_reports_what_a_build_would_make(work: SmallMatrix) -> None:
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


def test_diff_reports_what_moving_costs(work: SmallMatrix) -> None:
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


def test_diff_of_what_does_not_exist_is_wrong_usage(work: SmallMatrix) -> None:
    given = ("--matrix", work.matrix.path, "--store", work.place / "store")
    assert "did you mean 'torch280-sglang054'" in failed(2, "diff", TARGET, "torch280-054", *given)


def test_sizes_of_all_that_is_built_and_locked(work: SmallMatrix) -> None:
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


def test_sizes_of_an_empty_store(work: SmallMatrix) -> None:
    work.matrix.lock_path(TARGET).unlink()
    lines = run(work, "sizes").splitlines()
    assert lines[1].split() == [TARGET, "not", "built", "no", "lock"]
