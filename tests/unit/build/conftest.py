"""Layers that are really downloaded and made; the image's interpreter is that of the tests."""

from __future__ import annotations

import sys
from concurrent.futures import Future, wait
from pathlib import Path

import pytest

from images.content.python import interpreter
from images.content.python.interpreter import Interpreter
from images.http.retry import Policy
from images.inputs.fetch import downloads
from images.inputs.fetch.needed_files import NeededFiles
from images.inputs.lock.artifact import Artifact
from images.inputs.resolve import file_urls
from tests.unit.build_setup import BuildSetup
from tests.unit.faulty_server import Faulty


@pytest.fixture
def setup(server: Faulty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BuildSetup:
    def locations(wanted: NeededFiles, mirror: str | None, cache: Path) -> dict[Artifact, str]:
        return {file: server.url(f"/{item.name}") for file, item in wanted.distributions.items()}

    def noted(self: downloads.Downloads, artifact: Artifact, url: str) -> Future[Path]:
        setup.downloads.append(start(self, artifact, url))
        return setup.downloads[-1]

    def late(python: Interpreter) -> Interpreter:
        """It may take so long that all downloads have ended, well or not."""
        wait(setup.downloads)
        return python

    setup, start = BuildSetup(server, tmp_path), downloads.Downloads.start
    python = Interpreter((sys.executable, "-I", "-S"), {}, "3.11.0")
    monkeypatch.setattr(interpreter, "missing", lambda *_: [])
    monkeypatch.setattr(interpreter, "extracted", lambda *_: late(python))
    monkeypatch.setattr(downloads.Downloads, "start", noted)
    monkeypatch.setattr(file_urls, "locate", locations)
    monkeypatch.setattr(downloads, "POLICY", Policy(base_delay=0.0))
    return setup
