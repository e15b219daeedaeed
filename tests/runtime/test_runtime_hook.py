"""The .pth and its hook: spawned children, unrelated processes, the kill switch, the cost."""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest
from runtime_support import PACKAGE, clean_environ

from roll_runtime import _hooks

FAKE_SGLANG = {
    "sglang/__init__.py": "",
    "sglang/version.py": "__version__ = '0.5.2'\n",
    "sglang/srt/__init__.py": "",
    "sglang/srt/entrypoints/__init__.py": "",
    "sglang/srt/entrypoints/engine.py": """
        import signal

        def _set_envs_and_config(server_args):
            signal.signal(signal.SIGQUIT, print)

        class Engine:
            def __init__(self, **kwargs):
                _set_envs_and_config(None)
        """,
    "sglang/srt/managers/__init__.py": "",
    "sglang/srt/managers/scheduler.py": "",
}


@pytest.fixture
def fake_sglang(tmp_path: Path) -> Path:
    """A directory with an SGLang that has only what the hook looks at."""
    root = tmp_path / "fake"
    for name, text in FAKE_SGLANG.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
    return root


def execute(
    python: Path, code: str, path: Path | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run code from a file, as spawned children need it."""
    given = clean_environ() | env
    if path is not None:
        given["PYTHONPATH"] = str(path)
        file = path / "code_under_test.py"
        file.write_text(textwrap.dedent(code))
        command = [str(python), str(file)]
    else:
        command = [str(python), "-c", textwrap.dedent(code)]
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=120)


def test_every_target_has_a_patch() -> None:
    for target in _hooks.TARGETS.values():
        home, _, function = target.partition(":")
        assert callable(getattr(importlib.import_module(home), function))


GENERATIONS = """
    import json
    import multiprocessing
    import sys

    def look(generation, pipe):
        import logging
        import sys
        import sglang.srt.managers.scheduler
        import sglang.srt.entrypoints.engine as engine
        filters = logging.getLogger("sglang.srt.managers.scheduler").filters
        finders = [item for item in sys.meta_path if type(item).__name__ == "Finder"]
        seen = [[generation, len(filters), engine.signal.__roll_runtime__, len(finders)]]
        if generation < 2:
            here, there = context.Pipe()
            child = context.Process(target=look, args=(generation + 1, there))
            child.start()
            seen += here.recv()
            child.join()
        pipe.send(seen)

    context = multiprocessing.get_context("spawn")

    if __name__ == "__main__":
        here, there = context.Pipe()
        first = context.Process(target=look, args=(0, there))
        first.start()
        print(json.dumps(here.recv()))
        first.join()
"""


def test_reaches_spawned_children_and_grandchildren(python: Path, fake_sglang: Path) -> None:
    done = execute(python, GENERATIONS, fake_sglang)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[generation, 1, True, 1] for generation in range(3)]


def test_kill_switch(python: Path, fake_sglang: Path) -> None:
    code = """
        import signal
        import sys
        import sglang.srt.entrypoints.engine as engine
        assert engine.signal is signal
        assert not [name for name in sys.modules if name.startswith("roll_runtime")]
        import roll_runtime.patch
        roll_runtime.patch.plugin()
        assert engine.signal is signal
    """
    done = execute(python, code, fake_sglang, ROLL_RUNTIME_AUTOLOAD="0")
    assert done.returncode == 0, done.stderr


def test_plugin_entry_point(python: Path, fake_sglang: Path) -> None:
    """SGLang's own plugin system is the second door: 0.5.12 and later."""
    code = """
        import importlib.metadata
        import sys
        (point,) = importlib.metadata.entry_points(group="sglang.srt.plugins")
        sys.meta_path[:] = [item for item in sys.meta_path if type(item).__name__ != "Finder"]
        import sglang.srt.entrypoints.engine as engine
        assert not hasattr(engine.signal, "__roll_runtime__")
        point.load()()
        point.load()()
        assert engine.signal.__roll_runtime__
    """
    done = execute(python, code, fake_sglang)
    assert done.returncode == 0, done.stderr


def test_unrelated_process_loads_two_small_modules(python: Path) -> None:
    """What it costs every start of Python; `benchmarks/hook_start.py` has the milliseconds."""
    code = "import sys; print(*sorted(sys.modules))"
    loaded = {}
    for switch in ("0", "1"):
        done = execute(python, code, ROLL_RUNTIME_AUTOLOAD=switch)
        assert done.stderr == ""
        loaded[switch] = set(done.stdout.split())
    # Built into Python; asked where no variable names the user.
    new = loaded["1"] - loaded["0"] - {"pwd"}
    assert new == {"roll_runtime", "roll_runtime._hooks"}


@pytest.mark.parametrize("damage", ["gone", "broken", "unreadable"])
def test_broken_installation_breaks_no_process(python: Path, tmp_path: Path, damage: str) -> None:
    """A .pth left behind by half an uninstallation: Python says so and goes on."""
    environment = tmp_path / "env"
    shutil.copytree(python.parent.parent, environment, symlinks=True)
    (folder,) = environment.glob("lib/*/site-packages/roll_runtime")
    if damage == "gone":
        shutil.rmtree(folder)
    elif damage == "broken":
        (folder / "_hooks.py").write_text("raise SystemError('half a file')")
    else:
        (folder / "_hooks.py").write_bytes(b"\xff\xfe\x00 not Python")
    done = execute(environment / "bin" / "python", "print('alive')")
    assert done.returncode == 0
    assert done.stdout == "alive\n"


def test_import_goes_through_other_hooks(python: Path, fake_sglang: Path) -> None:
    """A finder of the same kind, whose proxy passes assignments on to the loader (as wrapt's)."""
    code = """
        import importlib.util
        import sys

        class Proxy:
            def __init__(self, loader):
                object.__setattr__(self, "wrapped", loader)
                object.__setattr__(self, "exec_module", self.run)

            def run(self, module):
                self.wrapped.exec_module(module)
                module.notified = True

            def __getattr__(self, name):
                return getattr(self.wrapped, name)

            def __setattr__(self, name, value):
                setattr(self.wrapped, name, value)

            @property
            def __class__(self):
                return self.wrapped.__class__

        class Other:
            busy = set()

            def find_spec(self, name, path=None, target=None):
                if name in self.busy or not name.startswith("sglang."):
                    return None
                self.busy.add(name)
                try:
                    spec = importlib.util.find_spec(name)
                finally:
                    self.busy.discard(name)
                spec.loader = Proxy(spec.loader)
                return spec

        sys.meta_path.insert(POSITION, Other())
        import sglang.srt.entrypoints.engine as engine
        assert engine.notified
        assert engine.signal.__roll_runtime__
        assert engine.Engine.__init__.__roll_runtime__
    """
    for position in ("0", "1"):
        done = execute(python, code.replace("POSITION", position), fake_sglang)
        assert done.returncode == 0, done.stderr


def test_source_and_loader_stay_what_they_are(python: Path, fake_sglang: Path) -> None:
    code = """
        import inspect
        from importlib.machinery import SourceFileLoader
        import importlib
        import sglang.srt.entrypoints.engine as engine
        assert type(engine.__spec__.loader) is SourceFileLoader
        assert "signal.signal(signal.SIGQUIT" in inspect.getsource(engine)
        importlib.reload(engine)
        assert engine.signal.__roll_runtime__
        count, function = 0, engine._set_envs_and_config
        while hasattr(function, "__wrapped__"):
            count, function = count + 1, function.__wrapped__
        assert count == 1
    """
    done = execute(python, code, fake_sglang)
    assert done.returncode == 0, done.stderr


def test_process_wide_signal_is_untouched(python: Path, fake_sglang: Path) -> None:
    code = """
        import signal
        import threading
        import sglang.srt.entrypoints.engine as engine
        assert not hasattr(signal, "__roll_runtime__")
        failures = []
        def work():
            try:
                signal.signal(signal.SIGUSR1, print)
            except ValueError as error:
                failures.append(str(error))
            engine.Engine()
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert len(failures) == 1
        assert signal.getsignal(signal.SIGQUIT) is signal.SIG_DFL
        engine.Engine()
        assert signal.getsignal(signal.SIGQUIT) is print
    """
    done = execute(python, code, fake_sglang)
    assert done.returncode == 0, done.stderr


def test_apply_without_sglang(python: Path) -> None:
    done = execute(python, "import roll_runtime; roll_runtime.apply()")
    assert "ModuleNotFoundError: roll_runtime.apply() patches SGLang" in done.stderr


def test_wheel_holds_the_pth_at_the_root_of_site_packages(
    runtime_wheel: Path, python: Path
) -> None:
    with zipfile.ZipFile(runtime_wheel) as archive:
        names = archive.namelist()
        assert "roll_runtime-0.1.0.data/purelib/roll_runtime.pth" in names
        assert "roll_runtime/py.typed" in names
        lines = archive.read("roll_runtime-0.1.0.data/purelib/roll_runtime.pth").decode()
    # site executes each line that starts with `import`, alone: one line, no more.
    assert len(lines.splitlines()) == 1
    (pth,) = python.parent.parent.glob("lib/*/site-packages/roll_runtime.pth")
    assert pth.read_text() == lines


def test_wheel_is_the_same_bytes_again(runtime_wheel: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", ".mypy_cache"))
    for file in copy.rglob("*"):
        file.chmod(0o700 if file.is_dir() else 0o600)
    subprocess.run(
        ["sh", "-c", 'umask 077; uv build -q --wheel -o "$1" "$2"', "sh", tmp_path / "out", copy],
        check=True,
        env=clean_environ() | {"TZ": "Asia/Tokyo"},
    )
    (again,) = (tmp_path / "out").glob("*.whl")
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (runtime_wheel, again)}
    assert len(digests) == 1


def test_imports_the_standard_library_alone() -> None:
    """Whatever is installed: no module of ours reaches for anything else when it is imported."""
    code = """
        import importlib
        import pkgutil
        import sys
        sys.path.insert(0, sys.argv[1])
        before = set(sys.modules)
        import roll_runtime
        for info in pkgutil.iter_modules(roll_runtime.__path__):
            if info.name != "__main__":
                importlib.import_module(f"roll_runtime.{info.name}")
        tops = {name.partition(".")[0] for name in set(sys.modules) - before}
        print(sorted(tops - set(sys.stdlib_module_names) - {"roll_runtime"}))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(PACKAGE / "src")],
        env=clean_environ(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"
