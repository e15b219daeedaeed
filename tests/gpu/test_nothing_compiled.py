"""A new container compiles nothing with nvcc, g++ or ninja; what else it compiles is listed.

It has no network: what is not in the image cannot be fetched.

`still_compiled.json` lists it by target and start, and may not grow: what a run finds beyond it
fails, and is printed as the file has it. A target that is not in it yet is skipped with what was
found. Each start has a new HOME and new temporary files.

With `ROLL_IMAGES_RECORDINGS=DIRECTORY` the kernels that Triton is asked for are written there, as
`images/content/kernels/recordings` has them.
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
from tests.gpu import compiler_watch, engines, machines, qwen_engine, triton_recorder
from tests.gpu.compiler_watch import Watch
from tests.gpu.recorder import Recorder
from tests.image.box import Box
from tests.image.subject import Subject

EXPECTED = Path(__file__).with_name("still_compiled.json")

ALONE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "GLOO_SOCKET_IFNAME": "lo",
    "NCCL_SOCKET_IFNAME": "lo",
}
"""Without a network, as smoke's engines."""

RECORDINGS = "ROLL_IMAGES_RECORDINGS"
RECORDER = "/new/recorder"

QUIET = {"SGL_JIT_DEEPGEMM_PRECOMPILE": "false", "SGLANG_JIT_DEEPGEMM_PRECOMPILE": "false"}
"""As smoke has it: DeepGEMM compiles what the requests need, not every size."""


@pytest.fixture(scope="module")
def watched(gpu: Box, subject: Subject, request: pytest.FixtureRequest) -> Iterator[Box]:
    """A box of its own, whose compilers note when they run."""
    engines.need_engine(subject)
    new_box: Box = request.getfixturevalue("new_box")
    env = {"HOME": "/root", **machines.ours()}
    with new_box.started(gpus=True, env=env, loopback_only=True) as started:
        interfaces = started.run("sed '1,2d; s/:.*//' /proc/net/dev").split()
        assert interfaces == ["lo"]
        yield started
        if kept := os.environ.get(RECORDINGS):
            name = kernel_inputs.recording(subject.target.sglang, subject.target.torch).name
            lines = started.run("cat %s", f"{RECORDER}/lines").splitlines()
            path = Path(kept, name)
            path.write_text(triton_recorder.written(triton_recorder.merged(lines)))


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
    return {**own, **recording(box)}


def recording(box: Box) -> dict[str, str]:
    """Have Triton note what it is asked for, if that is wanted; return the variables."""
    if not os.environ.get(RECORDINGS):
        return {}
    box.write(f"{RECORDER}/sitecustomize.py", Path(triton_recorder.__file__).read_text())
    return {"PYTHONPATH": RECORDER, triton_recorder.VARIABLE: f"{RECORDER}/lines"}


def check(name: str, result: Mapping[str, Any], watch: Watch, subject: Subject, home: str) -> None:
    """Compare what was compiled with what is expected of this start."""
    found = compiler_watch.listed(watch.commands(), result["compiled"])
    found |= watch.of_the_driver(home)
    target = subject.target.engine or subject.target.lock_id
    listed: dict[str, Any] = json.loads(EXPECTED.read_text())
    seconds = [engines.reported(result, f"{part}_s") for part in ("import", "start", "first_token")]
    print(f"seconds: imports, start, first token {seconds}, sum {sum(seconds):.1f}")
    print(f"{EXPECTED.name}: {json.dumps({target: {name: found}}, indent=2)}")
    faults = compiler_watch.faults(found, listed.get(target, {}).get(name, {}))
    if faults and target not in listed:
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
    env = {**new_home(watched, "qwen"), **ALONE}
    watched.run("mkdir -p /new/qwen/model")
    script = Path(qwen_engine.__file__).read_text()
    result = watched.ask(script, "/new/qwen/model", env=env)
    recorder.add_run(name, result)
    assert result["lengths"] == [8] * sum(qwen_engine.BATCHES)
    check(name, result, watch, subject, env["HOME"])
