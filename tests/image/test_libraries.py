"""One copy of each CUDA library, found by the loader with no help from the environment."""

from __future__ import annotations

import json
import re

from images import image_paths
from tests.image.box import Box
from tests.image.known import DUPLICATES
from tests.image.subject import Subject

LIBRARIES = r"(lib(cu(?!rl\b)[A-Za-z]|nv|nccl)\w*)"
FIND = (
    "find / -xdev \\( -path /proc -o -path /sys -o -path /tmp \\) -prune -o "
    "-type f -name 'lib*.so*' -print"
)
SONAME = """
import json, re, subprocess, sys
names = {}
for path in sys.stdin.read().split("\\n"):
    if path:
        done = subprocess.run(["readelf", "-d", path], capture_output=True, text=True)
        match = re.search(r"SONAME.*\\[(.+)\\]", done.stdout)
        names[path] = match[1] if match else ""
print(json.dumps(names))
"""

# Which file the loader takes for a name, and where a distribution has it.
LOADED = """
import ctypes, importlib.metadata, json, sys
name, distribution = sys.argv[1:]
ctypes.CDLL(name)
with open("/proc/self/maps") as maps:
    loaded = {line.split()[-1] for line in maps if name.partition(".so")[0] in line}
(file,) = (file for file in importlib.metadata.files(distribution) if file.name == name)
print(json.dumps([sorted(loaded), str(file.locate())]))
"""


def cuda_libraries(box: Box) -> dict[str, str]:
    """Real files of CUDA's libraries, with their SONAME; the stub for linking is not one."""
    stubs = f"/{image_paths.CUDA_HOME}/lib64/stubs/"
    paths = [path for path in box.run(FIND).split() if not path.startswith(stubs)]
    found = [path for path in paths if re.match(LIBRARIES, path.rpartition("/")[2])]
    box.write("/tmp/soname.py", SONAME)
    box.write("/tmp/soname.txt", "\n".join(found))
    names: dict[str, str] = json.loads(box.run("python /tmp/soname.py < /tmp/soname.txt"))
    return names


def name_of(path: str) -> str:
    """Return the name of a library without its version and auditwheel's hash."""
    name = re.sub(r"\.[0-9a-f]{8}(?=\.)", "", path.rpartition("/")[2])
    return name.partition(".so")[0]


def explained(path: str) -> bool:
    relative = path.removeprefix(f"/{image_paths.SITE_PACKAGES}/")
    return any(re.fullmatch(item.path, relative) for item in DUPLICATES)


def test_no_cuda_library_twice(box: Box) -> None:
    """Two copies of a runtime in one process are two sets of devices, streams and memory."""
    names: dict[str, list[str]] = {}
    sonames: dict[str, list[str]] = {}
    for path, soname in cuda_libraries(box).items():
        if not explained(path):
            names.setdefault(name_of(path), []).append(path)
            sonames.setdefault(soname or path, []).append(path)
    assert {name: paths for name, paths in names.items() if len(paths) > 1} == {}
    assert {name: paths for name, paths in sonames.items() if len(paths) > 1} == {}


def test_explained_copies_are_still_there(box: Box, subject: Subject) -> None:
    found = [path.removeprefix(f"/{image_paths.SITE_PACKAGES}/") for path in cuda_libraries(box)]
    expected = [item for item in DUPLICATES if item.distribution in subject.versions]
    gone = [item for item in expected if not any(re.fullmatch(item.path, one) for one in found)]
    assert gone == [], "take them off the list"


def test_loader_finds_the_runtime(box: Box, subject: Subject) -> None:
    """Without LD_LIBRARY_PATH: libraries are preloaded before anything could set one."""
    runtime = subject.need_cuda_runtime()
    loaded, installed = box.ask(LOADED, f"libcudart.so.{subject.cuda_major}", runtime)
    assert loaded == [installed]


def test_links_lead_somewhere(box: Box) -> None:
    places = f"/{image_paths.CUDA_HOME} /{image_paths.PREFIX} /usr/lib/x86_64-linux-gnu"
    assert box.run(f"find {places} -xtype l -print").split() == []
