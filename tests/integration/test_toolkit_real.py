"""The CUDA compiler from its real sources, on the real base: compiles, links and is found.

Needs root (chroot), mmdebstrap, a Debian mirror and a package index, or a filled cache
(ROLL_IMAGES_CACHE, else ~/.cache/roll-images). No GPU and no driver: nothing is launched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from images import base, deb, fetch, layout, mirror, toolkit
from images.entry import Entry
from images.lock import Distribution

pytestmark = [
    pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="needs mmdebstrap"),
    pytest.mark.skipif(os.getuid() != 0, reason="needs root for chroot"),
    pytest.mark.timeout(900),
]

# Of another CUDA 12 than the compiler, as in the image of torch 2.8.
TARGET = (
    "nvidia-cuda-runtime-cu12==12.8.90",
    "nvidia-curand-cu12==10.3.9.90",
    "nvidia-cublas-cu12==12.8.4.1",
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


def download_wheels(wheels: Iterable[Distribution], cache: Path) -> None:
    from images import uv

    wanted = {wheel.pin: wheel.artifact for wheel in wheels}
    if not fetch.missing(wanted.values(), cache):
        return
    with fetch.Downloads(cache, jobs=4, advance=lambda _: None) as downloads:
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


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    from images import uv

    cache = Path(os.environ.get("ROLL_IMAGES_CACHE", Path.home() / ".cache" / "roll-images"))
    tools = toolkit.locked()
    debs = [*base.locked(), *tools.debs]
    target = [
        Distribution(found.name, found.version, found.artifact)
        for found in uv.resolve(TARGET, dependencies=False)
    ]
    if fetch.missing([item.artifact for item in debs], cache):
        deb.download(debs, mirror.find(), cache, jobs=6, advance=lambda _: None, renew=base.RENEW)
    # Apart: uv does not locate two versions of nvidia-cuda-runtime-cu12 in one run.
    download_wheels(tools.wheels, cache)
    download_wheels(target, cache)
    workdir = tmp_path_factory.mktemp("toolkit")
    place = workdir / "root"
    place.mkdir()
    tar = base.build(base.locked(), cache, workdir)
    subprocess.run(["tar", "-xpf", tar, "-C", place, "--numeric-owner"], check=True)
    put(toolkit.entries(tools, cache), place)
    members = {}
    for wheel in target:
        with zipfile.ZipFile(fetch.cached(wheel.artifact, cache)) as archive:
            members[wheel.name] = archive.namelist()
            archive.extractall(place / layout.SITE_PACKAGES)
    put(toolkit.link_entries(members), place)
    (place / "tmp" / "kernel.cu").write_text(KERNEL)
    (place / "tmp" / "libraries.cu").write_text(LIBRARIES)
    yield place
    shutil.rmtree(workdir)


def inside(root: Path, script: str) -> str:
    """Run a script in the root; gives what it prints, and there must be no warnings.

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


def test_the_version_is_what_flashinfer_parses(root: Path) -> None:
    assert "release 12.4, V12.4.131" in inside(root, "nvcc --version")


@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
def test_nvcc_compiles_and_links(root: Path, arch: str) -> None:
    printed = inside(root, f"nvcc -arch={arch} -o nvcc-{arch} kernel.cu; ./nvcc-{arch}")
    assert printed.strip() == "12080"  # the target's runtime, found without any path setting


def test_gxx_links_what_nvcc_compiled(root: Path) -> None:
    printed = inside(
        root,
        "nvcc -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90a,code=sm_90a "
        "-c kernel.cu -o kernel.o; g++ kernel.o -o gxx -L/usr/local/cuda/lib64 -lcudart; ./gxx;"
        "cuobjdump -lelf gxx; cuobjdump -sass gxx > sass; grep -c EXIT sass",
    )
    assert "12080" in printed
    assert "sm_80.cubin" in printed
    assert "sm_90a.cubin" in printed


def test_shared_objects_and_cubins_as_flashinfer_and_deepgemm_make_them(root: Path) -> None:
    inside(root, "nvcc -shared -Xcompiler -fPIC -std=c++17 -arch=sm_80 kernel.cu -o k.so -lcuda")
    inside(root, "nvcc -rdc=true -arch=sm_80 kernel.cu -o rdc; nvcc -cubin -arch=sm_90a kernel.cu")
    assert "kernel" in inside(root, "cuobjdump -symbols kernel.cubin")


def test_the_wheels_libraries_compile_and_link(root: Path) -> None:
    printed = inside(
        root,
        "nvcc -std=c++17 -arch=sm_80 libraries.cu -o libraries -lcublas -lcuda;"
        "readelf -d libraries | grep NEEDED; ldd libraries",
    )
    assert "[libcuda.so.1]" in printed
    assert "libcublas.so.12 => /" in printed
    assert "libcudart.so.12 => /" in printed


def test_the_loader_finds_libraries_without_a_cache_or_a_path(root: Path) -> None:
    inside(root, "LD_PRELOAD=libcudart.so.12 true")
    # The NVIDIA container runtime runs ldconfig: that must not lose them.
    inside(root, "ldconfig; ldconfig -p | grep -q libcublas.so.12; LD_PRELOAD=libcudart.so.12 true")


def test_each_library_is_there_once(root: Path) -> None:
    copies = [path for path in root.rglob("libcudart.so*") if not path.is_symlink()]
    assert len(copies) == 1
