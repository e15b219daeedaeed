"""roll_runtime in the image: imported from its wheel, loaded in every interpreter, strict."""

from __future__ import annotations

import json

import pytest

from images import image_paths
from tests.image.box import Box
from tests.image.subject import RUNTIME, Subject

HOOKED = """
import sys
def hooked():
    return any(type(item).__module__ == "roll_runtime._hooks" for item in sys.meta_path)
"""
SPAWNED = f"""{HOOKED}
import json, multiprocessing

def child(queue):
    queue.put(hooked())

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    found = queue.get(timeout=60)
    process.join()
    print(json.dumps([hooked(), found]))
"""
UNSUPPORTED = """
from roll_runtime import dispatch
try:
    dispatch.require_supported("0.3.99")
except NotImplementedError as error:
    print(error)
"""
FOREIGN_ENGINE = """
import sglang.srt.entrypoints.engine
"""
FOREIGN_VERSION = "0.3.99"


def test_importable_from_site_packages(box: Box) -> None:
    file = box.run("cd /tmp && python -c 'import roll_runtime; print(roll_runtime.__file__)'")
    assert file.strip() == f"/{image_paths.SITE_PACKAGES}/roll_runtime/__init__.py"


def test_version_is_the_label(box: Box, subject: Subject) -> None:
    version = box.run("python -c 'import roll_runtime; print(roll_runtime.__version__)'").strip()
    assert version == subject.versions[RUNTIME] == subject.image.labels["roll.runtime.version"]


def test_hook_is_active_in_every_interpreter(box: Box) -> None:
    assert box.ask(SPAWNED) == [True, True]


@pytest.mark.parametrize("options", ["", "-S", "-I"])
def test_hook_needs_site_alone(box: Box, options: str) -> None:
    """`-S` reads no .pth file; `-I` does."""
    code = f"{HOOKED}\nprint(hooked())"
    assert box.python(code, options=options).strip() == str(options != "-S")


def test_kill_switch(box: Box) -> None:
    assert box.ask(SPAWNED, env={"ROLL_RUNTIME_AUTOLOAD": "0"}) == [False, False]


def test_unknown_sglang_is_refused(box: Box) -> None:
    message = box.python(UNSUPPORTED)
    assert f"sglang:{FOREIGN_VERSION} is not supported" in message
    assert "pip install sglang==" in message, "the message names the remedy"


def test_engine_of_an_unknown_sglang_is_refused(box: Box) -> None:
    """The hook itself raises, in an interpreter that knows nothing of roll_runtime."""
    place = "/tmp/foreign/sglang"
    box.write(f"{place}/__init__.py", f'__version__ = "{FOREIGN_VERSION}"\n')
    box.write(f"{place}/version.py", f'__version__ = "{FOREIGN_VERSION}"\n')
    for package in ("srt", "srt/entrypoints"):
        box.write(f"{place}/{package}/__init__.py", "")
    box.write(f"{place}/srt/entrypoints/engine.py", "print('executed')\n")
    done = box.attempt_python(FOREIGN_ENGINE, env={"PYTHONPATH": "/tmp/foreign"})
    assert done.rc != 0
    assert f"NotImplementedError: Scale aligner version sglang:{FOREIGN_VERSION}" in done.stderr
    assert "executed" not in done.stdout


def test_supported_sglang_is_the_installed_one(box: Box, subject: Subject) -> None:
    subject.need("sglang")
    code = "from roll_runtime import dispatch as d; v = d.sglang_version(); "
    version = box.python(code + "d.require_supported(v); print(v)").strip()
    assert version == subject.target.sglang


# What the host provides, and a box without GPUs or without a network lacks.
OF_THE_HOST = ("driver", "gpu", "nvidia-smi", "route")


def test_doctor_finds_nothing_but_the_missing_gpu(box: Box, subject: Subject) -> None:
    subject.need("sglang", "torch")
    answer = box.attempt("python -m roll_runtime doctor --json").stdout
    failed = [item for item in json.loads(answer)["checks"] if item["status"] == "fail"]
    assert [item for item in failed if item["name"] not in OF_THE_HOST] == []


KERNELS = """
import json
from roll_runtime import image_kernels
from roll_runtime.triton_cache import ImageCacheManager
folder = image_kernels.directory("triton")
groups = sorted(folder.glob("*/__grp__*")) if folder is not None else []
print(json.dumps([
    [path.parent.name, path.name]
    for path in groups
    if not ImageCacheManager(path.parent.name)._image_group(path.name.removeprefix("__grp__"))
]), len(groups))
"""


def test_every_triton_kernel_of_the_image_is_whole(box: Box, subject: Subject) -> None:
    """A group's file names the kernel's files; one that is missing would have it compiled."""
    subject.need("triton")
    damaged, _, count = box.python(KERNELS).splitlines()[-1].rpartition(" ")
    print(f"{count} kernels")
    assert damaged == "[]"
