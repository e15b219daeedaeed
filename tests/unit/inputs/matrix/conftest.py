"""A small matrix, and how a text is read as one."""

from __future__ import annotations

from pathlib import Path

import pytest

from images.errors import MatrixError
from images.inputs.matrix.load import load
from images.inputs.matrix.records import Matrix
from images.repository import ROOT

REAL = ROOT / "matrix.yaml"

SMALL = """\
platform: nvidia-cuda
python: "3.11"
base:
  suite: bookworm
toolkit:
  "12": "12.4"
defaults:
  requirements:
    - "sglang=={sglang}"
    - {pin: "torch=={torch}", cuda: "<13", why: the engine}
  constraints:
    - {pin: cuda-python<13, why: drifts}
  sdists:
    flashinfer-python: {build: [setuptools==80.9.0], why: no wheel}
  misrecorded:
    decord: {sglang: "<0.5", why: published so}
  env:
    - {name: ONE, value: 1, why: first}
    - {name: NEW, value: "yes", sglang: ">=0.5.2", why: newer}
    - {name: MAJOR, value: "cuda>={cuda_major}.0", why: by major}
targets:
  - id: torch260-sglang046
    sglang: 0.4.6.post4
    torch: 2.6.0
    cuda: 12.4
    exclude_newer: {date: 2025-05-18, why: drift}
    env:
      - {name: ONE, value: "own", why: its own}
  - id: torch280-sglang052
    sglang: 0.5.2
    torch: 2.8.0
    cuda: "12.8"
    exclude_newer: {date: "2025-09-16T02:00:00+02:00", why: drift}
    requirements: [numpy]
    overrides:
      - {pin: numpy==2.0.0, why: because}
"""

RUNTIME = """\
SUPPORTED = ("0.4.6.post1", "0.4.6.post4", "0.5.2", "2.10")
def is_supported(version): return version in SUPPORTED
def nearest(version): return "0.5.2"
"""


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    path = tmp_path / "versions.py"
    path.write_text(RUNTIME)
    return path


@pytest.fixture
def read(tmp_path: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    monkeypatch.chdir(tmp_path)
    return Reader(tmp_path, runtime)


class Reader:
    """Loads a text as a matrix file."""

    def __init__(self, home: Path, runtime: Path) -> None:
        self.path = home / "matrix.yaml"
        self.runtime = runtime

    def __call__(self, text: str | bytes = SMALL) -> Matrix:
        self.path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load(self.path, self.runtime)

    def faults(self, text: str | bytes) -> list[str]:
        with pytest.raises(MatrixError) as caught:
            self(text)
        return caught.value.message.splitlines()

    def fault(self, text: str | bytes) -> str:
        faults = self.faults(text)
        assert len(faults) == 1, faults
        return faults[0]


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


CUDA_13 = SMALL.replace('"12": "12.4"', '"12": "12.4"\n  "13": "13.0"')
