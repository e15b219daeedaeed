"""Each CUDA compiler from its real sources, on the real base: compiles, links and is found.

Needs root (chroot), mmdebstrap, a Debian mirror and a package index, or a filled cache
(ROLL_IMAGES_CACHE, else ~/.cache/roll-images). No GPU and no driver: nothing is launched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from images import image_paths
from images.content.cuda import links, toolkit
from images.inputs.fetch import deb_files, download_cache, mirror
from images.inputs.fetch.downloads import Downloads
from images.inputs.lock import cuda_lock, deb
from images.inputs.lock.distribution import Distribution
from images.oci.layer.entry import Entry

CACHE = Path(os.environ.get("ROLL_IMAGES_CACHE") or Path.home() / ".cache" / "roll-images")

pytestmark = [
    pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="needs mmdebstrap"),
    pytest.mark.skipif(os.getuid() != 0, reason="needs root for chroot"),
    pytest.mark.timeout(900),
]


@dataclass(frozen=True)
class Case:
    """A compiler, and what of a target's wheels it is tried with.

    Attributes:
        version: of the compiler.
        wheels: as in a target's lock.
        release: the version that nvcc reports.
        runtime: the version that the runtime reports.
        major: what the libraries' names end in.
        architectures: the oldest, Hopper's and, where it is served, Blackwell's.
    """

    version: str
    wheels: tuple[str, ...]
    release: str
    runtime: int
    major: int
    architectures: tuple[str, ...]


CASES = (
    # The wheels are of another CUDA 12 than the compiler, as in the image of torch 2.8.
    Case(
        "12.4",
        (
            "nvidia-cuda-runtime-cu12==12.8.90",
            "nvidia-curand-cu12==10.3.9.90",
            "nvidia-cublas-cu12==12.8.4.1",
        ),
        "release 12.4, V12.4.131",
        12080,
        12,
        ("sm_80", "sm_90a"),
    ),
    Case(
        "13.0",
        (
            "nvidia-cuda-runtime==13.0.96",
            "nvidia-curand==10.4.0.35",
            "nvidia-cublas==13.1.0.3",
        ),
        "release 13.0, V13.0.88",
        13000,
        13,
        ("sm_80", "sm_90a", "sm_100a"),
    ),
)

KERNEL = """
#include <cstdio>
#include <cub/cub.cuh>
#include <cuda/pipeline>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <cooperative_groups.h>
__global__ void kernel(__half* x, int* out) {
  using Reduce = cub::BlockReduce<int, 128>;
  __shared__ typename Reduce::TempStorage storage;
  int sum = Reduce(storage).Sum(threadIdx.x);
  if (threadIdx.x == 0) { *out = sum; x[0] = __float2half(1.0f); }
}
int main() {
  int version = 0;
  cudaRuntimeGetVersion(&version);
  std::printf("%d\\n", version);
  if (version < 0) kernel<<<1, 128>>>(nullptr, nullptr);
}
"""
LIBRARIES = """
#include <cublas_v2.h>
#include <cublasLt.h>
#include <cuda.h>
#include <curand_kernel.h>
__global__ void draw(float* out) {
  curandStatePhilox4_32_10_t state;
  curand_init(1, 2, 3, &state);
  *out = curand_uniform(&state);
}
int main() { cublasHandle_t handle; return cuInit(0) + cublasCreate(&handle); }
"""


def download_debs(debs: Sequence[deb.Deb]) -> None:
    where = mirror.find()
    deb_files.download(debs, where, CACHE)


def download_wheels(wheels: Iterable[Distribution]) -> None:
    from images.inputs.resolve import uv

    wanted = {wheel.pin: wheel.artifact for wheel in wheels}
    if not download_cache.missing(wanted.values(), CACHE):
        return
    with Downloads(CACHE, jobs=4, advance=lambda _: None) as downloads:
        started = [downloads.start(file, url) for file, url in uv.locate(wanted).items()]
        for future in started:
            future.result()


def put(entries: Iterable[Entry], root: Path) -> None:
    for entry in entries:
        path = root / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry.kind == "symlink":
            path.symlink_to(entry.target)
        else:
            with entry.open() as stream, path.open("wb") as out:
                shutil.copyfileobj(stream, out)
            path.chmod(entry.mode)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: str(case.version))
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture(scope="module")
def root(case: Case, base_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    from images.inputs.resolve import uv

    tools = cuda_lock.read(case.version)
    target = [
        Distribution(found.name, found.version, found.artifact)
        for found in uv.resolve(uv.Request(case.wheels, dependencies=False))
    ]
    if download_cache.missing([item.artifact for item in tools.debs], CACHE):
        download_debs(tools.debs)
    # Apart: uv does not locate two versions of nvidia-cuda-runtime-cu12 in one run.
    download_wheels(tools.wheels)
    download_wheels(target)
    workdir = tmp_path_factory.mktemp("toolkit")
    place = workdir / "root"
    place.mkdir()
    subprocess.run(["tar", "-xpf", base_tar, "-C", place, "--numeric-owner"], check=True)
    put(toolkit.entries(tools, CACHE), place)
    members = {}
    for wheel in target:
        with zipfile.ZipFile(download_cache.cached(wheel.artifact, CACHE)) as archive:
            members[wheel.name] = archive.namelist()
            archive.extractall(place / image_paths.SITE_PACKAGES)
    own = {wheel.name for wheel in tools.header_wheels}
    put(links.entries(members, own), place)
    (place / "tmp" / "kernel.cu").write_text(KERNEL)
    (place / "tmp" / "libraries.cu").write_text(LIBRARIES)
    yield place
    shutil.rmtree(workdir)


def inside(root: Path, script: str) -> str:
    """Run a script in the root; return its output, in which there must be no warnings.

    With /proc, in a mount namespace that ends with the script: cuobjdump crashes without.
    """
    mounted = 'mount -t proc proc "$0/proc"; exec chroot "$0" sh -ec "$1"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", mounted, str(root), f"cd /tmp; {script}"],
        env={"PATH": "/usr/local/cuda/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout


def test_the_version_is_what_flashinfer_parses(root: Path, case: Case) -> None:
    assert case.release in inside(root, "nvcc --version")


def test_nvcc_compiles_and_links(root: Path, case: Case) -> None:
    """With the target's runtime, found without any path setting."""
    for arch in case.architectures:
        printed = inside(root, f"nvcc -arch={arch} -o nvcc-{arch} kernel.cu; ./nvcc-{arch}")
        assert printed.strip() == str(case.runtime), arch


