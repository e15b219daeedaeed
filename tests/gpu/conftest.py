"""The image with GPUs, and the evidence that its tests leave."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from images import evidence
from images.errors import EvidenceError
from images.evidence import Machine
from tests.gpu import recorder as record
from tests.gpu.recorder import Recorder
from tests.image.box import Box
from tests.image.subject import Subject

SUITE = Path(__file__).parent
_CONTROL_DEVICE = Path("/dev/nvidiactl")
_KEY = pytest.StashKey[Recorder]()


# -- evidence --------------------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    path, target = config.getoption("--evidence"), config.getoption("--target")
    if path is None and target is not None and config.getoption("--gpu"):
        path = evidence.path_of(config.getoption("--matrix").absolute(), target)
    config.stash[_KEY] = Recorder(path, SUITE)


def _id(nodeid: str) -> str | None:
    """A test of this directory by its file and name; None for any other."""
    file, _, name = nodeid.partition("::")
    path = Path(file)
    return f"{path.name}::{name}" if path.parts[-3:-1] == ("tests", "gpu") else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    found = item.config.stash[_KEY]
    if name := _id(item.nodeid):
        found.add_report(name, report)
        if call.when == "teardown":
            # At once: a run that is killed keeps what it found.
            found.write()
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if config.getoption("--gpu") or config.getoption("--evidence"):
        terminalreporter.write_line(f"evidence: {config.stash[_KEY].summary()}")


# -- fixtures --------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def recorder(pytestconfig: pytest.Config) -> Recorder:
    """Takes what the tests find besides passing or failing."""
    return pytestconfig.stash[_KEY]


def _need_gpu(config: pytest.Config) -> None:
    if not _CONTROL_DEVICE.exists():
        why = f"no NVIDIA GPU here: {_CONTROL_DEVICE} is missing"
        # One word for all of them: 25 tests would fail for this one reason.
        pytest.exit(why, returncode=1) if config.getoption("--gpu") else pytest.skip(why)


@pytest.fixture(scope="session")
def gpu(
    pytestconfig: pytest.Config, request: pytest.FixtureRequest, recorder: Recorder
) -> Iterator[Box]:
    """The image with the GPUs that are ours, as root; HOME is what a container engine sets."""
    _need_gpu(pytestconfig)
    # Behind the question above: unpacking an image takes minutes.
    subject: Subject = request.getfixturevalue("subject")
    new_box: Box = request.getfixturevalue("new_box")
    with new_box.started(gpus=True, env={"HOME": "/root", **_ours()}) as started:
        driver = started.ask(
            "import json; from roll_runtime import gpu; print(json.dumps(gpu.ask()))"
        )
        if "error" in driver or not driver["devices"]:
            pytest.fail(f"the image sees no GPU: {driver.get('error', 'none visible')}")
        machine = record.machine_of(driver, os.uname().release)
        try:
            recorder.begin(subject, machine, _how(pytestconfig, started))
        except EvidenceError as error:
            pytest.fail(f"{error.message}; {error.remedy}", pytrace=False)
        yield started


def _ours() -> dict[str, str]:
    """How a batch system, or a person with several GPUs, says which of them are to be used."""
    name = "CUDA_VISIBLE_DEVICES"
    return {name: os.environ[name]} if name in os.environ else {}


def _how(config: pytest.Config, box: Box) -> str:
    if config.getoption("--rootfs"):
        return "rootfs, unpacked before"
    return box.kind


@pytest.fixture(scope="session")
def machine(gpu: Box, recorder: Recorder) -> Machine:
    """What the image sees of this machine."""
    return recorder.machine
