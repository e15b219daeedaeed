"""Import rules: who may know whom, and what a build with nothing to do must not load."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
IMAGES = sorted((ROOT / "images").rglob("*.py"))
UNBUNDLE = sorted((ROOT / "images" / "unbundle").glob("*.py"))
TRAVELLING = ("errors", "limits", "printable", "reading")
"""Modules that a bundle's unpacker has beside those of images/unbundle."""

RUNTIME = sorted((ROOT / "roll_runtime" / "src").rglob("*.py"))
CORE = ("images.layer", "images.image", "images.store", "images.entry", "images.errors")
NO_CHANGE = (
    "images.stack images.builder images.matrix images.store images.assemble images.base "
    "images.toolkit images.lock images.lockfile images.report images.attest"
)
SLOW = ("docker", "rich", "requests", "urllib3", "zstandard", "tomli", "installer", "uv", "yaml",
        "packaging", "asyncio", "cyclonedx", "packageurl")  # fmt: skip


def imported(path: Path, *, top_level_only: bool = False) -> Iterator[str]:
    """The modules that a file imports, wherever in it, type checking included."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            module = node.module or ""
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def roots(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(path)}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", IMAGES, ids=named)
def test_nothing_in_the_builder_knows_its_caller(path: Path) -> None:
    assert "build" not in roots(path)
    assert "tests" not in roots(path)


@pytest.mark.parametrize(
    "path", [path for path in IMAGES if not path.stem.startswith("docker")], ids=named
)
def test_only_the_docker_modules_import_docker(path: Path) -> None:
    assert "docker" not in roots(path)


@pytest.mark.parametrize("name", ["layer", "image", "store"])
def test_layers_images_and_stores_know_no_matrix(name: str) -> None:
    seen: set[str] = set()
    todo = [f"images.{name}"]
    while todo:
        module = todo.pop()
        path = ROOT / f"{module.replace('.', '/')}.py"
        if module in seen or not path.is_file():
            continue
        seen.add(module)
        todo += [found for found in imported(path) if found.startswith("images.")]
    assert f"images.{name}" in seen
    assert not [module for module in seen if "matrix" in module]


def test_the_rules_above_look_at_real_files() -> None:
    assert len(IMAGES) > 20
    assert len(RUNTIME) > 5
    assert len(UNBUNDLE) > 10
    assert "docker" in {root for path in IMAGES for root in roots(path)}


@pytest.mark.parametrize("path", RUNTIME, ids=named)
def test_roll_runtime_needs_only_the_standard_library(path: Path) -> None:
    """What stands at the top of a file; SGLang, torch and ray are imported when they are there."""
    allowed = {*sys.stdlib_module_names, "roll_runtime"}
    found = {name.partition(".")[0] for name in imported(path, top_level_only=True)}
    assert found <= allowed


@pytest.mark.parametrize("path", UNBUNDLE, ids=named)
def test_the_unpacker_needs_only_the_standard_library(path: Path) -> None:
    """And of the project what travels with it."""
    found = {name for name in imported(path) if name.partition(".")[0] == "images"}
    assert {".".join(name.split(".")[:2]) for name in found} <= {
        "images",
        *(f"images.{name}" for name in TRAVELLING),
        "images.unbundle",
    }
    # compression.zstd came with Python 3.14; it is used where it is there.
    assert roots(path) <= {*sys.stdlib_module_names, "images", "compression"}


def test_the_inventory_stands_alone() -> None:
    assert roots(ROOT / "images" / "unbundle" / "inventory.py") <= set(sys.stdlib_module_names)


@pytest.mark.parametrize(
    "path", [*UNBUNDLE, *(ROOT / "images" / f"{name}.py" for name in TRAVELLING)], ids=named
)
def test_the_unpacker_keeps_to_the_syntax_of_python_3_8(path: Path) -> None:
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))


RUN = """
import sys
for name in sys.argv[1].split():
    __import__(name)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def loaded(modules: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", RUN, modules], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_build_with_nothing_to_do_loads_nothing_slow() -> None:
    found = loaded(NO_CHANGE)
    assert "images" in found
    assert not found & set(SLOW)


def test_push_loads_a_client_only_when_it_asks_a_registry() -> None:
    """Its options are part of the command line, which every build sets up."""
    found = loaded("build images.push images.registry images.report")
    assert not found & set(SLOW)


def test_the_command_line_is_parsed_before_anything_of_the_builder_is_loaded() -> None:
    """Each command imports what it needs when it runs: all of them are set up for any of them."""
    found = {
        name
        for path in (ROOT / "images" / "commands").glob("*.py")
        for name in imported(path, top_level_only=True)
        if name.startswith("images.") and not name.startswith("images.commands")
    }
    assert {".".join(name.split(".")[:2]) for name in found} <= {
        "images.errors",
        "images.output",
        "images.progress",
    }


@pytest.mark.parametrize("module", CORE)
def test_core_modules_need_only_the_standard_library(module: str) -> None:
    found = loaded(module)
    before = loaded("sys")
    assert found - before <= {*sys.stdlib_module_names, "images"}


def test_roll_runtime_loads_nothing_but_the_standard_library() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-c", RUN, "roll_runtime"],
        cwd=ROOT / "roll_runtime" / "src",
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()) <= {*sys.stdlib_module_names, "roll_runtime", "__main__"}