def test_gxx_links_what_nvcc_compiled(root: Path, case: Case) -> None:
    numbers = [arch.removeprefix("sm_") for arch in case.architectures]
    codes = " ".join(f"-gencode arch=compute_{item},code=sm_{item}" for item in numbers)
    printed = inside(
        root,
        f"nvcc {codes} -c kernel.cu -o kernel.o;"
        "g++ kernel.o -o gxx -L/usr/local/cuda/lib64 -lcudart; ./gxx;"
        "cuobjdump -lelf gxx; cuobjdump -sass gxx > sass; grep -c EXIT sass",
    )
    assert str(case.runtime) in printed
    for arch in case.architectures:
        assert f"{arch}.cubin" in printed


def test_shared_objects_and_cubins_as_flashinfer_and_deepgemm_make_them(root: Path) -> None:
    inside(root, "nvcc -shared -Xcompiler -fPIC -std=c++17 -arch=sm_80 kernel.cu -o k.so -lcuda")
    inside(root, "nvcc -rdc=true -arch=sm_80 kernel.cu -o rdc; nvcc -cubin -arch=sm_90a kernel.cu")
    assert "kernel" in inside(root, "cuobjdump -symbols kernel.cubin")


def test_the_wheels_libraries_compile_and_link(root: Path, case: Case) -> None:
    printed = inside(
        root,
        "nvcc -std=c++17 -arch=sm_80 libraries.cu -o libraries -lcublas -lcuda;"
        "readelf -d libraries | grep NEEDED; ldd libraries",
    )
    assert "[libcuda.so.1]" in printed
    assert f"libcublas.so.{case.major} => /" in printed
    assert f"libcudart.so.{case.major} => /" in printed


def test_the_loader_finds_libraries_without_a_cache_or_a_path(root: Path, case: Case) -> None:
    preload = f"LD_PRELOAD=libcudart.so.{case.major} true"
    inside(root, preload)
    # The NVIDIA container runtime runs ldconfig: that must not lose them.
    inside(root, f"ldconfig; ldconfig -p | grep -q libcublas.so.{case.major}; {preload}")


def test_each_library_is_there_once(root: Path) -> None:
    copies = [path for path in root.rglob("libcudart.so*") if not path.is_symlink()]
    assert len(copies) == 1
