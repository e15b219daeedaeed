"""The image with GPUs, and the evidence that its tests leave."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from images.attest.evidence import Machine
from images.errors import EvidenceError
from tests.gpu import engines, machines
from tests.gpu import recorder as record
from tests.gpu.recorder import Recorder
from tests.image.box import Box
from tests.image.subject import Subject

SUITE = Path(__file__).parent
_KEY = pytest.StashKey[Recorder]()


# -- evidence --------------------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_KEY] = Recorder(record.path_of(config), SUITE)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    record.note(item.config.stash[_KEY], "tests/gpu", item.nodeid, call.when, report)
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


@pytest.fixture(scope="session")
def gpu(
    pytestconfig: pytest.Config, request: pytest.FixtureRequest, recorder: Recorder
) -> Iterator[Box]:
    """The image with the GPUs that are ours, as root; HOME is what a container engine sets."""
    machines.need_gpu(pytestconfig)
    # Behind the question above: unpacking an image takes minutes.
    subject: Subject = request.getfixturevalue("subject")
    new_box: Box = request.getfixturevalue("new_box")
    with new_box.started(gpus=True, env={"HOME": "/root", **machines.ours()}) as started:
        machine = machines.see(started)
        try:
            recorder.begin(subject, machine, machines.how(pytestconfig, started))
        except EvidenceError as error:
            pytest.fail(f"{error.message}; {error.remedy}", pytrace=False)
        yield started


@pytest.fixture(scope="session")
def machine(gpu: Box, recorder: Recorder) -> Machine:
    """What the image sees of this machine."""
    return recorder.machine


@pytest.fixture(scope="session")
def off_main(gpu: Box, subject: Subject, recorder: Recorder) -> dict[str, Any]:
    """What an engine on one GPU did that was started as ROLL's worker starts it."""
    engines.need_engine(subject)
    return engines.start(gpu, recorder, "off the main thread", env=engines.ROLL)
