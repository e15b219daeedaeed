"""The layer of kernels: when there is one, what its key depends on, and what is in it."""

from __future__ import annotations

import base64
import csv
import dataclasses
import hashlib
import io
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from images import image_paths
from images.build import base, grouping, layer_recipes
from images.build.base import Base
from images.build.layers import kernel_layer
from images.build.layers.kernel_layer import KernelLayer
from images.build.layers.wheel_layers import WheelLayer
from images.build.recipe import LayerContext, Recipe
from images.content.kernels import kernel_build
from images.content.kernels.kernel_build import Sources
from images.content.kernels.kernel_inputs import Kernels
from images.content.python.bytecode import Compiler
from images.content.python.interpreter import Interpreter
from images.errors import MatrixError
from images.inputs.lock import base_lock, cuda_lock, target_lock
from images.inputs.lock.artifact import Artifact
from images.inputs.lock.deb import Deb
from images.inputs.lock.distribution import Distribution
from images.inputs.lock.target_lock import Lock
from images.inputs.matrix.change_rules import LeftOut
from images.inputs.matrix.load import load
from images.oci.layer.entry import Entry, of_bytes
from images.repository import ROOT
from tests.unit.fake_toolkits import fake_12
from tests.unit.wheels import write_wheel

SITE = image_paths.SITE_PACKAGES
FLASHINFER = Kernels(("norm",), ("8.0", "9.0a"))
BOTH = dataclasses.replace(FLASHINFER, sglang=(("9.0", ("dense",)),))
TITLE = "compiled kernels"


@pytest.fixture(scope="module")
def lock() -> Lock:
    matrix = load(ROOT / "matrix.yaml")
    return target_lock.read(matrix, matrix.target("torch2110-sglang0512"))


def recipes(
    lock: Lock, kernels: Kernels | None = FLASHINFER, on: Base | None = None
) -> dict[str, Recipe]:
    debs, tools = base_lock.read(), cuda_lock.read("13.0")
    found = layer_recipes.recipes(lock, debs, tools, "zstd", on or base.debian(debs), None, kernels)
    return {recipe.title: recipe for recipe in found}


def bumped(lock: Lock, name: str) -> Lock:
    (old,) = (item for item in lock.distributions if item.name == name)
    file = dataclasses.replace(old.artifact, sha256="f" * 64)
    new = dataclasses.replace(old, artifact=file)
    items = tuple(new if item is old else item for item in lock.distributions)
    return dataclasses.replace(lock, distributions=items)


# -- when there is one -----------------------------------------------------------------------------


def test_kernels_change_no_other_layer(lock: Lock) -> None:
    without, found = recipes(lock, None), recipes(lock)
    assert found.keys() - without.keys() == {TITLE}
    assert {title: found[title].key for title in without} == {
        title: recipe.key for title, recipe in without.items()
    }


def test_layer_is_above_all_of_the_engine(lock: Lock) -> None:
    """RECORD of FlashInfer is in it, and takes the place of that in FlashInfer's layer."""
    assert list(recipes(lock))[-2:] == [TITLE, "roll_runtime"]


def test_custom_base_has_no_kernels(lock: Lock) -> None:
    debs = base_lock.read()
    custom = dataclasses.replace(base.debian(debs), digest=f"sha256:{'1' * 64}")
    assert TITLE not in recipes(lock, on=custom)


@pytest.mark.parametrize("name", ["flashinfer-python", "torch", "sglang"])
def test_target_without_what_kernels_are_compiled_from_is_refused(lock: Lock, name: str) -> None:
    items = tuple(item for item in lock.distributions if item.name != name)
    changed = dataclasses.replace(lock, distributions=items, gpu_code=())
    with pytest.raises(MatrixError) as caught:
        recipes(changed, BOTH)
    assert caught.value.message == f"kernels: norm, sglang-dense: the target has no {name}"
    assert "`sglang:`" in (caught.value.remedy or "")


def test_sglang_may_be_absent_where_no_kernel_is_its_own(lock: Lock) -> None:
    items = tuple(item for item in lock.distributions if item.name != "sglang")
    assert TITLE in recipes(dataclasses.replace(lock, distributions=items))


