"""A stand-in for the NVIDIA driver's library: what lets the engine be imported without a GPU.

It is compiled in the box, by the image's own compiler, from the driver symbols that the image's
libraries leave undefined; every function fails. A test's fixture: never part of an image.
"""

from __future__ import annotations

from images import image_paths
from tests.image.box import Box

DIRECTORY = "/tmp/stand-in-driver"
ENV = {"LD_LIBRARY_PATH": DIRECTORY}

_STUB = f"/{image_paths.CUDA_HOME}/lib64/stubs/libcuda.so"

_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
_NOT_INITIALISED = 1  # NVML_ERROR_UNINITIALIZED

# CUDA's other libraries have functions that are called cu… as well: those are theirs. What the
# stub for linking has is the driver's, even where a library (TileLang) has a stub of its own.
_SCAN = """
import os, re, subprocess, sys
def symbols(path, kind):
    done = subprocess.run(["nm", "-D", kind, path], capture_output=True, text=True)
    return set(re.findall(r" [A-Za-z] (\\w+)", done.stdout))
wanted, defined = set(), set()
for place, _, files in os.walk(sys.argv[1]):
    for name in files:
        path = os.path.join(place, name)
        if ".so" in name and not os.path.islink(path):
            wanted |= {item for item in symbols(path, "--undefined-only")
                       if re.match(r"cu[A-Z]|nvml[A-Z]", item)}
            defined |= {item for item in symbols(path, "--defined-only") if item in wanted
                        or re.match(r"cu[A-Z]|nvml[A-Z]", item)}
driver = symbols(sys.argv[2], "--defined-only")
print("\\n".join(sorted(wanted - defined | wanted & driver)))
"""


def install(box: Box) -> list[str]:
    """Put the stand-in into the box; return its functions."""
    names = box.python(_SCAN, f"/{image_paths.PREFIX}", _STUB).split()
    driver = [name for name in names if name.startswith("cu")]
    management = [name for name in names if name.startswith("nvml")]
    _compile(box, "libcuda.so.1", [*driver, "cuInit", "cuDriverGetVersion"], _NO_DEVICE)
    _compile(box, "libnvidia-ml.so.1", management or ["nvmlInit_v2"], _NOT_INITIALISED)
    return names


def _compile(box: Box, library: str, names: list[str], status: int) -> None:
    source = "".join(f"int {name}(void) {{ return {status}; }}\n" for name in dict.fromkeys(names))
    box.write(f"{DIRECTORY}/{library}.c", source)
    box.run(
        f"cd {DIRECTORY} && gcc -w -fno-builtin -shared -fPIC -Wl,-soname,{library} "
        f"-o {library} {library}.c && rm {library}.c"
    )
