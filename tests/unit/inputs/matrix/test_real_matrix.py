"""The real matrix.yaml holds what the images promise."""

from __future__ import annotations

import runpy
import subprocess
import sys

from packaging.version import Version

from images.inputs.matrix.load import load
from images.repository import ROOT, SGLANG_VERSIONS
from tests.unit.inputs.matrix.conftest import REAL


def test_each_release_that_roll_runtime_supports_has_one_row() -> None:
    source = runpy.run_path(str(SGLANG_VERSIONS))
    assert [t.sglang for t in load(REAL).targets if not t.flavour] == [*source["SUPPORTED"]]


def test_what_rolls_dispatch_knows_has_the_flavour() -> None:
    known = {one.version for one in runpy.run_path(str(SGLANG_VERSIONS))["RELEASES"] if one.roll}
    assert known < {t.sglang for t in load(REAL).targets if t.flavour == "roll"}


def test_the_real_pins() -> None:
    matrix = load(REAL)
    old = matrix.target("torch260-sglang046")
    assert {"transformers==4.51.1", "cuda-bindings==12.9.0"} <= set(old.requirements)
    assert "sglang[srt,torch-memory-saver]==0.4.6.post4" in old.requirements
    assert [sdist.name for sdist in old.sdists] == ["flashinfer-python"]
    new = matrix.target("torch280-sglang054")
    assert [pin.requirement for pin in new.overrides] == ["flashinfer-python==0.5.0"]
    assert "sglang==0.5.4.post2" in new.requirements
    assert new.sdists == ()


def test_every_real_target_holds_the_contract() -> None:
    for target in load(REAL).targets:
        cuda_12 = target.cuda.startswith("12.")
        assert target.toolkit == ("12.4" if cuda_12 else "13.0")
        env = {default.name: default.value for default in target.env}
        late = Version(target.sglang) >= Version("0.5.2")
        knows = Version(target.sglang) >= Version("0.5.10")
        assert env.pop("FLASHINFER_NO_DOWNLOAD", None) == ("1" if knows else None)
        assert env.pop("TRTLLM_ENABLE_PDL", None) == ("1" if late else None)
        assert env == {
            "PATH": "/opt/venv/bin:/usr/local/cuda/bin:/usr/local/sbin:/usr/local/bin:"
            "/usr/sbin:/usr/bin:/sbin:/bin",
            "CUDA_HOME": "/usr/local/cuda",
            "LIBRARY_PATH": "/usr/local/cuda/lib64/stubs",
            "CUDA_DEVICE_MAX_CONNECTIONS": "4",
            "CUDA_MODULE_LOADING": "AUTO",
            "SGLANG_BLOCK_NONZERO_RANK_CHILDREN": "0",
            "NVIDIA_VISIBLE_DEVICES": "all",
            "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
            "NVIDIA_REQUIRE_CUDA": "cuda>=12.0" if cuda_12 else "cuda>=13.0",
            "ROLL_RUNTIME_GPUS": "8.0 8.6 8.9 9.0" + ("" if cuda_12 else " 10.0 10.3 12.0 12.1"),
        }
        assert env["ROLL_RUNTIME_GPUS"].split() == [*target.gpus]
        assert f"torch=={target.torch}" in target.requirements
        assert any(text.startswith("pip==") for text in target.requirements)
        assert ("cuda-python<13" in [pin.requirement for pin in target.constraints]) == cuda_12
        pins = (*target.constraints, *target.overrides)
        assert all(pin.why for pin in pins)
        assert all(sdist.why for sdist in target.sdists)
        assert all(default.why for default in target.env)
        assert target.exclude_newer_why
        assert target.budget
        assert 2.5e9 < target.budget.size < (6e9 if target.flavour else 5e9)
        assert target.budget.why


def test_loading_imports_no_slow_parser() -> None:
    slow = "{'packaging', 'difflib', 'requests', 'rich', 'docker', 'subprocess'}"
    code = (
        "import sys; from pathlib import Path; from images.inputs.matrix.load import load;"
        f"load(Path('matrix.yaml')); sys.exit(', '.join({slow} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