def test_flashinfer_without_a_layer_of_its_own_is_refused(lock: Lock) -> None:
    items = tuple(
        dataclasses.replace(item, artifact=dataclasses.replace(item.artifact, size=1000))
        if item.name == "flashinfer-python"
        else item
        for item in lock.distributions
    )
    with pytest.raises(MatrixError, match="no layer of its own"):
        recipes(dataclasses.replace(lock, distributions=items))


def test_every_target_of_the_matrix_gets_the_kernels_that_it_names() -> None:
    matrix = load(ROOT / "matrix.yaml")
    for target in matrix.targets:
        if target.kernels:
            found = grouping.groups(target_lock.read(matrix, target).of_engine())
            names = {item.name for item in kernel_layer.group_of(BOTH, found).distributions}
            assert names == {"flashinfer-python"}


# -- key and files ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["flashinfer-python", "torch", "apache-tvm-ffi", "ninja", "nvidia-cuda-runtime"]
)
def test_what_kernels_are_compiled_from_is_in_the_key(lock: Lock, name: str) -> None:
    assert recipes(bumped(lock, name))[TITLE].key != recipes(lock)[TITLE].key


@pytest.mark.parametrize("name", ["sglang", "transformers", "sglang-kernel", "flashinfer-cubin"])
def test_other_distributions_are_not(lock: Lock, name: str) -> None:
    assert recipes(bumped(lock, name))[TITLE].key == recipes(lock)[TITLE].key


def test_sglang_is_in_the_key_where_its_own_kernels_are_compiled(lock: Lock) -> None:
    before, after = recipes(lock, BOTH), recipes(bumped(lock, "sglang"), BOTH)
    assert before[TITLE].key not in (after[TITLE].key, recipes(lock)[TITLE].key)


def test_kernels_base_and_compiler_are_in_the_key(lock: Lock) -> None:
    found = recipes(lock)[TITLE].key
    other = dataclasses.replace(FLASHINFER, architectures=("9.0a",))
    assert recipes(lock, other)[TITLE].key != found
    debs = base_lock.read()
    on = base.debian(debs)
    for tools, its_debs in ((cuda_lock.read("12.4"), debs), (cuda_lock.read("13.0"), debs[1:])):
        made = layer_recipes.recipes(lock, its_debs, tools, "zstd", on, None, FLASHINFER)
        (key,) = [recipe.key for recipe in made if recipe.title == TITLE]
        assert key != found


def test_targets_that_differ_elsewhere_share_the_layer() -> None:
    matrix = load(ROOT / "matrix.yaml")
    plain, roll = (
        recipes(target_lock.read(matrix, matrix.target(name)))[TITLE].key
        for name in ("torch2110-sglang0512", "torch2110-sglang0512-roll")
    )
    assert plain == roll


def test_needed_files_are_those_of_compiler_base_and_wheels(lock: Lock) -> None:
    recipe = recipes(lock)[TITLE]
    tools = cuda_lock.read("13.0")
    names = {item.name for item in recipe.distributions}
    assert names >= {"flashinfer-python", "torch", "ninja", *(item.name for item in tools.wheels)}
    assert not names & {"sglang", "transformers"}
    assert set(recipe.debs) == {*base_lock.read(), *tools.debs}
    assert len(set(recipe.distributions)) == len(recipe.distributions)
    assert recipe.bootstraps
    assert recipe.installed == ()
    twice = recipes(lock, dataclasses.replace(FLASHINFER, flashinfer=("norm", "sampling")))[TITLE]
    assert twice.work > recipe.work
    assert recipe.weight < 1_000_000, "of the disk"


# -- entries ---------------------------------------------------------------------------------------


