"""Evidence of GPU runs: what is kept, what counts, and what never counts as proof."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from images import evidence
from images.errors import EvidenceError
from images.evidence import Evidence, Gpu, ImageId, Machine, Outcome, Run

TARGET = "torch280-sglang052"
DIGEST, OTHER = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
H100 = Gpu("NVIDIA H100 80GB HBM3", 79.2, "9.0")
MACHINE = Machine((H100,), "580.159.04", "13.0", "6.18.44")
IMAGE = ImageId(TARGET, DIGEST, f"sha256:{'3' * 64}", f"sha256:{'4' * 64}", "0.1.0")
PASSED, FAILED = Outcome("passed", 1.5), Outcome("failed", 2.0)
SKIPPED = Outcome("skipped", 0.0, "two GPUs are needed")
WHOLE = Evidence(
    IMAGE,
    MACHINE,
    "rootfs",
    "2026-11-24T21:36:58Z",
    {"test_a.py::test_one": PASSED, "test_a.py::test_two": SKIPPED},
    {
        "off the main thread": Run(
            {"import": 7.1, "start": 20.5},
            {"running": 3000},
            {"triton": {"count": 2, "names": ["a", "b"]}},
        )
    },
)


def with_tests(**tests: Outcome) -> Evidence:
    return replace(WHOLE, tests={f"test_a.py::test_{name}": found for name, found in tests.items()})


# -- files -----------------------------------------------------------------------------------------


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.json"
    evidence.write(path, WHOLE)
    assert evidence.read(path) == WHOLE


def test_same_evidence_gives_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    turned = replace(WHOLE, tests=dict(sorted(WHOLE.tests.items(), reverse=True)))
    for name, value in (("a", WHOLE), ("b", turned)):
        evidence.write(tmp_path / name, value)
    content = (tmp_path / "a").read_bytes()
    assert content == (tmp_path / "b").read_bytes()
    assert content.endswith(b"}\n")
    assert list(json.loads(content)) == ["image", "machine", "how", "date", "tests", "runs"]
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}


def test_no_file_is_no_evidence(tmp_path: Path) -> None:
    assert evidence.read(tmp_path / "none.json") is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "",
        lambda text: text[:-20],
        lambda text: "[]",
        lambda text: "null",
        lambda text: "{}",
        lambda text: text.replace('"passed"', '"fine"'),
        lambda text: text.replace('"driver"', '"hostname"'),
        lambda text: text.replace('"manifest_digest"', '"digest"'),
    ],
)
def test_anything_else_is_told_with_what_to_do(tmp_path: Path, spoil: object) -> None:
    path = tmp_path / "x.json"
    evidence.write(path, WHOLE)
    assert callable(spoil)
    path.write_text(spoil(path.read_text()))
    with pytest.raises(EvidenceError) as raised:
        evidence.read(path)
    assert str(path) in raised.value.message
    assert "--gpu" in (raised.value.remedy or "")


def test_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EvidenceError, match="cannot be written"):
        evidence.write(tmp_path / "file" / "x.json", WHOLE)


# -- calls add up ----------------------------------------------------------------------------------


def test_newest_wins_test_by_test_and_run_by_run() -> None:
    old = replace(
        with_tests(one=FAILED, three=PASSED),
        runs={"off the main thread": Run({"start": 99.0}), "two GPUs": Run({"start": 30.0})},
        date="2026-11-23T00:00:00Z",
    )
    found = WHOLE.after(old)
    assert found.tests == {
        "test_a.py::test_one": PASSED,
        "test_a.py::test_two": SKIPPED,
        "test_a.py::test_three": PASSED,
    }
    assert found.runs["off the main thread"] == WHOLE.runs["off the main thread"]
    assert found.runs["two GPUs"].seconds == {"start": 30.0}
    assert found.date == WHOLE.date


@pytest.mark.parametrize(
    "old",
    [
        None,
        replace(WHOLE, image=replace(IMAGE, manifest_digest=OTHER)),
        replace(WHOLE, machine=replace(MACHINE, gpus=(replace(H100, name="NVIDIA A100"),))),
        replace(WHOLE, machine=replace(MACHINE, driver="570.1")),
        replace(WHOLE, how="docker"),
    ],
)
def test_another_image_or_machine_starts_afresh(old: Evidence | None) -> None:
    new = with_tests(three=PASSED)
    assert new.after(old) == new


def test_what_was_not_run_is_counted_and_what_is_gone_is_dropped() -> None:
    suite = {"test_a.py::test_one", "test_a.py::test_more", "test_b.py::test_never"}
    ran = replace(
        WHOLE,
        tests={
            "test_a.py::test_one": PASSED,
            "test_a.py::test_more[sm_90]": PASSED,
            "test_a.py::test_removed": FAILED,
        },
    )
    assert ran.within(suite).tests == {
        "test_a.py::test_one": PASSED,
        "test_a.py::test_more[sm_90]": PASSED,
        "test_b.py::test_never": Outcome("not run"),
    }


# -- judgement -------------------------------------------------------------------------------------


def verdict(found: Evidence | None, built: str | None = DIGEST) -> tuple[bool, str]:
    told = evidence.judge(found, TARGET, built)
    return told.proven, told.text


def test_same_digest_and_nothing_against_it_is_proven() -> None:
    assert verdict(WHOLE) == (True, "H100 80GB HBM3, 2026-11-24")


def test_several_gpus_are_counted() -> None:
    two = replace(WHOLE, machine=replace(MACHINE, gpus=(H100, H100)))
    assert verdict(two)[1] == "2 x H100 80GB HBM3, 2026-11-24"


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (None, "no"),
        (with_tests(one=PASSED, two=FAILED, three=FAILED), "no (2 failed)"),
        (with_tests(one=PASSED, two=Outcome("not run")), "no (1 not run)"),
        (with_tests(one=SKIPPED), "no (nothing passed)"),
        (with_tests(), "no (nothing passed)"),
        (replace(WHOLE, image=replace(IMAGE, target="x")), "no (of another target)"),
    ],
)
@pytest.mark.parametrize("built", [DIGEST, None])
def test_what_is_not_proven(found: Evidence | None, text: str, built: str | None) -> None:
    assert verdict(found, built) == (False, text)


def test_another_digest_is_never_proven() -> None:
    assert verdict(WHOLE, OTHER) == (False, "no (another digest)")


def test_image_that_is_not_built_is_not_proven_but_the_evidence_is_named() -> None:
    proven, text = verdict(WHOLE, None)
    assert not proven
    assert text == f"{DIGEST[:19]}: H100 80GB HBM3, 2026-11-24"
