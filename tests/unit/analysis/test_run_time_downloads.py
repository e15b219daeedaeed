"""Which targets would download kernels of FlashInfer at run time."""

from __future__ import annotations

import pytest

from images.analysis import run_time_downloads
from images.inputs.lock import target_lock
from images.inputs.lock.artifact import Artifact
from images.inputs.lock.distribution import Distribution
from images.inputs.matrix.load import load
from images.inputs.matrix.records import Target
from images.repository import ROOT

MATRIX = load(ROOT / "matrix.yaml")
BLACKWELL = ("10.0", "10.3", "12.0", "12.1")


@pytest.mark.parametrize(
    "target", [one for one in MATRIX.targets if not one.flavour], ids=lambda one: one.id
)
def test_real_rows_from_0517_on_would_and_others_not(target: Target) -> None:
    lock = target_lock.read(MATRIX, target)
    touched = run_time_downloads.gpus_of(target, lock.distributions)
    late = target.torch.startswith(("2.13", "2.14")) or target.sglang == "0.5.17"
    assert touched == (BLACKWELL if late else ())
    said = run_time_downloads.message(target, lock.distributions)
    assert (f"{target.id}: no flashinfer-cubin" in said and "10.0, 10.3" in said) is late


def test_a_target_narrowed_to_hopper_needs_none() -> None:
    target = MATRIX.target("torch2141-sglang0523-sm90")
    lock = target_lock.read(MATRIX, target)
    assert run_time_downloads.message(target, lock.distributions) == ""


@pytest.mark.parametrize(("version", "touched"), [("0.7.2", ()), ("0.7.1", BLACKWELL)])
def test_only_kernels_of_flashinfers_version_count(version: str, touched: tuple[str, ...]) -> None:
    names = {"flashinfer-python": "0.7.2", "flashinfer-cubin": version}
    made = [
        Distribution(name, v, Artifact(f"{name}.whl", "0" * 64, 1)) for name, v in names.items()
    ]
    target = MATRIX.target("torch2141-sglang0523")
    assert run_time_downloads.gpus_of(target, made) == touched