class Small:
    """A small target whose wheels are in a cache, and a compiler that makes what it is given."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place = place
        self.sources: list[Sources] = []
        self.tools = fake_12(place / "cache")
        files = {"flashinfer/__init__.py": b"", "flashinfer/unused.a": b"an archive"}
        torch = {"torch/share/cmake/Torch/TorchConfig.cmake": b""}
        self.lock = Lock(
            (
                self.wheel("flashinfer_python", files, grouping.OWN_LAYER),
                self.wheel("ninja", {"ninja/__init__.py": b""}),
                self.wheel("torch", torch),
            ),
            (),
        )
        monkeypatch.setattr(kernel_build, "entries", self.compiled)

    def wheel(self, name: str, files: dict[str, bytes], size: int = 0) -> Distribution:
        path = write_wheel(self.place, files, name=name)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        artifact = Artifact(path.name, digest, size or path.stat().st_size)
        kept = self.place / "cache" / digest / path.name
        kept.parent.mkdir(parents=True)
        path.rename(kept)
        return Distribution(name.replace("_", "-"), "1.0", artifact)

    def compiled(
        self, kernels: Kernels, sources: Sources, cache: Path, workdir: Path
    ) -> Iterator[Entry]:
        self.sources.append(sources)
        yield of_bytes("opt/venv/kernels/tvm-ffi/a_1/a.so", b"dense", 0o755)
        yield of_bytes(f"{SITE}/flashinfer/data/aot/norm/norm.so", b"norm", 0o755)

    def made(self, lock: Lock | None = None, debs: tuple[Deb, ...] = ()) -> dict[str, Entry]:
        lock = lock or self.lock
        group = kernel_layer.group_of(FLASHINFER, grouping.groups(lock.distributions))
        layer = KernelLayer(FLASHINFER, WheelLayer(group, lock, debs, "12.4"), debs, self.tools)
        with ExitStack() as opened:
            compiler = opened.enter_context(Compiler((sys.executable, "-I", "-S"), {}))
            python = Interpreter((), {}, "3.11")
            context = LayerContext(self.place / "cache", self.place, python, compiler)
            return {
                item.path: of_bytes(item.path, item.open().read(), item.mode)
                for item in layer.entries(context, opened)
            }


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    # The sizes of locked files are not checked again, so a small one may count as large.
    monkeypatch.setattr(grouping, "OWN_LAYER", 10_000)
    return Small(tmp_path, monkeypatch)


def record(found: dict[str, Entry]) -> dict[str, list[str]]:
    (path,) = [path for path in found if path.endswith("/RECORD")]
    rows = csv.reader(io.StringIO(found[path].open().read().decode()))
    return {name: rest for name, *rest in rows}


def test_layer_is_the_libraries_and_flashinfers_record(small: Small) -> None:
    found = small.made()
    assert list(found) == [
        "opt/venv/kernels/tvm-ffi/a_1/a.so",
        f"{SITE}/flashinfer/data/aot/norm/norm.so",
        f"{SITE}/flashinfer_python-1.0.dist-info/RECORD",
    ]
    rows = record(found)
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"norm").digest()).decode().rstrip("=")
    assert rows["flashinfer/data/aot/norm/norm.so"] == [f"sha256={digest}", "4"]
    assert "../../../kernels/tvm-ffi/a_1/a.so" in rows
    assert rows.keys() >= {"flashinfer/__init__.py", "flashinfer_python-1.0.dist-info/RECORD"}


def test_sources_are_the_wheels_by_their_use(small: Small) -> None:
    small.made()
    (sources,) = small.sources
    names = [[path.name.partition("-")[0] for path in paths] for paths in
             (sources.whole, sources.headers)]  # fmt: skip
    assert names == [["flashinfer_python", "ninja"], ["torch"]]
    assert (sources.torch, sources.misrecorded) == ("1.0", frozenset())


def test_record_is_that_of_flashinfer_with_its_own_rules(small: Small) -> None:
    """A file of it is left out, so its layer's RECORD lacks it."""
    rule = LeftOut(f"/{SITE}/flashinfer/*.a", "flashinfer-python", "tried", "matrix.yaml:9")
    rows = record(small.made(dataclasses.replace(small.lock, left_out=(rule,))))
    assert "flashinfer/unused.a" not in rows
    assert "flashinfer_python-1.0.dist-info/MODIFIED.json" in rows
    assert "flashinfer/data/aot/norm/norm.so" in rows
