"""The compilers: kernels are compiled when they are first used."""

from __future__ import annotations

import pytest

from images import image_paths
from tests.image.box import Box
from tests.image.kernel import KERNEL, MAIN
from tests.image.subject import Subject

DRIVER_CALL = """
#include <cuda.h>
int main(int count, char **) { return count > 1 ? cuInit(0) : 0; }
"""
PYTHON_MODULE = """
#include <Python.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "tried", NULL, -1, NULL};
PyMODINIT_FUNC PyInit_tried(void) { return PyModule_Create(&module); }
"""
NINJA = """
rule link
  command = g++ -shared -fPIC -o $out $in
build tried.so: link tried.cpp
"""
# Before 0.2.6 it is compiled as soon as it is named, and takes the function's source as well.
FLASHINFER = """
import inspect, json, os, pathlib
from flashinfer import activation
make = activation.gen_act_and_mul_module
arguments = ["silu"]
if len(inspect.signature(make).parameters) > 1:
    arguments.append(activation.act_func_def_str["silu"])
spec = make(*arguments)
if hasattr(spec, "build"):
    spec.build(verbose=False)
cache = pathlib.Path(os.environ["FLASHINFER_WORKSPACE_BASE"], ".cache", "flashinfer")
print(json.dumps([path.stem for path in cache.rglob("*.so")]))
"""


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90a", "sm_100a", "sm_120a"])
def test_nvcc_compiles_and_gxx_links(box: Box, subject: Subject, architecture: str) -> None:
    subject.need_cuda_runtime()
    if architecture.removesuffix("a") not in subject.architectures:
        pytest.skip(f"this image serves {', '.join(subject.architectures)} alone")
    place = f"/tmp/{architecture}"
    box.write(f"{place}/kernel.cu", KERNEL)
    box.write(f"{place}/main.cpp", MAIN)
    box.run(f"cd {place} && nvcc -std=c++17 -arch={architecture} -Xcompiler -fPIC -c kernel.cu")
    assert architecture in box.run(f"cd {place} && cuobjdump --list-elf kernel.o")
    box.run(
        f"cd {place} && g++ -o program main.cpp kernel.o -L/{image_paths.CUDA_HOME}/lib64 -lcudart"
    )
    # Started without an argument, it only loads its libraries: libcudart is found, with no GPU.
    box.run(f"{place}/program")


def test_nvcc_links_a_program_of_its_own_accord(box: Box, subject: Subject) -> None:
    subject.need_cuda_runtime()
    box.write("/tmp/whole/kernel.cu", KERNEL + MAIN)
    box.run("cd /tmp/whole && nvcc -std=c++17 -arch=sm_80 -o program kernel.cu && ./program")
    libraries = box.run("ldd /tmp/whole/program")
    assert f"libcudart.so.{subject.cuda_major} => /" in libraries, "the one shared runtime"


def test_driver_calls_link_against_the_stub(box: Box) -> None:
    box.write("/tmp/driver/call.cpp", DRIVER_CALL)
    home = f"/{image_paths.CUDA_HOME}"
    box.run(f"cd /tmp/driver && g++ -I{home}/include call.cpp -L{home}/lib64/stubs -lcuda")
    assert "libcuda.so.1" in box.run("readelf -d /tmp/driver/a.out")


def test_python_modules_can_be_compiled(box: Box) -> None:
    """Triton compiles such a module for each kernel's launcher."""
    box.write("/tmp/module/tried.c", PYTHON_MODULE)
    include = box.run("python -c 'import sysconfig; print(sysconfig.get_path(\"include\"))'")
    box.run(f"cd /tmp/module && gcc -shared -fPIC -I{include.strip()} -o tried.so tried.c")
    box.run("cd /tmp/module && python -c 'import tried'")


def test_triton_builds_its_driver_module(box: Box, subject: Subject) -> None:
    subject.need("triton")
    box.run("rm -rf /tmp/triton && mkdir /tmp/triton")
    code = """
import importlib.util, inspect, pathlib, sysconfig, tempfile
from triton.runtime import build
spec = importlib.util.find_spec("triton.backends.nvidia")
home = pathlib.Path(spec.submodule_search_locations[0])
source = (home / "driver.c").read_text()
with tempfile.TemporaryDirectory() as place:
    path = pathlib.Path(place) / "main.c"
    path.write_text(source)
    stubs = "/usr/local/cuda/lib64/stubs"
    arguments = ["cuda_utils", str(path), place, [stubs], [str(home / "include")], ["cuda"]]
    if len(inspect.signature(build._build).parameters) > 6:
        arguments.append([])
    print(build._build(*arguments))
"""
    assert ".so" in box.python(code, env={"TRITON_CACHE_DIR": "/tmp/triton"})


def test_flashinfer_compiles_a_kernel(box: Box, subject: Subject) -> None:
    """As the first request on a GPU would make it do, for a GPU that is named instead of found."""
    subject.need("flashinfer-python", "torch")
    place = "/tmp/flashinfer"
    env = {"HOME": place, "FLASHINFER_WORKSPACE_BASE": place}
    env |= {"TORCH_CUDA_ARCH_LIST": "9.0a", "FLASHINFER_CUDA_ARCH_LIST": "9.0a"}
    assert box.ask(FLASHINFER, env=env) == ["silu_and_mul"]


def test_ninja_builds(box: Box) -> None:
    box.write("/tmp/ninja/build.ninja", NINJA)
    box.write("/tmp/ninja/tried.cpp", "int tried() { return 0; }\n")
    box.run("cd /tmp/ninja && ninja && test -f tried.so")


def test_cuda_home_is_the_fixed_one(box: Box, subject: Subject) -> None:
    assert box.run("printenv CUDA_HOME").strip() == f"/{image_paths.CUDA_HOME}"
    assert box.run("command -v nvcc").strip() == f"/{image_paths.CUDA_HOME}/bin/nvcc"
    assert "release " in box.run("nvcc --version")
