"""The hook in processes that have no SGLang, half of one or a broken one, or may write nothing.

A broken installation of roll_runtime itself, and other import hooks: test_runtime_hook.py.
"""

from __future__ import annotations

import os
import subprocess
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest
from runtime_support import clean_environ

TREE = {
    "sglang/__init__.py": "",
    "sglang/version.py": "__version__ = '0.5.2'\n",
    "sglang/srt/__init__.py": "",
    "sglang/srt/server_args.py": "class ServerArgs: pass\n",
    "sglang/srt/entrypoints/__init__.py": "",
    "sglang/srt/entrypoints/engine.py": "class Engine: pass\n",
    "sglang/srt/managers/__init__.py": "",
    "sglang/srt/managers/scheduler.py": "",
    "sglang/srt/managers/io_struct.py": "",
    "sglang/srt/layers/__init__.py": "",
    "sglang/srt/layers/quantization/__init__.py": "",
    "sglang/srt/layers/quantization/fp8.py": "",
    "sglang/jit_kernel/__init__.py": "",
    "sglang/jit_kernel/activation.py": "",
}
MODULES = sorted(
    name.removesuffix(".py").replace("/", ".") for name in TREE if "__init__" not in name
)
# Each module in turn, as a program would that looks for what is there.
IMPORT_ALL = f"""
import importlib
for name in {MODULES!r}:
    try:
        importlib.import_module(name)
        print(name, "imported")
    except BaseException as error:
        print(name, type(error).__name__, error)
print("alive")
"""


def tree(place: Path, changes: dict[str, str | None]) -> Path:
    """A directory with an SGLang, some of whose files are other ones or not there."""
    for name, text in {**TREE, **changes}.items():
        if text is not None:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(text)
    return place


def outcome(
    python: Path, code: str, path: Path | None, *, hook: bool, options: Sequence[str] = ()
) -> tuple[int, str, str]:
    """How a process ends, with the hook and without."""
    env = {**clean_environ(), "ROLL_RUNTIME_AUTOLOAD": str(int(hook))}
    if path is not None:
        env["PYTHONPATH"] = str(path)
    done = subprocess.run(
        [str(python), *options, "-c", textwrap.dedent(code)],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


BROKEN: dict[str, dict[str, str | None]] = {
    "no SGLang": dict.fromkeys(TREE),
    "only its package": {**dict.fromkeys(TREE), "sglang/__init__.py": ""},
    "a module of that name": {**dict.fromkeys(TREE), "sglang.py": "x = 1\n"},
    "no engine": {"sglang/srt/entrypoints/engine.py": None},
    "a package that raises": {"sglang/__init__.py": "raise RuntimeError('no GPU here')\n"},
    "an engine that raises": {
        "sglang/srt/entrypoints/engine.py": "raise ImportError('libcuda.so.1: cannot open')\n"
    },
    "an engine that is no Python": {"sglang/srt/entrypoints/engine.py": "def half(\n"},
    "an engine that ends the process": {
        "sglang/srt/entrypoints/engine.py": "raise SystemExit(3)\n"
    },
    "modules that need what is not there": {
        "sglang/srt/entrypoints/engine.py": "import zmq_that_is_not_there\n",
        "sglang/srt/managers/scheduler.py": "import zmq_that_is_not_there\n",
        "sglang/srt/server_args.py": "from sglang.srt.utils import nothing\n",
    },
}


@pytest.mark.parametrize("name", BROKEN)
def test_errors_stay_sglangs_own(python: Path, tmp_path: Path, name: str) -> None:
    """What a program sees is word for word what it would see without the hook.

    Only the log may have more: that there is nothing to patch in a module.
    """
    path = tree(tmp_path, BROKEN[name])
    with_hook = outcome(python, IMPORT_ALL, path, hook=True)
    without = outcome(python, IMPORT_ALL, path, hook=False)
    assert with_hook[:2] == without[:2]
    assert "alive" in without[1]


PARTIAL: dict[str, dict[str, str | None]] = {
    "no version": {"sglang/version.py": None},
    "a version that is none": {"sglang/version.py": "__version__ = 'main'\n"},
    "a version that nobody knows": {"sglang/version.py": "__version__ = '9.9.9'\n"},
    "an engine without what is patched": {},
}


@pytest.mark.parametrize("name", PARTIAL)
def test_engine_that_cannot_be_patched_is_refused_by_name(
    python: Path, tmp_path: Path, name: str
) -> None:
    """An engine is never had half patched; everything else can still be imported."""
    path = tree(tmp_path, PARTIAL[name])
    code, out, _ = outcome(python, IMPORT_ALL, path, hook=True)
    assert code == 0
    lines = {line.partition(" ")[0]: line for line in out.splitlines()}
    assert "imported" not in lines["sglang.srt.entrypoints.engine"], out
    assert "roll_runtime" in lines["sglang.srt.entrypoints.engine"], out
    assert outcome(python, IMPORT_ALL, path, hook=False)[1].count("imported") >= len(MODULES) - 1


ALIVE = "import sys, json, subprocess, multiprocessing; print('alive')"


@pytest.mark.parametrize("options", [(), ("-I",), ("-E",), ("-s",), ("-S",), ("-B",), ("-O",)])
def test_any_way_to_start(python: Path, options: Sequence[str]) -> None:
    assert outcome(python, ALIVE, None, hook=True, options=options) == (0, "alive\n", "")


def test_no_write_access(python: Path, tmp_path: Path) -> None:
    """On a read-only root file system, in a directory that nobody can write to."""
    if os.geteuid() != 0:
        pytest.skip("a read-only root file system needs root")
    script = 'mount -o remount,bind,ro / && ! touch "$HOME/x" 2>/dev/null && exec "$0" -c "$1"'
    command = ["unshare", "--mount", "sh", "-c", script, str(python), ALIVE]
    env = {**clean_environ(), "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    if "mount" in done.stderr:
        pytest.skip(f"no mounts here: {done.stderr}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "alive\n", "")
    assert not list(tmp_path.iterdir())


def test_no_standard_streams(python: Path) -> None:
    """Daemons start Python with its streams closed."""
    command = f'"{python}" -c "import json" <&- >&- 2>&-'
    assert subprocess.run(["sh", "-c", command], env=clean_environ(), check=False).returncode == 0


def test_no_more_files(python: Path) -> None:
    """With as few file descriptors as Python itself can start with."""
    script = f'ulimit -n 10; exec "{python}" -c "print(\'alive\')"'
    done = subprocess.run(
        ["sh", "-c", script], env=clean_environ(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr
