"""Kits as they are written."""

from __future__ import annotations

import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from images.attest import evidence
from images.attest.evidence import Evidence, ImageId
from images.errors import UsageError
from images.export.kit import document, kit
from images.export.kit.kit import KitOptions
from tests.unit import whole_proofs
from tests.unit.bundles import files
from tests.unit.small_matrix import A, B, SmallMatrix, two_targets


def write(work: SmallMatrix, out: Path, wheels: Path | None = None) -> None:
    images = [(work.matrix.target(f"torch280-sglang{one}"), work.build(one))
              for one in ("052", "055")]  # fmt: skip
    kit.write(work.matrix, images, work.store, KitOptions(out, 100_000, wheels=wheels))


def test_a_kit_has_the_suite_and_bundles_that_build_on_each_other(tmp_path: Path) -> None:
    work = two_targets(tmp_path)
    write(work, tmp_path / "kit")
    found = document.read(tmp_path / "kit")
    assert [target.id for target in found.targets] == [A, B]
    assert [target.digest for target in found.targets] == [work.store.images()[one] for one in
                                                           (A, B)]  # fmt: skip
    sizes = [sum(path.stat().st_size for path in (tmp_path / "kit/bundles" / one).glob("part-*"))
             for one in (A, B)]  # fmt: skip
    assert sizes[1] < sizes[0] / 2
    with tarfile.open(tmp_path / "kit/suite.tar") as tar:
        names = tar.getnames()
    wanted = {"tests/gpu/conftest.py", "images/build/__init__.py", "matrix/matrix.yaml",
              f"matrix/locks/{A}.txt", "roll_runtime/pyproject.toml"}  # fmt: skip
    assert wanted <= set(names)
    assert not [name for name in names if "__pycache__" in name or name.startswith("/")]


def test_the_same_images_give_the_same_bytes(tmp_path: Path) -> None:
    work = two_targets(tmp_path)
    for name in ("one", "two"):
        write(work, tmp_path / name)
        (tmp_path / name / "bundles").rename(tmp_path / f"bundles-{name}")  # tested elsewhere
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_evidence_of_an_image_that_is_not_proven_goes_along(tmp_path: Path) -> None:
    work = two_targets(tmp_path)
    half = dict.fromkeys([*whole_proofs.proof().tests][:9], whole_proofs.PASSED)
    for short, name, tests in (("052", A, half), ("055", B, whole_proofs.proof().tests)):
        digest = work.build(short).manifest_digest
        image = ImageId(name, digest, digest, digest, "0.1.0")
        proof = replace(whole_proofs.proof(), tests=tests).within(whole_proofs.proof().tests)
        evidence.write(tmp_path / f"evidence/{name}.json", Evidence(image, (proof,)))
    write(work, tmp_path / "kit")
    assert files(tmp_path / "kit/evidence") == {
        f"{A}.json": (tmp_path / f"evidence/{A}.json").read_bytes()
    }


def test_other_files_are_not_mixed_with_a_kit(tmp_path: Path) -> None:
    work = two_targets(tmp_path)
    (tmp_path / "kit").mkdir()
    (tmp_path / "kit/mine").touch()
    with pytest.raises(UsageError, match="not an empty directory"):
        write(work, tmp_path / "kit")
    with pytest.raises(UsageError, match="no wheels are there"):
        write(work, tmp_path / "other", wheels=tmp_path / "kit")
