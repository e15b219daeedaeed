"""The job that compiles kernels: its files, its commands, its results, its failures."""

from __future__ import annotations

import errno
import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from images import image_paths
from images.content.debian import confined
from images.content.debian.confined import Job
from images.content.kernels import kernel_build
from images.content.kernels.kernel_build import Sources
from images.content.kernels.kernel_inputs import Kernels
from images.errors import IntegrityError, StoreError, ToolError
from images.formats.wheel_changes import Changes, Rules
from images.inputs.lock.deb import Deb
from images.oci.layer.entry import Entry, of_bytes, of_symlink
from tests.unit.fake_toolkits import fake_12
from tests.unit.wheels import write_wheel

SITE = image_paths.SITE_PACKAGES
NORM = f"{SITE}/flashinfer/data/aot/norm/norm.so"
DENSE = "opt/venv/kernels/tvm-ffi/sgl_kernel_jit_a_0123/sgl_kernel_jit_a.so"
IN_TRITON = [
    "opt/venv/kernels/triton/ABC234/__grp__a_kernel.json",
    "opt/venv/kernels/triton/ABC234/__triton_launcher.cpython-311-x86_64-linux-gnu.so",
    "opt/venv/kernels/triton/ABC234/a_kernel.cubin",
]
TORCH = {
    "torch/_inductor/runtime/triton_helpers.py": b"",
    "torch/_inductor/runtime/hints.py": b"",
    "torch/include/ATen/a.h": b"header",
    "torch/lib/libc10.so": b"a library of its own",
    "torch/nn/a.py": b"",
    "torch/share/cmake/Torch/TorchConfig.cmake": b"set(TORCH_CXX_FLAGS)",
}
WHEEL = "flashinfer_python-1.0-py3-none-any.whl"
KERNELS = Kernels(("norm", "sampling"), ("8.0", "9.0a"))


