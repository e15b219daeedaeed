"""FlashInfer's worker, run on a small FlashInfer: what it sets, compiles and keeps."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from images.content.kernels import flashinfer_worker, kernel_inputs

CORE = """
import json, os, pathlib, torch

WORKSPACE = pathlib.Path(os.environ["FLASHINFER_WORKSPACE_BASE"])

class JitSpec:
    def __init__(self, name):
        self.name = name
        self.jit_library_path = WORKSPACE / name / f"{name}.so"
    def write_ninja(self):
        self.jit_library_path.parent.mkdir(parents=True)
    def build(self, verbose):
        if self.name == os.environ.get("BROKEN"):
            raise RuntimeError("Ninja build failed. Ninja output:\\nnorm.cu(7): error: no")
        names = ("FLASHINFER_CUDA_ARCH_LIST", "TORCH_CUDA_ARCH_LIST")
        assert {"FLASHINFER_NVCC_THREADS", "MAX_JOBS"} <= os.environ.keys()
        seen = [torch.__version__, *(os.environ[name] for name in names)]
        self.jit_library_path.write_text(json.dumps(seen))

def gen_batch_prefill_module(backend, *arguments):
    assert arguments[0] is torch.bfloat16 and arguments[3] is torch.int32
    return JitSpec(f"prefill_{backend}_{arguments[4]}")
"""
FLASHINFER = {
    "flashinfer/__init__.py": "import torch, numpy, triton\n",
    "flashinfer/jit.py": CORE,
    "flashinfer/norm.py": "from . import jit\ndef gen_norm_module(): return jit.JitSpec('norm')\n",
    "flashinfer/sampling.py": (
        "from . import jit\ndef gen_sampling_module(): return jit.JitSpec('sampling')\n"
    ),
}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    for name, content in FLASHINFER.items():
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path / "site"


def compiled(
    site: Path, modules: list[str], **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the worker; its `strip` notes how it was called."""
    directory, programs = site.parent / "build", site.parent / "bin"
    for path in (directory, programs):
        path.mkdir()
    (programs / "strip").write_text('#!/bin/sh\necho "$1" >> "$2".stripped\n')
    (programs / "strip").chmod(0o755)
    (directory / "stand_ins.py").write_bytes(
        kernel_inputs.OF_FLASHINFER.with_name("stand_ins.py").read_bytes()
    )
    wanted = {
        "torch": "2.8.0",
        "cxx11_abi": True,
        "cuda_home": "/usr/local/cuda",
        "site_packages": str(site),
        "flashinfer": {"architectures": ["8.0", "9.0a"], "modules": modules},
    }
    (directory / "kernels.json").write_text(json.dumps(wanted))
    command = [sys.executable, "-s", "-B", str(kernel_inputs.OF_FLASHINFER), str(directory)]
    env = {"PYTHONPATH": str(site), "PATH": f"{programs}:/usr/bin:/bin", **environment}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_modules_are_compiled_stripped_and_kept_by_their_paths(site: Path) -> None:
    done = compiled(site, list(flashinfer_worker.MODULES))
    assert done.returncode == 0, done.stderr
    aot = Path(f"{site.parent}/build/kernels{site}/flashinfer/data/aot")
    names = {path.parent.name for path in aot.glob("*/*.so")}
    assert names == {"norm", "sampling", "prefill_fa2_128"}
    for name in names:
        library = aot / name / f"{name}.so"
        assert library.with_suffix(".so.stripped").read_text() == "--strip-all\n"
        assert json.loads(library.read_text()) == [
            "2.8.0",
            "8.0 9.0a",
            "8.0;9.0a",
        ]


@pytest.mark.parametrize(
    ("architectures", "processors", "gibibytes", "threads", "jobs"),
    [
        (4, 2, 24, 2, 1),
        (7, 2, 2, 1, 1),
        (7, 4, 1, 1, 1),
        (7, 16, 16, 7, 1),
        (4, 16, 64, 4, 4),
        (1, 8, 64, 1, 8),
    ],
)
def test_no_more_compilers_than_processors_and_memory_allow(
    architectures: int, processors: int, gibibytes: int, threads: int, jobs: int
) -> None:
    assert flashinfer_worker.at_a_time(architectures, processors, gibibytes << 30) == {
        "FLASHINFER_NVCC_THREADS": str(threads),
        "MAX_JOBS": str(jobs),
    }


def test_failure_ends_with_the_compilers_output(site: Path) -> None:
    done = compiled(site, ["sampling", "norm"], BROKEN="norm")
    assert done.returncode != 0
    assert done.stderr.endswith("Ninja output:\nnorm.cu(7): error: no\n")
