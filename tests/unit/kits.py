"""Kits of small images with a stand-in for the GPU tests, and their program run as users run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from images.export.kit import document, kit
from images.export.kit.document import Kit
from images.export.kit.kit import KitOptions
from images.export.kit.proving import Session
from images.export.kit.stages import Clock
from images.repository import ROOT
from tests.unit.bundles import Done
from tests.unit.small_matrix import SmallMatrix

# What the program gives pytest, and a test that leaves evidence as tests/gpu does.
CONFTEST = """
def pytest_addoption(parser):
    for name in ("target", "store", "matrix", "backend", "rootfs", "evidence", "roll"):
        parser.addoption(f"--{name}")
    parser.addoption("--gpu", action="store_true")
"""
_TEST = """
import json, os, pathlib, time
from dataclasses import replace

from images.attest import evidence
from images.attest.evidence import Evidence, ImageId, Outcome
from tests.image.subject import read_subject
from tests.unit import whole_proofs

HERE = pathlib.Path(__file__).parent


def test_stand_in(pytestconfig):
    option = pytestconfig.getoption
    target = option("--target")
    with (HERE / "ran").open("a") as ran:
        print(target, file=ran)
    with (HERE / "gpus").open("a") as gpus:
        print(os.environ.get("CUDA_VISIBLE_DEVICES"), file=gpus)
    matrix, store = pathlib.Path(option("--matrix")), pathlib.Path(option("--store"))
    image = read_subject(matrix, target, store).image
    assert (pathlib.Path(option("--rootfs")) / "opt/venv").is_dir()
    how = json.loads((HERE / "how.json").read_text()).get(target, "pass")
    while how == "wait":
        time.sleep(0.05)
    if how == "silent":
        return
    proof = whole_proofs.proof()
    if how == "fail":
        proof = replace(proof, tests={**proof.tests, sorted(proof.tests)[0]: Outcome("failed")})
    lock = "sha256:" + image.labels["roll.lock.sha256"]
    name = ImageId(target, image.manifest_digest, image.config_digest, lock, "0.1.0")
    evidence.write(pathlib.Path(option("--evidence")), Evidence(name, (proof,)))
    assert how == "pass"
"""


@dataclass(frozen=True)
class MadeKit:
    """A kit whose tests are a stand-in.

    Attributes:
        path: the kit.
        tests: the stand-in.
    """

    path: Path
    tests: Path

    @property
    def evidence(self) -> Path:
        """Where its program writes by default."""
        return self.path / "evidence"

    def behave(self, **how: str) -> None:
        """Have the tests of images pass, fail, wait or leave no evidence, by the digits of their
        SGLang version."""
        found = {f"torch280-sglang{name.lstrip('v')}": value for name, value in how.items()}
        (self.tests / "how.json").write_text(json.dumps(found))

    def ran(self) -> list[str]:
        """The targets whose tests were begun, in order."""
        path = self.tests / "ran"
        return path.read_text().split() if path.exists() else []

    def gpus(self) -> list[str]:
        """Return which GPUs those that were begun had, in order."""
        return (self.tests / "gpus").read_text().split()

    def start(self, *options: object, cwd: str | Path = "/") -> subprocess.Popen[str]:
        """Start its program."""
        return subprocess.Popen(
            [sys.executable, str(self.path / "prove.py"), *map(str, options)],
            cwd=cwd,
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *options: object, cwd: str | Path = "/") -> Done:
        """Run its program to its end; a traceback is never what a user should see."""
        with self.start(*options, cwd=cwd) as process:
            out, said = process.communicate()
        assert "Traceback" not in said, said
        return Done(process.returncode, out, said)


def make(work: SmallMatrix, place: Path, *short: str, stand_in: bool = True) -> MadeKit:
    """Build the images of targets, and make a kit of them, with the real tests or a stand-in."""
    images = [(work.matrix.target(f"torch280-sglang{one}"), work.build(one)) for one in short]
    kit.write(work.matrix, images, work.store, KitOptions(place / "kit", 100_000))
    made = MadeKit(place / "kit", place / "stand-in")
    return with_stand_in(made.path, made.tests) if stand_in else made


def with_stand_in(path: Path, tests: Path) -> MadeKit:
    """Put the stand-in in the place of a kit's GPU tests."""
    tests.mkdir()
    (tests / "conftest.py").write_text(CONFTEST)
    (tests / "test_stand_in.py").write_text(_TEST)
    changed = replace(document.read(path), gpu_tests=(str(tests),))
    (path / document.NAME).write_bytes(document.encode(changed))
    made = MadeKit(path, tests)
    made.behave()
    return made


def session(kit: Kit, directory: Path) -> Session:
    """A run of a kit in its directory, in this process, with default directories."""
    for name in ("work", "evidence"):
        (directory / name).mkdir(exist_ok=True)
    return Session(
        kit=kit,
        directory=directory,
        work=directory / "work",
        evidence=directory / "evidence",
        clock=Clock(None),
        python_path=os.pathsep.join([str(ROOT), *sys.path]),
        roll=None,
        remove_parts=False,
    )
