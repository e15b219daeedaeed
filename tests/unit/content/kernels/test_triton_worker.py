"""Triton's worker and the recorder of what it compiles, both run on a small Triton."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from images.content.kernels import kernel_inputs
from tests.gpu import kernel_recorder

LIBRARY = "__triton_launcher.so"
TRITON = {
    "__init__.py": """
from triton.compiler import compile
from triton.runtime.jit import JITFunction
def jit(function): return JITFunction(function)
""",
    "language.py": """
class dtype:
    def __init__(self, name): self.name = name
    def __repr__(self): return self.name
class constexpr: pass
""",
    "runtime/__init__.py": "",
    "runtime/jit.py": """
class JITFunction:
    def __init__(self, fn): self.fn, self.__name__, self.__module__ = fn, fn.__name__, fn.__module__
    def __call__(self): raise TypeError
""",
    "compiler/__init__.py": "from triton.compiler.compiler import ASTSource, compile",
    "compiler/compiler.py": """
import base64, hashlib, inspect, json, os, pathlib
from types import SimpleNamespace
from triton.backends.compiler import GPUTarget

HOPPER = GPUTarget("cuda", 90, 32)
driver = SimpleNamespace(active=SimpleNamespace(get_current_target=lambda: HOPPER))

class ASTSource:
    def __init__(self, fn, signature, constexprs, attrs):
        self.fn, self.signature, self.constants, self.attrs = fn, signature, constexprs, attrs
        self.source = inspect.getsource(fn.fn)

class Backend:
    def __init__(self, target): self.target = target
    def parse_options(self, given):
        defaults = {"num_warps": 4, "arch": self.target.arch, "sizes": (1, 1)}
        return SimpleNamespace(**{**defaults, **given})

make_backend = Backend

def place(key):
    name = base64.b32encode(hashlib.sha256(key.encode()).digest()).decode().rstrip("=")
    path = pathlib.Path(os.environ["TRITON_CACHE_DIR"], name)
    path.mkdir(parents=True, exist_ok=True)
    return path

def compile(src, target=None, options=None):
    backend = make_backend(target or driver.active.get_current_target())
    options = vars(backend.parse_options(options or {}))
    key = [src.source, src.signature, src.constants, src.attrs, sorted(options.items())]
    path = place(repr(key))
    (path / f"{src.fn.__name__}.json").write_text(repr(key))
    names = [f"{src.fn.__name__}.json"]
    (path / f"__grp__{src.fn.__name__}.json").write_text(
        json.dumps({"child_paths": {name: str(path / name) for name in names}}))
    return SimpleNamespace(src=src, metadata=None)
""",
    "backends/__init__.py": "",
    "backends/compiler.py": """
import collections
GPUTarget = collections.namedtuple("GPUTarget", "backend arch warp_size")
""",
    "backends/nvidia/__init__.py": "",
    "backends/nvidia/driver.py": """
import ctypes, os
from triton.compiler import compiler
def CudaUtils():
    for name in ("libcuda.so", "libcuda.so.1"):
        ctypes.CDLL(os.path.join(os.environ["TRITON_LIBCUDA_PATH"], name))
    (compiler.place("utils") / "cuda_utils.so").write_text("")
def compile_module_from_src(): "Not in 3.8."
def make_launcher(): "Not in 3.7."
def CudaLauncher(src, metadata):
    (compiler.place(repr(src.signature)) / "__triton_launcher.so").write_text("")
""",
}
TORCH = {
    "_inductor/runtime/triton_compat.py": "import triton",
    "_inductor/runtime/triton_helpers.py": """
from torch._inductor.runtime.triton_compat import triton
def set_driver_to_gpu(): raise RuntimeError("there is no GPU")
""",
}
SGLANG = {
    "__init__.py": "raise RuntimeError('it would load everything')",
    "srt/layers/deep.py": """
import torch, triton
from sglang.srt.elsewhere import anything
class Module(torch.nn.Module): pass
@anything.tuned(configs=[triton])
@triton.jit
def a_kernel(x): return x
""",
}
GENERATED = """
import triton
from torch._inductor.runtime import triton_helpers, triton_heuristics
triton_helpers.set_driver_to_gpu()

