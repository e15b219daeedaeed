"""The kernels of a target, and the key of what is compiled."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from images import format_numbers
from images.content import runtime_wheel
from images.content.kernels import flashinfer_worker, kernel_inputs, sglang_worker
from images.content.kernels.kernel_inputs import Kernels
from images.inputs.lock import base_lock, cuda_lock
from images.inputs.matrix import rules
from images.inputs.matrix.load import load
from images.inputs.matrix.records import Kernel
from images.repository import ROOT
from tests.gpu import kernel_recorder

CUDA_12 = ("8.0", "8.6", "8.9", "9.0")
NORM = Kernel("norm", "every start")
TRITON = Kernel("triton", "every start")
DENSE = Kernel("sglang-dense", "every step", ("9.0",))
BOTH = Kernels(("norm",), ("8.0", "9.0a"), (("9.0", ("dense",)),))


def of(wanted: Sequence[Kernel], served: Sequence[str], row: str = "052") -> Kernels | None:
    target = load(ROOT / "matrix.yaml").target(f"torch280-sglang{row}")
    return kernel_inputs.of(dataclasses.replace(target, kernels=tuple(wanted), gpus=tuple(served)))


def key(kernels: Kernels = BOTH, tools: str = "12.4") -> str:
    return kernel_inputs.key(kernels, cuda_lock.read(tools), base_lock.read())


def test_kernels_are_for_what_the_image_serves() -> None:
    assert of([NORM, DENSE], CUDA_12) == BOTH
    assert of([], CUDA_12) is None


def test_narrowed_image_has_kernels_of_its_gpus_alone() -> None:
    assert of([NORM, DENSE], ["9.0"]) == dataclasses.replace(BOTH, architectures=("9.0a",))
    assert of([NORM, DENSE], ["8.0"]) == Kernels(("norm",), ("8.0",))
    assert of([DENSE], ["8.0", "8.6"]) is None


def test_kernels_of_sglang_are_for_each_gpu_unless_some_are_named() -> None:
    every = DENSE._replace(gpus=())
    found = of([every], ["8.0", "9.0"])
    assert found == Kernels(sglang=(("8.0", ("dense",)), ("9.0", ("dense",))))
    assert found.targets == {"sglang-dense": ("8.0", "9.0")}
    assert (found.modules, found.count) == (("sglang-dense",), 2)
    assert BOTH.targets == {"norm": ("8.0", "9.0a"), "sglang-dense": ("9.0",)}


def test_every_module_that_the_matrix_may_name_has_a_worker() -> None:
    own = {f"{rules.OF_SGLANG}{name}" for name in sglang_worker.KERNELS}
    assert {*flashinfer_worker.MODULES, *own, rules.RECORDED, rules.TRITON} == set(rules.KERNELS)
    assert f"{rules.OF_SGLANG}{sglang_worker.RECORDED}" == rules.RECORDED
    assert set(filter(rules.is_of_flashinfer, rules.KERNELS)) == set(flashinfer_worker.MODULES)


def test_kernels_in_triton_are_for_each_gpu_unless_some_are_named() -> None:
    found = of([TRITON], ["8.0", "9.0"])
    assert found
    assert found.targets == {"triton": ("8.0", "9.0")}
    assert found.recording == kernel_inputs.recording("0.5.2", "2.8.0")
    assert (found.modules, found.count) == (("triton",), 1)
    named = of([TRITON._replace(gpus=("9.0",)), NORM], ["8.0", "9.0"])
    assert named
    assert named.targets == {"norm": ("8.0", "9.0a"), "triton": ("9.0",)}
    assert of([TRITON._replace(gpus=("9.0",))], ["8.0"]) is None


def test_kernels_in_triton_need_a_recording_of_sglang_and_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_inputs, "RECORDINGS", tmp_path)
    for others in (("0.5.2", "2.9.1"), ("0.5.3", "2.8.0")):
        kernel_inputs.recording(*others).write_text('{"sglang": [], "triton": [{}]}')
    assert of([TRITON], ["9.0"]) is None
    found = of([TRITON, NORM], ["9.0"])
    assert found
    assert (found.triton, found.recording) == ((), None)


@pytest.mark.parametrize(
    ("recording", "modules"),
    [
        ({"sglang": [], "triton": []}, set()),
        ({"sglang": [{}], "triton": []}, {"sglang-recorded"}),
        ({"sglang": [{}], "triton": [{}]}, {"sglang-recorded", "triton"}),
    ],
)
def test_kernels_of_sglang_and_in_triton_are_compiled_where_any_are_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recording: object, modules: set[str]
) -> None:
    monkeypatch.setattr(kernel_inputs, "RECORDINGS", tmp_path)
    path = kernel_inputs.recording("0.5.5.post3", "2.8.0")
    path.write_text(json.dumps(recording))
    found = of([TRITON, Kernel("sglang-recorded", "", ("9.0",))], ["8.0", "9.0"], "055")
    assert (set(found.modules) if found else set()) == modules
    assert (found.recording if found else None) == (path if modules else None)
    if found:
        assert dict(found.sglang) == {"9.0": ("recorded",)}


@pytest.mark.parametrize("path", sorted(kernel_inputs.RECORDINGS.glob("*.json")), ids=str)
def test_recordings_are_as_they_are_written_and_of_a_target(path: Path) -> None:
    recording = kernel_inputs.read(path)
    lines = [json.dumps({owner: one}) for owner, kernels in recording.items() for one in kernels]
    assert kernel_recorder.written(kernel_recorder.merged(lines)) == path.read_text()
    assert path in {
        kernel_inputs.recording(target.sglang, target.torch)
        for target in load(ROOT / "matrix.yaml").targets
    }
    for kernel in recording["triton"]:
        assert bool(kernel["module"]) != bool(kernel["source"])
        assert not kernel["module"] or kernel["module"].startswith("sglang.")


@pytest.mark.parametrize("version", ["0.5.2", "0.5.12.post1"])
def test_narrowed_targets_of_the_matrix_are_compiled_for_9_0a_alone(version: str) -> None:
    (plain, *_) = [t for t in load(ROOT / "matrix.yaml").targets if t.sglang == version]
    narrowed = plain.narrowed(("9.0",))
    found = kernel_inputs.of(narrowed)
    assert found
    assert found.architectures == ("9.0a",)
    assert {gpu for gpu, _ in found.sglang} <= {"9.0"}
    whole = kernel_inputs.of(plain)
    assert whole
    assert whole.modules == found.modules


# -- key -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [
        dataclasses.replace(BOTH, flashinfer=("norm", "sampling")),
        dataclasses.replace(BOTH, architectures=("9.0a",)),
        dataclasses.replace(BOTH, sglang=()),
        dataclasses.replace(BOTH, sglang=(("8.0", ("dense",)),)),
        dataclasses.replace(BOTH, triton=("9.0",), recording=Path(__file__)),
    ],
)
def test_other_kernels_have_another_key(changed: Kernels) -> None:
    assert key(changed) != key()


def test_other_compiler_base_and_number_give_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key()
    assert key(tools="13.0") != before
    tools, debs = cuda_lock.read("12.4"), base_lock.read()
    assert kernel_inputs.key(BOTH, tools, debs[1:]) != before
    assert kernel_inputs.key(BOTH, tools, debs) == before
    monkeypatch.setattr(format_numbers, "KERNELS", "other")
    assert key() != before


def test_programs_that_run_are_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    flashinfer = dataclasses.replace(BOTH, sglang=())
    before = key(), key(flashinfer)
    monkeypatch.setattr(kernel_inputs, "OF_SGLANG", kernel_inputs.OF_FLASHINFER)
    assert key() != before[0]
    assert key(flashinfer) == before[1], "SGLang's worker does not run"
    monkeypatch.setattr(kernel_inputs, "OF_FLASHINFER", Path(__file__))
    assert key(flashinfer) != before[1]


def test_recording_is_in_the_key(tmp_path: Path) -> None:
    path = tmp_path / "recording.json"
    path.write_text("{}")
    kernels = Kernels(triton=("9.0",), recording=path)
    before = key(kernels)
    assert key(dataclasses.replace(kernels, triton=("8.0", "9.0"))) != before
    path.write_text('{"triton": [1]}')
    assert key(kernels) != before


def test_of_roll_runtime_only_what_names_kernels_is_in_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flashinfer = dataclasses.replace(BOTH, sglang=())
    source = tmp_path / "src" / "roll_runtime"
    source.mkdir(parents=True)
    for path in (runtime_wheel.SOURCE / "src" / "roll_runtime").glob("*.py"):
        (source / path.name).write_bytes(path.read_bytes())
    before = key(), key(flashinfer)
    monkeypatch.setattr(runtime_wheel, "SOURCE", tmp_path)
    (source / "_hooks.py").write_text("other")
    assert (key(), key(flashinfer)) == before
    (source / "jit_kernels.py").write_text("other")
    assert key() != before[0]
    assert key(flashinfer) == before[1]
