"""Import rules: which package may import which, and what an unchanged build must not load."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from images.export.bundle import unpacker
from images.repository import ROOT

IMAGES = sorted((ROOT / "images").rglob("*.py"))
RUNTIME = sorted((ROOT / "roll_runtime" / "src").rglob("*.py"))
WINGS = ("commands", "analysis", "build", "export", "attest", "content", "inputs", "formats",
         "oci", "http", "util")  # fmt: skip
"""Each may import those behind it; all may import the modules of `images/` itself."""

DESTINATION = ROOT / "images" / "unbundle"
"""What runs where a bundle arrives: beside the wings, and alone there."""

LARGEST_WING = 16
CORE = """
images.oci.descriptor images.oci.layer.writer images.oci.image images.oci.store.store
images.oci.layer.entry images.errors
"""
NO_CHANGE = """
images.build.layer_recipes images.build.builder images.build.assemble images.inputs.matrix.load
images.inputs.lock.target_lock images.inputs.lock.sealed_text images.content.debian.rootfs
images.content.cuda.toolkit images.oci.store.store images.commands.report.images
images.attest.attach
"""
PARSER = """
images images.errors images.printable images.repository images.requirements images.oci
images.oci.descriptor images.oci.registry images.oci.registry.concurrency
"""
"""Besides commands and util, all that is loaded when a command line is parsed."""

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


def wing(path: Path) -> str:
    """The folder below `images/` that a module is in; empty for the modules of `images/` itself."""
    return (path.relative_to(ROOT / "images").parent.parts or ("",))[0]


def imported_wings(path: Path) -> set[str]:
    parts = (name.split(".") for name in imported(path) if name.startswith("images."))
    return {part[1] for part in parts if (ROOT / "images" / part[1]).is_dir()}


def test_wings_import_in_one_direction() -> None:
    found = {path: imported_wings(path) for path in IMAGES if wing(path) in WINGS}
    assert len(found) > 100
    assert set(WINGS) == {wing(path) for path in IMAGES} - {"", "unbundle"}
    assert not [
        f"{named(path)} imports {other}"
        for path, others in found.items()
        for other in others & set(WINGS)
        if WINGS.index(other) < WINGS.index(wing(path))
    ]


def test_locks_are_read_without_downloads_and_resolvers() -> None:
    """Folders of `inputs`, each with those that it must not import, not even inside a function."""
    above = {"lock": ("fetch", "resolve"), "fetch": ("resolve",), "matrix": ("fetch", "resolve")}
    inputs = ROOT / "images" / "inputs"
    assert not [
        f"{named(path)} imports {name}"
        for folder, others in above.items()
        for path in sorted((inputs / folder).glob("*.py"))
        for name in imported(path)
        if name.startswith(tuple(f"images.inputs.{other}" for other in others))
    ]


def test_no_circle_of_imports() -> None:
    """Imports inside functions and for type checking count as well."""
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in IMAGES}
    graph = {name: {*imported(path)} & modules.keys() for name, path in modules.items()}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from error
    assert len(order) == len(modules)


def test_modules_of_all_wings_import_none() -> None:
    assert not {named(path): imported_wings(path) for path in IMAGES if not wing(path)
                if imported_wings(path)}  # fmt: skip


def test_only_reports_and_bundles_import_the_unpacker() -> None:
    found = {named(path.parent) for path in IMAGES if "unbundle" in imported_wings(path)}
    assert {name for name in found if not name.startswith("images/unbundle")} == {
        "images/commands/report",
        "images/export/bundle",
    }


def test_no_package_is_crowded_and_each_has_a_docstring() -> None:
    folders = {path.parent for path in IMAGES} - {ROOT / "images"}
    crowded = {
        named(folder): len(entries)
        for folder in folders
        if len(
            entries := [
                path
                for path in folder.iterdir()
                if path.suffix in ("", ".py") and path.name[:2] != "__"
            ]
        )
        > LARGEST_WING
    }
    assert not crowded
    assert not [
        named(folder)
        for folder in folders
        if not ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
    ]


def test_nothing_in_the_builder_imports_its_caller() -> None:
    assert not [named(path) for path in IMAGES if roots(path) & {"build", "tests"}]


def test_only_the_docker_wing_imports_docker() -> None:
    """And what reads the logins that `docker login` keeps."""
    found = {path for path in IMAGES if "docker" in roots(path)}
    assert {named(path) for path in found if path.parent.name != "docker"} == {
        "images/oci/registry/credentials.py"
    }


def test_roll_runtime_needs_only_the_standard_library() -> None:
    """At the top of a file; SGLang, torch and ray are imported where they are installed."""
    allowed = {*sys.stdlib_module_names, "roll_runtime"}
    found = {
        named(path): {name.partition(".")[0] for name in imported(path, top_level_only=True)}
        for path in RUNTIME
    }
    assert len(found) > 5
    assert not {name: modules - allowed for name, modules in found.items() if modules - allowed}


def test_the_unpacker_needs_only_the_standard_library() -> None:
    """And modules of the project that are in the same zip."""
    travelling = unpacker.modules()
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in travelling}
    assert len(list(DESTINATION.rglob("*.py"))) > 10
    assert set(DESTINATION.rglob("*.py")) < set(travelling)
    # compression.zstd came with Python 3.14; it is used where it is there.
    assert not {
        named(path): foreign
        for path in travelling
        if (foreign := roots(path) - {*sys.stdlib_module_names, "images", "compression"})
    }
    assert not {
        named(path): missing
        for path in travelling
        if (
            missing := {
                name
                for name in imported(path)
                if (ROOT / f"{name.replace('.', '/')}.py").is_file() and name not in names
            }
        )
    }


def test_the_inventory_stands_alone() -> None:
    (path,) = DESTINATION.rglob("inventory.py")
    assert roots(path) <= set(sys.stdlib_module_names)


def test_the_unpacker_keeps_to_the_syntax_of_python_3_8() -> None:
    for path in unpacker.modules():
        ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=(3, 8))


RUN = """
import sys
for name in sys.argv[1].split():
    __import__(name)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""

PARSE = """
import sys, build
build.parser()
print(*(name for name in sys.modules if name.partition(".")[0] == "images"))
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
    found = loaded(
        "build images.export.push.push images.oci.registry.client images.commands.report.transfers"
    )
    assert not found & set(SLOW)


def test_the_command_line_is_parsed_before_anything_of_the_builder_is_loaded() -> None:
    """Each command imports what it needs when it runs: all of them are set up for any of them."""
    done = subprocess.run(
        [sys.executable, "-c", PARSE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = set(done.stdout.split())
    assert "images.commands.parser" in found
    assert not {
        name for name in found - set(PARSER.split())
        if not name.startswith(("images.commands", "images.util"))
    }  # fmt: skip


def test_core_modules_need_only_the_standard_library() -> None:
    before = loaded("sys")
    for module in CORE.split():
        assert loaded(module) - before <= {*sys.stdlib_module_names, "images"}, module


def test_roll_runtime_loads_nothing_but_the_standard_library() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-c", RUN, "roll_runtime"],
        cwd=ROOT / "roll_runtime" / "src",
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()) <= {*sys.stdlib_module_names, "roll_runtime", "__main__"}