@triton_heuristics.pointwise(size=1)
@triton.jit
def generated(x, y): return x + y
"""
PLAIN = {
    "function": "a_kernel",
    "module": "sglang.srt.layers.deep",
    "signature": {"x": "*i64", "a": "constexpr", "of": "constexpr"},
    "constants": [[[1], 32772], [[2], {"dtype": "bf16"}]],
    "attributes": [[[0], [["tt.divisibility", 16]]]],
    "options": {},
    "source": [],
}
OWN = {
    "function": "generated",
    "module": "",
    "signature": {"y": "*i64", "x": "*i64"},
    "constants": [],
    "attributes": [],
    "options": {"num_warps": 1, "sizes": [2, 2]},
    "source": GENERATED.split("\n"),
}


class Place:
    """Installed packages, and the directory of a build."""

    def __init__(self, path: Path) -> None:
        self.site, self.build, self.prefix = path / "site-packages", path / "build", path / "venv"
        self.programs = path / "bin"
        packages = {"triton": TRITON, "torch": TORCH, "sglang": SGLANG}
        for package, files in packages.items():
            for name, content in files.items():
                self._write(self.site / package / name, content)
        self._write(self.programs / "strip", '#!/bin/sh\necho stripped > "$3"\n')
        (self.programs / "strip").chmod(0o755)
        stand_ins = kernel_inputs.OF_TRITON.with_name("stand_ins.py").read_text()
        self._write(self.build / "stand_ins.py", stand_ins)

    def _write(self, path: Path, content: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        env = {"PYTHONPATH": str(self.site), "PATH": f"{self.programs}:/usr/bin:/bin", **env}
        program = [sys.executable, "-s", "-B", *command]
        done = subprocess.run(program, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done

    def compiled(self, recorded: list[dict[str, Any]], *gpus: str) -> Path:
        """Run the worker; return the directory of its results for Triton."""
        stubs = self.build / "cuda" / "lib64" / "stubs"
        stubs.mkdir(parents=True, exist_ok=True)
        source = self.build / "empty.c"
        source.write_text("")
        library = str(stubs / "libcuda.so")
        subprocess.run(["gcc", "-shared", "-o", library, str(source)], check=True)
        wanted = {
            "torch": "2.8.0",
            "cxx11_abi": True,
            "cuda_home": str(self.build / "cuda"),
            "prefix": str(self.prefix),
            "site_packages": str(self.site),
            "triton": {"gpus": gpus, "recorded": recorded},
        }
        (self.build / "kernels.json").write_text(json.dumps(wanted))
        self.run(str(kernel_inputs.OF_TRITON), str(self.build))
        return Path(f"{self.build}/kernels{self.prefix}/kernels/triton")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def kept(path: Path, function: str) -> list[str]:
    """What each directory of a kernel was compiled for."""
    return sorted(file.read_text() for file in path.glob(f"*/{function}.json"))


def test_kernels_are_compiled_for_each_gpu_and_launchers_once(place: Place) -> None:
    found = place.compiled([PLAIN, OWN], "8.0", "9.0")
    for name in ("a_kernel", "generated"):
        assert len(kept(found, name)) == len(list(found.glob(f"*/__grp__{name}.json"))) == 2
    assert len(list(found.glob(f"*/{LIBRARY}"))) == 2
    assert len(list(found.glob("*/cuda_utils.so"))) == 1


@pytest.mark.parametrize(
    ("lacking", "helpers"),
    [(["make_launcher"], ["cuda_utils.so"]), (["make_launcher", "compile_module_from_src"], [])],
    ids=["3.7", "3.8"],
)
def test_later_triton_has_fewer_helpers(
    place: Place, lacking: list[str], helpers: list[str]
) -> None:
    """3.7 has one launcher for all kernels; the key of 3.8's has the directory of the driver."""
    driver = place.site / "triton" / "backends" / "nvidia" / "driver.py"
    removed = "".join(f"\ndel {name}" for name in lacking)
    driver.write_text(f"{driver.read_text()}{removed}\n")
    found = place.compiled([PLAIN], "9.0")
    assert len(kept(found, "a_kernel")) == 1
    assert [path.name for path in found.glob("*/*.so")] == helpers


def test_kernel_has_what_was_recorded(place: Place) -> None:
    found = place.compiled([PLAIN, OWN], "8.9")
    (plain,), (own,) = kept(found, "a_kernel"), kept(found, "generated")
    assert "{(1,): 32772, (2,): bf16}, {(0,): [['tt.divisibility', 16]]}" in plain
    assert "('arch', 89), ('num_warps', 4)" in plain
    assert "{'y': '*i64', 'x': '*i64'}" in own, "the order is that of the arguments"
    assert "('num_warps', 1), ('sizes', (2, 2))" in own


