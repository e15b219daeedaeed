"""The rules of the matrix about files that are changed or left out, and what states them."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from images.build import grouping
from images.build.conflicts import layer_records
from images.build.layers.wheel_layers import LinksLayer, WheelLayer
from images.build.recipe import LayerContext
from images.content import changed_wheels
from images.content.python.bytecode import Compiler
from images.content.python.interpreter import Interpreter
from images.errors import MatrixError
from images.formats.libraries.served_gpus import served_by
from images.formats.wheel_changes import Rules
from images.inputs.lock.artifact import Artifact
from images.inputs.lock.cuda_lock import Toolkit
from images.inputs.lock.distribution import Distribution
from images.inputs.lock.target_lock import Lock
from images.inputs.matrix.change_rules import LeftOut, Licensed
from images.oci.layer.entry import Entry
from tests.unit.fat_binaries import CUBIN, LICENCE, container, entry, library
from tests.unit.wheels import write_wheel

SITE = "opt/venv/lib/python3.11/site-packages"
CUDA_12 = ("8.0", "8.6", "8.9", "9.0")
LIBRARY = library([(".nv_fatbin", container(*(entry(CUBIN, n, b"x" * n) for n in (70, 80, 90))))])
FILES = {
    "nvidia/demo/lib/libdemo.so.1": LIBRARY,
    "nvidia/demo/lib/libdemoMg.so.1": b"\x7fELF",
    "nvidia_demo-1.0.dist-info/LICENSE": LICENCE,
}
GPU_CODE = Licensed("nvidia-demo", "Apache-2.0", "tried", "matrix.yaml:7")
DEBUG = Licensed("nvidia-demo", "Apache-2.0", "tried", "matrix.yaml:8")
LEFT_OUT = LeftOut(f"/{SITE}/nvidia/*/libdemoMg.*", "nvidia-demo", "tried", "matrix.yaml:9")


@pytest.fixture
def lock(tmp_path: Path) -> Lock:
    """A lock of one wheel, which is in the cache."""
    wheel = write_wheel(tmp_path, FILES, name="nvidia_demo")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    artifact = Artifact(wheel.name, digest, wheel.stat().st_size)
    kept = tmp_path / "cache" / digest / wheel.name
    kept.parent.mkdir(parents=True)
    wheel.rename(kept)
    return Lock((Distribution("nvidia-demo", "1.0", artifact),), ())


def ruled(lock: Lock, *left_out: LeftOut, gpus: tuple[str, ...] = CUDA_12) -> Lock:
    return dataclasses.replace(lock, gpu_code=(GPU_CODE,), gpus=gpus, left_out=left_out)


def layer(lock: Lock) -> WheelLayer:
    (group,) = grouping.groups(lock.distributions)
    return WheelLayer(group, lock, (), "12.4")


def context(tmp_path: Path, lines: list[str] | None, opened: ExitStack) -> LayerContext:
    compiler = opened.enter_context(Compiler((sys.executable, "-I", "-S"), {}))
    report = (lines if lines is not None else []).append
    python = Interpreter((), {}, "3.11")
    return LayerContext(tmp_path / "cache", tmp_path, python, compiler, report)


def made(lock: Lock, tmp_path: Path, lines: list[str] | None = None) -> dict[str, Entry]:
    with ExitStack() as opened:
        one = layer(lock).entries(context(tmp_path, lines, opened), opened)
        return {item.path: item for item in one}


def test_layer_has_what_the_rules_leave(lock: Lock, tmp_path: Path) -> None:
    lines: list[str] = []
    published, changed = made(lock, tmp_path), made(ruled(lock, LEFT_OUT), tmp_path, lines)
    gone = f"{SITE}/nvidia/demo/lib/libdemoMg.so.1"
    assert published.keys() - changed.keys() == {gone}
    (line,) = lines
    assert line.startswith("  nvidia-demo 1.0: left out ")


def test_comparisons_of_files_are_of_what_was_published(lock: Lock, tmp_path: Path) -> None:
    def compared(of: Lock) -> dict[str, str]:
        collector = layer_records.RecordCollector()
        with ExitStack() as opened:
            entries = layer(of).entries(context(tmp_path, None, opened), opened)
            list(collector.passing(entries))
        (found,) = layer_records.parse(collector.dump())
        return dict(found.hashes(found.paths))

    published, changed = compared(lock), compared(ruled(lock, LEFT_OUT))
    note = f"{SITE}/nvidia_demo-1.0.dist-info/MODIFIED.json"
    assert changed.pop(note)
    assert changed == published


def test_links_are_to_libraries_that_are_installed(lock: Lock, tmp_path: Path) -> None:
    def links(of: Lock) -> set[str]:
        with ExitStack() as opened:
            found = LinksLayer(of, Toolkit("12.4", (), ()), home=True)
            return {item.path for item in found.entries(context(tmp_path, None, opened), opened)}

    gone = {
        "usr/local/cuda/lib64/libdemoMg.so",
        "usr/local/cuda/lib64/libdemoMg.so.1",
        "usr/lib/x86_64-linux-gnu/libdemoMg.so.1",
    }
    assert links(lock) - links(ruled(lock, LEFT_OUT)) == gone


def test_rule_that_leaves_out_nothing_is_refused(lock: Lock, tmp_path: Path) -> None:
    typo = LEFT_OUT._replace(path=f"/{SITE}/nvidia/*/libdemoMG.*")
    with pytest.raises(MatrixError, match=r"matrix.yaml:9: nvidia-demo 1\.0 has no /opt"):
        made(ruled(lock, LEFT_OUT, typo), tmp_path)


def test_rule_about_a_distribution_that_is_not_locked_is_refused(lock: Lock) -> None:
    other = LEFT_OUT._replace(distribution="nvidia-demo-cu12")
    with pytest.raises(MatrixError, match="left_out: the target has no nvidia-demo-"):
        changed_wheels.check(ruled(lock, other))
    changed_wheels.check(ruled(lock, LEFT_OUT))


def test_debug_sections_are_a_rule_of_their_own(lock: Lock) -> None:
    (item,) = lock.distributions
    without = dataclasses.replace(lock, debug_sections=(DEBUG,))
    assert changed_wheels.rules(without, item) == Rules(None, "Apache-2.0", debug=False)
    assert changed_wheels.rules(ruled(lock), item) == Rules(served_by(CUDA_12), "Apache-2.0")
    both = dataclasses.replace(ruled(lock), debug_sections=(DEBUG,))
    assert changed_wheels.rules(both, item) == Rules(served_by(CUDA_12), "Apache-2.0", debug=False)
    assert layer(without).inputs() != layer(lock).inputs()
    assert layer(both).inputs() != layer(ruled(lock)).inputs()
    assert changed_wheels.notes(without, item) == {"debug_sections": "left out"}
    assert changed_wheels.parameters(without) == {"debug_sections": {"nvidia-demo": "Apache-2.0"}}
    other = dataclasses.replace(lock, debug_sections=(DEBUG._replace(name="nvidia-other"),))
    with pytest.raises(MatrixError, match="debug_sections: the target has no nvidia-other"):
        changed_wheels.check(other)


def test_keys_depend_on_what_decides_about_the_bytes(lock: Lock) -> None:
    def inputs(of: Lock) -> str:
        return str(layer(of).inputs())

    one = inputs(ruled(lock))
    assert one != inputs(lock)
    assert one != inputs(ruled(lock, LEFT_OUT))
    assert one != inputs(ruled(lock, gpus=("9.0",)))
    assert one == inputs(ruled(lock, gpus=("8.6", "9.0")))  # the same majors, the same newest
    reworded = (GPU_CODE._replace(why="other", location="matrix.yaml:99"),)
    assert one == inputs(dataclasses.replace(ruled(lock), gpu_code=reworded))


def test_sbom_and_provenance_state_the_rules(lock: Lock) -> None:
    (item,) = lock.distributions
    assert changed_wheels.notes(lock, item) == {}
    assert changed_wheels.notes(ruled(lock, LEFT_OUT), item) == {
        "gpu_code": "machine code for 8.x, 9.x; PTX up to 9.0",
        "left_out": LEFT_OUT.path,
    }
    assert changed_wheels.parameters(lock) == {}
    assert changed_wheels.parameters(ruled(lock, LEFT_OUT)) == {
        "gpu_code": {"gpus": list(CUDA_12), "distributions": {"nvidia-demo": "Apache-2.0"}},
        "left_out": [LEFT_OUT.path],
    }
