from __future__ import annotations

import pytest

from images.inputs.resolve import pylock

WHEELS = [
    "demo-1.0-cp311-cp311-linux_x86_64.whl",
    "demo-1.0-cp311-cp311-manylinux_2_28_x86_64.whl",
    "demo-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    "demo-1.0-cp311-abi3-manylinux_2_28_x86_64.whl",
    "demo-1.0-cp38-abi3-manylinux_2_5_x86_64.manylinux1_x86_64.whl",
    "demo-1.0-py3-none-manylinux_2_17_x86_64.whl",
    "demo-1.0-cp311-none-any.whl",
    "demo-1.0-7-py3-none-any.whl",
    "demo-1.0-py3-none-any.whl",
]
UNFIT = [
    "demo-1.0-cp310-cp310-manylinux_2_17_x86_64.whl",
    "demo-1.0-cp312-cp312-manylinux_2_17_x86_64.whl",
    "demo-1.0-cp311-cp311-manylinux_2_39_x86_64.whl",
    "demo-1.0-cp311-cp311-musllinux_1_2_x86_64.whl",
    "demo-1.0-cp311-cp311-manylinux_2_28_aarch64.whl",
    "demo-1.0-cp311-cp311-win_amd64.whl",
    "demo-1.0-cp312-abi3-manylinux_2_17_x86_64.whl",
    "demo-1.0-py2-none-any.whl",
]


@pytest.mark.parametrize("best", range(len(WHEELS)))
def test_best_wheel_that_fits_is_taken_whatever_the_order(best: int) -> None:
    offered = [*WHEELS[best:], *UNFIT]
    for names in (offered, offered[::-1]):
        files = [
            {"url": f"https://h/{name}", "hashes": {"sha256": "0" * 64}, "size": 1}
            for name in names
        ]
        found = pylock.best({"name": "Demo", "version": "1.0", "wheels": files, "sdist": files[0]})
        assert found.artifact.filename == WHEELS[best]
        assert found.name == "demo"


def test_highest_build_is_taken_of_wheels_with_one_tag() -> None:
    names = [f"demo-1.0{build}-py3-none-any.whl" for build in ("", "-2", "-10", "-9")]
    files = [{"url": f"https://h/{n}", "hashes": {"sha256": "0"}, "size": 1} for n in names]
    found = pylock.best({"name": "demo", "version": "1.0", "wheels": files})
    assert found.artifact.filename == "demo-1.0-10-py3-none-any.whl"