class Root:
    """Stands in for the root file system: keeps the job, and returns results and a log."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.files: dict[str, tarfile.TarInfo] = {}
        self.wanted: dict[str, Any] = {}
        self.results = [NORM]
        self.log = ""

    def run(self, job: Job, debs: Sequence[Deb], cache: Path, workdir: Path) -> tuple[Path, str]:
        self.jobs.append(job)
        with tarfile.open(job.files) as tar:
            self.files = {member.name: member for member in tar}
            content = tar.extractfile("build/kernels.json")
            assert content
            self.wanted = json.loads(content.read())
        output = workdir / "kernels.tar"
        with tarfile.open(output, "w") as tar:
            for name in self.results:
                tar.addfile(tarfile.TarInfo(f"./{name}"))
        return output, self.log


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> Root:
    found = Root()
    monkeypatch.setattr(confined, "run", found.run)
    return found


def made(
    tmp_path: Path,
    kernels: Kernels = KERNELS,
    torch: dict[str, bytes] = TORCH,
    record: str | None = None,
    files: Mapping[str, bytes] | None = None,
    changes: Mapping[Path, Changes] | None = None,
) -> list[Entry]:
    (tmp_path / "work").mkdir()
    content = {"flashinfer/__init__.py": b"", **(files or {})}
    wheel = write_wheel(tmp_path, content, name="flashinfer_python", record=record)
    assert wheel.name == WHEEL
    sources = Sources(
        [wheel],
        [
            write_wheel(tmp_path, torch, name="torch", version="2.8.0"),
            write_wheel(
                tmp_path,
                {"nvidia/cuda_runtime/lib/libcudart.so.12": b"", "nvidia/cuda_runtime/a.py": b""},
                name="nvidia_cuda_runtime_cu12",
            ),
        ],
        "2.8.0",
        [of_symlink("usr/local/cuda/include/nccl.h", "/opt/nccl.h")],
        fake_12(tmp_path),
        [],
        frozenset({wheel} if record else ()),
        changes or {},
    )
    return list(kernel_build.entries(kernels, sources, tmp_path, tmp_path / "work"))


def test_results_are_libraries_of_the_image(root: Root, tmp_path: Path) -> None:
    root.results = [
        NORM,
        DENSE,
        "opt/venv/kernels/other/a/a.so",
        f"{SITE}/flashinfer/data/aot/norm/build.ninja",
        f"{SITE}/flashinfer/data/aot/../../evil/a.so",
        "opt/venv/kernels/triton/ABC234/../../evil.so",
        "opt/venv/kernels/triton/recorded_1.py",
        "etc/ld.so.preload",
        *IN_TRITON,
    ]
    found = made(tmp_path)
    assert [entry.path for entry in found] == [*IN_TRITON, DENSE, NORM]
    assert {entry.kind for entry in found} == {"file"}
    assert [entry.mode for entry in found] == [0o644, 0o755, 0o644, 0o755, 0o755]


def test_job_has_the_compiler_the_headers_and_what_runs(root: Root, tmp_path: Path) -> None:
    made(tmp_path)
    assert root.files.keys() >= {
        "usr/local/cuda/bin/nvcc",
        "usr/local/cuda/lib64/stubs/libcuda.so",
        "usr/local/cuda/include/nccl.h",
        f"{SITE}/flashinfer/__init__.py",
        f"{SITE}/torch/_inductor/runtime/triton_helpers.py",
        f"{SITE}/torch/include/ATen/a.h",
        f"{SITE}/torch/lib/libtorch_cpu.so",
        f"{SITE}/torch-2.8.0.dist-info/METADATA",
        f"{SITE}/nvidia/cuda_runtime/lib/libcudart.so.12",
        "build/stand_ins.py",
        "build/flashinfer_worker.py",
    }
    assert not root.files.keys() & {
        f"{SITE}/torch/_inductor/runtime/hints.py",
        f"{SITE}/torch/nn/a.py",
        f"{SITE}/nvidia/cuda_runtime/a.py",
        "build/sglang_worker.py",
        "build/triton_worker.py",
    }
    assert root.files[f"{SITE}/torch/lib/libc10.so"].size != len(TORCH["torch/lib/libc10.so"])
    assert root.files["usr/local/cuda/include/nccl.h"].issym()


def test_workers_read_what_is_wanted(root: Root, tmp_path: Path) -> None:
    made(tmp_path)
    assert root.wanted == {
        "cuda_home": "/usr/local/cuda",
        "cxx11_abi": True,
        "flashinfer": {"architectures": ["8.0", "9.0a"], "modules": ["norm", "sampling"]},
        "prefix": "/opt/venv",
        "sglang": [],
        "site_packages": "/opt/venv/lib/python3.11/site-packages",
        "torch": "2.8.0",
        "triton": {"gpus": [], "recorded": []},
    }


def test_torch_with_the_old_abi_is_reported_to_the_workers(root: Root, tmp_path: Path) -> None:
    old = {**TORCH, kernel_member(): b'set(TORCH_CXX_FLAGS "-D_GLIBCXX_USE_CXX11_ABI=0")'}
    made(tmp_path, torch=old)
    assert root.wanted["cxx11_abi"] is False


def kernel_member() -> str:
    (member,) = [name for name in TORCH if name.endswith(".cmake")]
    return member


def test_torch_that_does_not_state_its_abi_is_refused(root: Root, tmp_path: Path) -> None:
    other = {name: content for name, content in TORCH.items() if name != kernel_member()}
    with pytest.raises(IntegrityError, match=r"torch 2.8.0: the wheel has no .*TorchConfig.cmake"):
        made(tmp_path, torch=other)


def test_wheel_with_a_wrong_record_is_read_if_the_lock_permits(root: Root, tmp_path: Path) -> None:
    made(tmp_path, record="wrong,sha256=x,1\n")
    assert f"{SITE}/flashinfer/__init__.py" in root.files


def test_each_gpu_of_sglangs_kernels_takes_a_process(root: Root, tmp_path: Path) -> None:
    made(tmp_path, Kernels(("norm",), ("9.0a",), (("8.0", ("dense",)), ("9.0", ("dense", "b")))))
    python = "/usr/bin/python3.11 -s -P -B /build"
    assert list(root.jobs[0].command) == [
        "sh",
        "-ec",
        f"{python}/flashinfer_worker.py /build; {python}/sglang_worker.py /build 8.0 dense; "
        f"{python}/sglang_worker.py /build 9.0 dense b",
    ]
    assert root.files.keys() >= {"build/sglang_worker.py", f"{SITE}/roll_runtime/jit_kernels.py"}


def test_kernels_in_triton_are_compiled_from_their_recording(root: Root, tmp_path: Path) -> None:
    recording = tmp_path / "recording.json"
    recording.write_text('{"triton": [{"function": "a_kernel"}], "sglang": [{"name": ["b"]}]}')
    made(tmp_path, Kernels(triton=("8.0", "9.0"), recording=recording))
    command = "/usr/bin/python3.11 -s -P -B /build/triton_worker.py /build"
    assert list(root.jobs[0].command) == ["sh", "-ec", command]
    assert root.wanted["triton"] == {
        "gpus": ["8.0", "9.0"],
        "recorded": [{"function": "a_kernel"}],
    }
    assert root.wanted["sglang"] == [{"name": ["b"]}]
    assert root.files.keys() >= {"build/triton_worker.py", "build/stand_ins.py"}


def test_wheels_are_changed_as_in_the_image(root: Root, tmp_path: Path) -> None:
    """What Triton's keys depend on is what the image has."""
    path = f"{SITE}/flashinfer/unused.a"
    changes = {tmp_path / WHEEL: Changes(Rules(None, "", (path,)))}
    made(tmp_path, files={"flashinfer/unused.a": b""}, changes=changes)
    assert path not in root.files
    assert f"{SITE}/flashinfer_python-1.0.dist-info/MODIFIED.json" in root.files


def test_file_that_is_read_in_pieces_is_packed_whole(root: Root, tmp_path: Path) -> None:
    """A changed library is: a read returns what is left of a part of it."""

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(3, size or 0))

    entry = replace(of_bytes("a/b", b"0123456789", 0o644), open=lambda: Slow(b"0123456789"))
    kernel_build._pack([entry], tmp_path / "files.tar")
    with tarfile.open(tmp_path / "files.tar") as tar:
        content = tar.extractfile("a/b")
        assert content
        assert content.read() == b"0123456789"


def test_failure_ends_with_the_compilers_last_lines(root: Root, tmp_path: Path) -> None:
    root.results = []
    root.log = "".join(f"line {number}\n" for number in range(100)) + "norm.cu(7): error: no\n"
    with pytest.raises(ToolError) as caught:
        made(tmp_path)
    message = caught.value.message
    assert message.startswith("the kernels norm, sampling cannot be compiled:\n")
    assert message.endswith("\nline 99\nnorm.cu(7): error: no")
    assert "line 10\n" not in message
    assert "`kernels:` in matrix.yaml" in (caught.value.remedy or "")


def test_full_disk_is_reported_as_one(root: Root, tmp_path: Path) -> None:
    root.results = []
    root.log = f"nvcc fatal: {os.strerror(errno.ENOSPC)}\n"
    with pytest.raises(StoreError, match="No space left on device") as caught:
        made(tmp_path)
    assert "free some space" in (caught.value.remedy or "")