def test_paths_are_those_of_the_image_and_libraries_are_stripped(place: Place) -> None:
    found = place.compiled([PLAIN], "9.0")
    (group,) = found.glob("*/__grp__a_kernel.json")
    path = place.prefix / "kernels" / "triton" / group.parent.name / "a_kernel.json"
    assert json.loads(group.read_text()) == {"child_paths": {"a_kernel.json": str(path)}}
    libraries = list(found.glob("*/*.so"))
    assert {path.read_text() for path in libraries} == {"stripped\n"}
    assert {path.suffix for path in found.rglob("*") if path.is_file()} == {".json", ".so"}


def test_neither_time_nor_a_random_path_is_in_what_is_made(place: Place, tmp_path: Path) -> None:
    place.compiled([PLAIN, OWN], "9.0")
    assert (place.build / "recorded_1.py").stat().st_mtime == 0
    made = []
    for name in ("first", "second"):
        source, library = tmp_path / name / "helper.c", tmp_path / f"{name}.so"
        source.parent.mkdir()
        source.write_text("const char *file = __FILE__;")
        subprocess.run([place.build / "cc", source, "-shared", "-o", library], check=True)
        made.append(library.read_bytes())
    assert made[0] == made[1]


# -- recording -------------------------------------------------------------------------------------

ASKS = """
import sys
import triton, triton.language
from triton.compiler import ASTSource
sys.path.insert(0, sys.argv[1])
import asked
attributes = {(0,): [["tt.divisibility", 16]]}
source = ASTSource(asked.generated, {"y": "*i64", "x": "*i64"}, {}, attributes)
for _ in range(2):
    triton.compile(source, options={"num_warps": 1, "sizes": (2, 2), "arch": 90})
odd = {(0,): [1, None, 2.5, "a", triton.language.dtype("bf16")]}
triton.compile(ASTSource(asked.generated, {"x": "*i64"}, odd, {}))
triton.compile(ASTSource(asked.generated, {"x": "*i64"}, {(0,): object()}, {}))
"""


def test_recorder_notes_what_triton_is_asked_for(place: Place, tmp_path: Path) -> None:
    lines, recorder = tmp_path / "lines", tmp_path / "recorder"
    recorder.mkdir()
    (recorder / "sitecustomize.py").write_bytes(Path(kernel_recorder.__file__).read_bytes())
    (tmp_path / "asked").mkdir()
    (tmp_path / "asked" / "asked.py").write_text(
        "import triton\n\n@triton.jit\ndef generated(x): return x\n"
    )
    (tmp_path / "ask.py").write_text(ASKS)
    done = place.run(
        str(tmp_path / "ask.py"),
        str(tmp_path / "asked"),
        PYTHONPATH=f"{recorder}:{place.site}",
        KERNEL_RECORDING=str(lines),
        TRITON_CACHE_DIR=str(tmp_path / "cache"),
    )
    recording = kernel_recorder.merged(lines.read_text().splitlines())
    assert recording["sglang"] == []
    first, second = recording["triton"]
    assert second == {
        "function": "generated",
        "module": "",
        "signature": {"y": "*i64", "x": "*i64"},
        "constants": [],
        "attributes": [[[0], [["tt.divisibility", 16]]]],
        "options": {"num_warps": 1, "sizes": [2, 2]},
        "source": ["import triton", "", "@triton.jit", "def generated(x): return x", ""],
    }
    assert list(second["signature"]) == ["y", "x"]
    assert first["constants"] == [[[0], [1, None, 2.5, "a", {"dtype": "bf16"}]]]
    assert first["options"] == {}
    assert "is a object" in done.stderr, "what JSON has no form for is reported"
    made = place.compiled([second], "9.0")
    assert kept(made, "generated") == [
        text for text in kept(tmp_path / "cache", "generated") if "divisibility" in text
    ]


def test_nothing_is_noted_unless_it_is_asked_for(place: Place, tmp_path: Path) -> None:
    recorder = tmp_path / "recorder"
    recorder.mkdir()
    (recorder / "sitecustomize.py").write_bytes(Path(kernel_recorder.__file__).read_bytes())
    code = "import triton; print(triton.compile.__module__)"
    done = place.run("-c", code, PYTHONPATH=f"{recorder}:{place.site}")
    assert done.stdout == "triton.compiler.compiler\n"
