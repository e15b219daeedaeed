"""A new container compiles nothing with nvcc, g++ or ninja; what else it compiles is listed.

It has no network: what is not in the image cannot be fetched.

`still_compiled.json` lists it by target and start, and may not grow: what a run finds beyond it
fails, and is printed as the file has it. A target that is not in it yet is skipped with what was
found. Each start has a new HOME and new temporary files.

What Triton and SGLang's own compiler are asked for is recorded for such a target, as
`images/content/kernels/recordings` has it: in `recordings` beside the evidence, or, for any target,
in the directory that `ROLL_IMAGES_RECORDINGS` names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from images.attest.evidence import Machine
from images.content.kernels import kernel_inputs
from tests.gpu import compiler_watch, engines, kernel_recorder, machines, qwen_engine
from tests.gpu.compiler_watch import Watch
from tests.gpu.recorder import Recorder
from tests.image.box import Box
from tests.image.subject import Subject

EXPECTED = Path(__file__).with_name("still_compiled.json")

RECORDINGS = "ROLL_IMAGES_RECORDINGS"
RECORDER = "/new/recorder"

QUIET = {"SGL_JIT_DEEPGEMM_PRECOMPILE": "false", "SGLANG_JIT_DEEPGEMM_PRECOMPILE": "false"}
"""As smoke has it: DeepGEMM compiles what the requests need, not every size."""


def name_of(subject: Subject) -> str:
    return subject.target.engine or subject.target.lock_id


def listed() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(EXPECTED.read_text())
    return found


@pytest.fixture(scope="module")
def recordings(pytestconfig: pytest.Config, subject: Subject) -> Path | None:
    """The directory where what is compiled is recorded, if it is."""
    if kept := os.environ.get(RECORDINGS):
        return Path(kept)
    evidence: Path | None = pytestconfig.getoption("--evidence")
    new = name_of(subject) not in listed()
    return evidence.absolute().parent / "recordings" if new and evidence else None


@pytest.fixture(scope="module")
def watched(
    gpu: Box, subject: Subject, recordings: Path | None, request: pytest.FixtureRequest
) -> Iterator[Box]:
    """A box of its own, whose compilers note when they run."""
    engines.need_engine(subject)
    new_box: Box = request.getfixturevalue("new_box")
    env = {"HOME": "/root", **machines.ours()}
    with new_box.started(gpus=True, env=env, loopback_only=True) as started:
        interfaces = started.run("sed '1,2d; s/:.*//' /proc/net/dev").split()
        assert interfaces == ["lo"]
        if recordings:
            started.write(
                f"{RECORDER}/sitecustomize.py", Path(kernel_recorder.__file__).read_text()
            )
        yield started
        if recordings:
            keep_recording(started, subject, recordings)


def keep_recording(box: Box, subject: Subject, directory: Path) -> None:
    """Write what was recorded, by the name that it has as an input of a build."""
    lines = box.attempt("cat %s", f"{RECORDER}/lines").stdout.splitlines()
    directory.mkdir(exist_ok=True)
    path = directory / kernel_inputs.recording(subject.target.sglang, subject.target.torch).name
    path.write_text(kernel_recorder.written(kernel_recorder.merged(lines)))


@pytest.fixture(scope="module")
def watch(watched: Box) -> Watch:
    found = Watch(watched)
    print(found.programs)
    assert {"nvcc", "ninja", "g++", "gcc"} <= set(found.programs.values())
    return found


def new_home(box: Box, name: str) -> dict[str, str]:
    """Make a HOME and a directory of temporary files; return the variables."""
    box.run("mkdir -p %s %s", f"/new/{name}/home", f"/new/{name}/tmp")
    own = {"HOME": f"/new/{name}/home", "TMPDIR": f"/new/{name}/tmp", **engines.ROLL, **QUIET}
    # Python reads the recorder if it is there.
    return {**own, "PYTHONPATH": RECORDER, kernel_recorder.VARIABLE: f"{RECORDER}/lines"}


def check(name: str, result: Mapping[str, Any], watch: Watch, subject: Subject, home: str) -> None:
    """Compare what was compiled with what is expected of this start."""
    found = compiler_watch.listed(watch.commands(), result["compiled"])
    found |= watch.of_the_driver(home)
    target, known = name_of(subject), listed()
    seconds = [engines.reported(result, f"{part}_s") for part in ("import", "start", "first_token")]
    print(f"seconds: imports, start, first token {seconds}, sum {sum(seconds):.1f}")
    print(f"{EXPECTED.name}: {json.dumps({target: {name: found}}, indent=2)}")
    faults = compiler_watch.faults(found, known.get(target, {}).get(name, {}))
    if faults and target not in known:
        pytest.skip(f"{EXPECTED.name} has no {target} yet, which compiled {'; '.join(faults)}")
    assert not faults, f"compiled in a new container: {'; '.join(faults)}"


def test_own_backends_compile_nothing(
    watched: Box, watch: Watch, subject: Subject, recorder: Recorder
) -> None:
    name = "new container"
    env = new_home(watched, "backends")
    result = engines.start(watched, recorder, name, "--default-backends", env=env)
    assert result["faults"] == []
    check(name, result, watch, subject, env["HOME"])


def test_block_fp8_compiles_nothing(
    watched: Box, watch: Watch, subject: Subject, recorder: Recorder, machine: Machine
) -> None:
    engines.need_fp8(watched, subject, machine)
    name = "new container, block FP8"
    env = new_home(watched, "fp8")
    result = engines.start(watched, recorder, name, "--default-backends", "--fp8", env=env)
    assert result["faults"] == []
    check(name, result, watch, subject, env["HOME"])


def test_the_shapes_of_qwen_compile_nothing(
    watched: Box, watch: Watch, subject: Subject, recorder: Recorder
) -> None:
    name = "new container, Qwen2.5-7B's shapes"
    env = {**new_home(watched, "qwen"), **engines.ALONE}
    watched.run("mkdir -p /new/qwen/model")
    script = Path(qwen_engine.__file__).read_text()
    result = watched.ask(script, "/new/qwen/model", env=env)
    recorder.add_run(name, result)
    assert result["lengths"] == [8] * sum(qwen_engine.BATCHES)
    check(name, result, watch, subject, env["HOME"])
