"""Fixtures: the built and installed roll_runtime, and SGLang's real files per version."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
# Before any `import roll_runtime`: from the repository's root that name is an empty namespace.
sys.path[:0] = [str(HERE.parents[1] / "roll_runtime" / "src"), str(HERE)]

import runtime_wheels  # noqa: E402
from runtime_support import PACKAGE, HandlerCalls, Run, RunHandlers, Trees, clean_environ  # noqa: E402

from roll_runtime import contract, versions  # noqa: E402


@pytest.fixture(scope="session")
def runtime_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of roll_runtime, built as the image builder builds it."""
    folder = tmp_path_factory.mktemp("dist")
    command = ["uv", "build", "--quiet", "--wheel", "--out-dir", str(folder), str(PACKAGE)]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory, runtime_wheel: Path) -> Path:
    """An interpreter in whose site-packages the wheel is installed, .pth and all."""
    folder = tmp_path_factory.mktemp("venv") / "env"
    subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
    interpreter = folder / "bin" / "python"
    command = ["uv", "pip", "install", "--quiet", "--no-index", "--no-deps", "--python"]
    subprocess.run([*command, str(interpreter), str(runtime_wheel)], check=True)
    return interpreter


@pytest.fixture(scope="session")
def sglang_tree(tmp_path_factory: pytest.TempPathFactory) -> Trees:
    """Return a function from a version to a directory with SGLang's real files."""
    trees: dict[str, Path] = {}
    locked = runtime_wheels.read_lock()

    def tree(version: str) -> Path:
        if version not in trees:
            path = runtime_wheels.fetch(locked[version])
            trees[version] = runtime_wheels.unpack(path, tmp_path_factory.mktemp(version))
        return trees[version]

    return tree


def outcome_of(
    python: Path, script: str, scenario: dict[str, Any], env: dict[str, str]
) -> dict[str, Any]:
    """Run a scenario by a script of this directory; return what it saw, and its log."""
    done = subprocess.run(
        [str(python), str(HERE / script)],
        input=json.dumps(scenario),
        env={**clean_environ(), **env},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    result["log"] = done.stderr
    return result


@pytest.fixture(scope="session")
def handle(python: Path, sglang_tree: Trees) -> RunHandlers:
    """Return a function that makes calls to a version's handlers in a fresh interpreter."""

    def run(version: str, calls: HandlerCalls, **env: str) -> dict[str, Any]:
        scenario = {"tree": str(sglang_tree(version)), "calls": calls}
        return outcome_of(python, "scheduler_run.py", scenario, env)

    return run


@pytest.fixture(scope="session")
def run_engine(python: Path, sglang_tree: Trees, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a function that runs SGLang's real engine.py in a fresh interpreter."""
    fields: dict[Path, list[str]] = {}
    caches = str(tmp_path_factory.mktemp("caches"))

    def run(
        version: str, env: dict[str, str] | None = None, tree: Path | None = None, **scenario: Any
    ) -> dict[str, Any]:
        root = tree or sglang_tree(version)
        if root not in fields:
            fields[root] = sorted(contract.server_args_fields(contract.TreeSource(root)))
        if "kwargs" not in scenario:
            scenario.setdefault("server_args", {})
        scenario.update(tree=str(root), fields=fields[root])
        env = {} if env is None else env
        # A HOME of the scenario's has its own directory of caches.
        own = {} if "HOME" in env else {"ROLL_RUNTIME_CACHE_DIR": caches}
        return outcome_of(python, "engine_run.py", scenario, {**own, **env})

    return run


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give every test that asks for ``version`` each supported one; see ``versions.Release``."""
    groups = {
        "version": versions.SUPPORTED,
        "roll_version": [release.version for release in versions.RELEASES if release.roll],
        "fp8_version": [release.version for release in versions.RELEASES if release.fp8],
        "no_fp8_version": [release.version for release in versions.RELEASES if not release.fp8],
    }
    for name, group in groups.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, group)
