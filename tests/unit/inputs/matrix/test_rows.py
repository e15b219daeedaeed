"""Targets as the rows of a matrix define them."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from images.errors import UsageError
from images.inputs.matrix.records import Budget, EnvDefault, Kernel, Pin, Sdist
from images.util import sha256
from tests.unit.inputs.matrix.conftest import SMALL, Reader, line_of


def test_defaults_and_row_are_joined(read: Reader) -> None:
    first, second = read().targets
    assert first.requirements == ("sglang==0.4.6.post4", "torch==2.6.0")
    assert first.env[:-1] == (
        EnvDefault("ONE", "own", "its own"),
        EnvDefault("MAJOR", "cuda>=12.0", "by major"),
    )
    assert second.requirements == ("sglang==0.5.2", "torch==2.8.0", "numpy")
    assert [default.name for default in second.env[:-1]] == ["ONE", "NEW", "MAJOR"]
    assert second.constraints == (Pin("cuda-python<13", "drifts"),)
    assert second.overrides == (Pin("numpy==2.0.0", "because"),)
    assert second.sdists == (Sdist("flashinfer-python", ("setuptools==80.9.0",), "no wheel"),)
    assert first.misrecorded == {"decord"}
    assert second.misrecorded == frozenset()
    assert second.exclude_newer == "2025-09-16T00:00:00Z"
    assert second.line == line_of(SMALL, "- id: torch280")


CONFLICT = "{path: /opt/venv/bin/x, winner: one, over: two, why: tried, sglang: '>=0.5'}"


def test_conflicts_are_for_the_rows_that_they_name_and_in_no_lock(read: Reader) -> None:
    text = SMALL.replace("  env:\n", f"  conflicts:\n    - {CONFLICT}\n  env:\n", 1)
    first, second = read(text).targets
    assert first.conflicts == ()
    (found,) = second.conflicts
    assert found[:4] == ("/opt/venv/bin/x", "one", "two", "tried")
    assert found.location == f"matrix.yaml:{line_of(text, CONFLICT)}"
    assert second.resolve_inputs() == read().targets[1].resolve_inputs()


CHANGES = (
    "  gpu_code:\n    torch: {licence: BSD-3-Clause, why: half of it, sglang: '>=0.5'}\n"
    "  debug_sections:\n    uvloop: {licence: MIT, why: of no use}\n"
    "  left_out:\n    - {path: '/opt/x*.a', distribution: triton, why: unused}\n"
)


def test_changes_are_for_the_rows_that_they_name_and_in_no_lock(read: Reader) -> None:
    text = SMALL.replace("  env:\n", f"{CHANGES}  env:\n", 1)
    first, second = read(text).targets
    assert first.gpu_code == ()
    (code,) = second.gpu_code
    assert code[:3] == ("torch", "BSD-3-Clause", "half of it")
    (debug,) = first.debug_sections
    assert debug[:3] == ("uvloop", "MIT", "of no use")
    (unused,) = first.left_out
    assert unused[:3] == ("/opt/x*.a", "triton", "unused")
    assert unused.location == f"matrix.yaml:{line_of(text, 'path: ')}"
    assert second.resolve_inputs() == read().targets[1].resolve_inputs()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [("BSD-3-Clause", "BSD-3-Claus", "did you mean 'BSD-3-Clause'?"),
     ("torch:", "Torch:", "normal form"), ("licence: BSD-3-Clause, ", "", "licence"),
     (", why: half of it", "", "why"), ("licence: MIT", "licence: NIT", "did you mean 'MIT'?"),
     ("uvloop:", "UVloop:", "debug_sections: "), ("/opt/x*.a", "x.a", "not an absolute path"),
     ("distribution: triton", "distribution: Triton", "normal form"),
     (", why: unused", "", "why")],
)  # fmt: skip
def test_faults_of_changes_are_reported(read: Reader, old: str, new: str, said: str) -> None:
    text = SMALL.replace("  env:\n", f"{CHANGES.replace(old, new)}  env:\n", 1)
    assert said in read.fault(text)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [("path: /opt", "path: opt", "not an absolute path"), ("bin/x", "../x", "not an absolute path"),
     ("winner: one", "winner: One", "normal form"), ("over: two", "over: the image", "name"),
     ("over: two", "over: one", "cannot win over itself"), (", why: tried", "", "why"),
     ("winner: one, ", "", "winner")],
)  # fmt: skip
def test_faults_of_conflicts_are_reported(read: Reader, old: str, new: str, said: str) -> None:
    entry = CONFLICT.replace(old, new)
    text = SMALL.replace("  env:\n", f"  conflicts:\n    - {entry}\n  env:\n", 1)
    assert said in read.fault(text)


KERNELS = """\
  kernels:
    norm: {sglang: ">=0.5.2", why: every start}
    sglang-dense: {gpus: ["9.0", "8.0"], why: every step}
