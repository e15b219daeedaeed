"""ROLL's own code in the image, from a checkout of the user's; on a GPU with evidence of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from images.commands.test import roll_checkout
from images.commands.test.roll_checkout import RollCheckout
from images.errors import BuildError, EvidenceError
from tests.gpu import machines
from tests.gpu import recorder as record
from tests.gpu.recorder import Recorder
from tests.image import driver
from tests.image.box import Box
from tests.image.subject import Subject
from tests.roll import session
from tests.roll.session import Session

SUITE = Path(__file__).parent
_KEY = pytest.StashKey[Recorder]()
_CORES = 8

# Ray's address, and which of ROLL's needs this box lacks. Ray's workers listen from 10002 on.
_SURROUNDINGS = """
import json, os, socket
def free(port):
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) != 0
def route():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.connect(("8.8.8.8", 80))
        except OSError:
            return False
        return True
print(json.dumps({
    "port": next(port for port in range(6379, 6479) if free(port)),
    "dashboard": next(port for port in range(8265, 8365) if free(port)),
    "route": route(), "cores": os.cpu_count(),
}))
"""


# -- evidence --------------------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_KEY] = Recorder(record.path_of(config), SUITE.parent / "gpu", SUITE)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    record.note(item.config.stash[_KEY], "tests/roll", item.nodeid, call.when, report)
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if config.getoption("--roll") and config.getoption("--gpu"):
        terminalreporter.write_line(f"evidence: {config.stash[_KEY].summary()}")


# -- fixtures --------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def checkout(pytestconfig: pytest.Config) -> RollCheckout:
    """ROLL's source."""
    given: Path | None = pytestconfig.getoption("--roll")
    if given is None:
        pytest.skip(
            "no checkout of ROLL given; run: python build.py test --target ID-roll --roll CHECKOUT"
        )
    try:
        return roll_checkout.read(given)
    except BuildError as error:
        pytest.fail(f"{error.message}; fix: {error.remedy}", pytrace=False)


@pytest.fixture(scope="session")
def roll(
    pytestconfig: pytest.Config, request: pytest.FixtureRequest, checkout: RollCheckout
) -> Iterator[Box]:
    """The image with ROLL's source in it: with GPUs, or with a stand-in for their driver."""
    gpu: bool = pytestconfig.getoption("--gpu")
    if gpu:
        machines.need_gpu(pytestconfig)
    # Behind the questions above: unpacking an image takes minutes.
    subject: Subject = request.getfixturevalue("subject")
    new_box: Box = request.getfixturevalue("new_box")
    env = {"HOME": "/root", **machines.NO_MULTICAST, **(machines.ours() if gpu else driver.ENV)}
    with new_box.started(gpus=gpu, env=env) as started:
        if started.attempt("python -c 'import ray'").rc:
            pytest.fail(
                f"{subject.target.id} has no Ray, so ROLL cannot run in it; fix: name a target "
                "whose id ends in -roll",
                pytrace=False,
            )
        if gpu:
            _begin(pytestconfig, subject, started, checkout)
        else:
            driver.install(started)
        session.install(started, checkout)
        yield started
        if logs := pytestconfig.getoption("--roll-logs"):
            session.keep_logs(started, logs)


def _begin(config: pytest.Config, subject: Subject, box: Box, checkout: RollCheckout) -> None:
    try:
        config.stash[_KEY].begin(subject, machines.see(box), machines.how(config, box), checkout)
    except EvidenceError as error:
        pytest.fail(f"{error.message}; fix: {error.remedy}", pytrace=False)


@pytest.fixture(scope="session")
def gpus(pytestconfig: pytest.Config, roll: Box) -> int:
    """How many the image sees; a rehearsal on the CPU has as many as a session asks for."""
    if not pytestconfig.getoption("--gpu"):
        return sys.maxsize
    return len(pytestconfig.stash[_KEY].machine.gpus)


@pytest.fixture(scope="session")
def settings(pytestconfig: pytest.Config, roll: Box) -> dict[str, str]:
    """The environment of all sessions."""
    found = roll.ask(_SURROUNDINGS)
    place = session.PLACE
    env = {
        "PYTHONPATH": f"{place}/inside:{place}/roll",
        "PYTHONUNBUFFERED": "1",
        "ROLL_TEST_OUT": f"{place}/out",
        "ROLL_TEST_CHECKOUT": f"{place}/roll",
        "MASTER_PORT": str(found["port"]),
        "DASHBOARD_PORT": str(found["dashboard"]),
        "RAY_USAGE_STATS_ENABLED": "0",
        "ROLL_TEST_MULTICAST_OFF": json.dumps(machines.NO_MULTICAST),
        # Or setproctitle writes SGLang's titles over /proc/PID/environ, which is read.
        "SPT_NOENV": "1",
    }
    if not pytestconfig.getoption("--gpu"):
        env["ROLL_TEST_CPU"] = "1"
    if not found["route"]:
        env["ROLL_TEST_NO_ROUTE"] = "1"
    if found["cores"] < _CORES:
        # ROLL gives a job's workers half of the cores, and waits for ever for one core more.
        env["RAY_OVERRIDE_RESOURCES"] = json.dumps({"CPU": _CORES})
    print(env)
    return env


@pytest.fixture(scope="session")
def start(roll: Box, settings: dict[str, str]) -> Iterator[Callable[[str], Session]]:
    """Starts a session once, when the one before has ended."""
    started: dict[str, Session] = {}

    def begin(name: str) -> Session:
        if name not in started:
            for other in started.values():
                other.wait()
            started[name] = Session(roll, name, settings)
        return started[name]

    yield begin
    for one in started.values():
        one.wait()


@pytest.fixture
def passes(request: pytest.FixtureRequest, start: Callable[[str], Session]) -> Callable[[], None]:
    """Waits for the step that the test is named after; it must pass, or be skipped aloud."""

    def check() -> None:
        running = start(request.module.SESSION)
        name = request.node.name.removeprefix("test_")
        found = running.wait(name)
        if found is None:
            pytest.fail(f"the session ended before it\n{running.tracebacks()}", pytrace=False)
        print(f"{found.outcome} after {found.seconds} s: {found.what}")
        if found.outcome == "skipped":
            pytest.skip(found.what)
        if found.outcome == "not reached":
            pytest.fail(f"not tried: {found.what}", pytrace=False)
        if found.outcome != "passed":
            pytest.fail(f"{found.what}\n{running.tracebacks()}", pytrace=False)

    return check
