"""A kit of images whose roll_runtime is that of the checkout, or another one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from images.commands.test import own_runtime
from images.content import runtime_wheel
from images.errors import UsageError
from images.oci.image import Image, Layer
from images.oci.layer import writer
from images.oci.layer.entry import of_bytes
from images.oci.store.store import Store
from tests.unit.command_line import cli
from tests.unit.small_matrix import A, SmallMatrix, two_targets

_INSIDE = "opt/venv/lib/python3.11/site-packages/roll_runtime"


@pytest.fixture
def work(tmp_path: Path) -> SmallMatrix:
    return two_targets(tmp_path)


def with_runtime(image: Image, store: Store, sources: dict[str, bytes]) -> Image:
    """The image with a layer of these modules on top."""
    entries = [of_bytes(f"{_INSIDE}/{name}", content) for name, content in sorted(sources.items())]
    with store.blobs.new_file() as (out, commit):
        blob = writer.write(entries, out, "zstd")
        commit(blob.digest)
    return replace(image, layers=(*image.layers, Layer("roll_runtime", blob)))


def of_checkout() -> dict[str, bytes]:
    package = runtime_wheel.SOURCE / "src/roll_runtime"
    return {path.name: path.read_bytes() for path in package.glob("*.py")}


def test_the_sources_of_the_checkout_are_accepted(work: SmallMatrix) -> None:
    image = with_runtime(work.build("052"), work.store, of_checkout())
    own_runtime.require([image], work.store)


@pytest.mark.parametrize("name", ["env.py", "removed_since.py"])
def test_an_image_with_other_sources_is_refused(work: SmallMatrix, name: str) -> None:
    good = with_runtime(work.build("052"), work.store, of_checkout())
    other = {**of_checkout(), name: b"# before\n"}
    old = with_runtime(work.build("055"), work.store, other)
    with pytest.raises(UsageError, match="torch280-sglang055: built with another") as refused:
        own_runtime.require([good, old], work.store)
    assert refused.value.remedy == "python build.py --target torch280-sglang055"


def test_no_kit_is_written_of_it(work: SmallMatrix) -> None:
    work.store.save(with_runtime(work.build("052"), work.store, {"env.py": b"# before\n"}))
    where = ("--matrix", work.matrix.path, "--store", work.store.path)
    done = cli("prove", *where, "--target", A, "--out", work.place / "kit")
    assert done.returncode == UsageError.exit_code
    assert "whose tests would fail" in done.stderr
    assert f"python build.py --target {A}" in done.stderr
    assert not (work.place / "kit").exists()


def test_an_image_without_sources_is_not_looked_at(work: SmallMatrix) -> None:
    own_runtime.require([work.build("052")], work.store)