"""


def test_kernels_are_for_the_rows_that_they_name_and_in_no_lock(read: Reader) -> None:
    first, second = read(SMALL.replace("targets:", f"{KERNELS}targets:", 1)).targets
    dense = Kernel("sglang-dense", "every step", ("8.0", "9.0"))
    assert first.kernels == (dense,)
    assert second.kernels == (Kernel("norm", "every start"), dense)
    assert second.resolve_inputs() == read().targets[1].resolve_inputs()


def test_a_row_replaces_a_kernel_of_the_defaults(read: Reader) -> None:
    row = "    sglang: 0.5.2\n"
    own = f"{row}    kernels: {{sglang-dense: {{why: its own}}}}\n"
    text = SMALL.replace("targets:", f"{KERNELS}targets:", 1).replace(row, own)
    assert Kernel("sglang-dense", "its own") in read(text).targets[1].kernels


def test_on_a_custom_base_no_compiler_limits_kernels(read: Reader) -> None:
    text = SMALL.replace("targets:", f"{KERNELS}targets:", 1).replace('"8.0"]', '"10.0"]')
    base = f"base: {{image: r.io/a@sha256:{'a' * 64}}}"
    assert len(read.faults(text)) == 2
    assert read(text.replace("base:\n  suite: bookworm", base)).targets[0].kernels


def test_the_image_itself_may_win(read: Reader) -> None:
    entry = CONFLICT.replace("winner: one", "winner: the image")
    text = SMALL.replace("  env:\n", f"  conflicts:\n    - {entry}\n  env:\n", 1)
    assert read(text).targets[1].conflicts[0].winner == "the image"


def test_records_are_frozen(read: Reader) -> None:
    with pytest.raises(FrozenInstanceError):
        read().targets[0].cuda = "13.0"  # type: ignore[misc]


def test_resolve_inputs_follow_the_lock_alone(read: Reader) -> None:
    inputs = read().targets[1].resolve_inputs()
    assert json.loads(json.dumps(inputs)) == inputs
    other_words = SMALL.replace("drifts", "changed").replace("value: 1", "value: 2")
    assert sha256.of_json(read(other_words).targets[1].resolve_inputs()) == sha256.of_json(inputs)
    for change in (
        SMALL.replace("cuda-python<13", "cuda-python<12"),
        SMALL.replace("+02:00", "+01:00"),
        SMALL.replace("80.9.0", "80.9.1"),
        SMALL.replace("numpy==2.0.0", "numpy==2.0.1"),
        SMALL.replace("[numpy]", "[scipy]"),
        SMALL.replace("defaults:\n", "defaults:\n  dependencies: false\n"),
    ):
        assert sha256.of_json(read(change).targets[1].resolve_inputs()) != sha256.of_json(inputs)


def test_a_budget_is_the_rows_own_or_the_defaults_or_none(read: Reader) -> None:
    assert [target.budget for target in read().targets] == [None, None]
    shared = SMALL.replace("defaults:\n", "defaults:\n  budget: {size: 4.3GB, why: pulls}\n")
    assert [target.budget for target in read(shared).targets] == [
        Budget(4_300_000_000, "pulls")
    ] * 2
    own = shared.replace("    requirements: [numpy]", "    budget: {size: 512 MiB, why: tiny}")
    assert [target.budget for target in read(own).targets] == [
        Budget(4_300_000_000, "pulls"),
        Budget(512 << 20, "tiny"),
    ]


def test_a_budget_makes_no_lock_stale(read: Reader) -> None:
    inputs = [target.resolve_inputs() for target in read().targets]
    text = SMALL.replace("defaults:\n", "defaults:\n  budget: {size: 4.3GB, why: pulls}\n")
    assert [target.resolve_inputs() for target in read(text).targets] == inputs


def test_locks_are_relative_to_the_file(read: Reader, tmp_path: Path) -> None:
    assert read().locks == tmp_path / "images/locks"
    assert read(f"locks: ./pins\n{SMALL}").lock_path("x") == tmp_path / "pins/x.txt"
    assert "must be relative" in read.fault(f"locks: /etc\n{SMALL}")


def test_versions_are_text_and_never_numbers(read: Reader) -> None:
    text = SMALL.replace("torch: 2.8.0", "torch: 2.10").replace("torch280-", "torch2100-")
    assert read(text).targets[1].torch == "2.10"


@pytest.mark.parametrize(("word", "hint"), [("torch280-sglang051", "did you mean"), ("zzz", "no")])
def test_an_unknown_target_is_answered_with_the_list(read: Reader, word: str, hint: str) -> None:
    with pytest.raises(UsageError, match=hint) as caught:
        read().target(word)
    assert caught.value.remedy == "targets: torch260-sglang046, torch280-sglang052"


OWN = f"reg.example.com/base@sha256:{'a' * 64}"


def test_custom_base_of_all_or_of_one_row(read: Reader) -> None:
    every = read(SMALL.replace("suite: bookworm", f"image: {OWN}"))
    assert (every.base.suite, every.base.image) == ("", OWN)
    assert [target.base for target in every.targets] == [OWN, OWN]
    row = "    torch: 2.8.0"
    one = read(SMALL.replace(row, f"    base: {{image: {OWN!r}}}\n{row}"))
    assert [target.base for target in one.targets] == ["", OWN]
    back = SMALL.replace("suite: bookworm", f"image: {OWN}")
    back = back.replace(row, f"    base: {{suite: bookworm}}\n{row}")
    assert [target.base for target in read(back).targets] == [OWN, ""]


def test_custom_base_makes_no_lock_stale(read: Reader) -> None:
    before = [target.resolve_inputs() for target in read().targets]
    after = read(SMALL.replace("suite: bookworm", f"image: {OWN}")).targets
    assert [target.resolve_inputs() for target in after] == before
