"""Which GPU a suite has, of those of the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from images.export.kit import gpu_choice
from images.export.kit.gpu_choice import Gpus


def test_each_suite_has_the_gpu_with_the_fewest_and_roll_the_first() -> None:
    place = Gpus(["0", "1"])
    with place.one(first=False) as a, place.one(first=False) as b, place.one(first=True) as roll:
        assert (a, b, roll) == ("1", "0", "0")
        with place.one(first=False) as c:
            assert c == "1"
    with place.one(first=False) as again:
        assert again == "1", "the first is left to ROLL"


def test_a_suite_that_fails_gives_its_gpu_back() -> None:
    place = Gpus(["0", "1"])
    with pytest.raises(OSError, match="lost"), place.one(first=False):
        raise OSError("lost")
    with place.one(first=False) as name:
        assert name == "1"


def test_suites_share_what_there_is_where_no_gpu_is_known() -> None:
    with Gpus([]).one(first=False) as name:
        assert name == ""


def test_gpus_are_those_that_may_be_used_or_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, GPU-8f1c")
    assert gpu_choice.visible(tmp_path) == ("2", "GPU-8f1c")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert gpu_choice.visible(tmp_path) == ()
    for name in ("nvidia5", "nvidia12", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert gpu_choice.visible(tmp_path) == ("0", "1")
