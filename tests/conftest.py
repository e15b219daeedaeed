"""Options for the tests of an image, and what they share with the GPU tests.

A machine with a GPU may have little else: what a backend needs is imported where it is chosen.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import cast

import pytest

from images.util.progress import Progress
from tests.gpu import turns
from tests.image.box import Box
from tests.image.subject import Subject, read_subject

ROOT = Path(__file__).resolve().parent.parent
REQUIRE = "ROLL_IMAGES_REQUIRE"
_SHARED = ("tests/integration", "tests/roll")
_TURNS = turns.mine()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("image", "the image under test")
    group.addoption("--target", metavar="ID", help="the image's name in the store")
    group.addoption("--store", type=Path, metavar="DIR", help="the OCI layout that holds it")
    group.addoption("--matrix", type=Path, default=ROOT / "matrix.yaml", metavar="FILE")
    group.addoption(
        "--backend",
        choices=("docker", "rootfs"),
        help="a container, or an unpacked root file system; by default a container if there is "
        f"Docker ({REQUIRE}=docker: fail if there is not)",
    )
    group.addoption(
        "--rootfs", type=Path, metavar="DIR", help="the image as it was unpacked before"
    )
    group.addoption("--gpu", action="store_true", help="fail, not skip, where there is no GPU")
    group.addoption(
        "--roll",
        type=Path,
        metavar="CHECKOUT",
        help="run ROLL's own code from there: tests/roll. Write --roll=CHECKOUT, or pytest loads "
        "ROLL's own tests/conftest.py as well",
    )
    group.addoption(
        "--roll-logs", type=Path, metavar="DIR", help="keep what ROLL, Ray and the engine logged"
    )
    group.addoption(
        "--current-docker",
        type=Path,
        metavar="DIR",
        help="`load` into Debian's newest Docker as well, unpacked there once: 350 MB from the "
        "Debian mirror; needs root and mmdebstrap",
    )
    group.addoption(
        "--evidence",
        type=Path,
        metavar="FILE",
        help="keep the outcome of the GPU tests there; with --gpu alone evidence/ID.json beside "
        "the matrix",
    )


def pytest_configure() -> None:
    # A shell that starts a job in the background has it ignore these, and all its children with
    # it: tests that interrupt a process would wait for ever.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `-n auto --dist loadgroup`: what shares a Debian base, a Docker daemon, Ray's ports or a
    module's fixtures stays in one process. Where suites share a GPU: in the order of its turns."""
    if turns.shared():
        turns.order(items)
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        place = item.path.relative_to(ROOT)
        shared = [name for name in _SHARED if place.is_relative_to(name)]
        group = shared[0] if shared else str(place)
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    return (yield from turns.protocol(_TURNS, item, nextitem))


@pytest.hookimpl(trylast=True)  # after its line
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    turns.explain(report)


def pytest_report_header(config: pytest.Config) -> str | None:
    target = config.getoption("--target")
    if target is None:
        return None
    return f"image: {target}, tested {_backend(config)[1]}"


def _backend(config: pytest.Config) -> tuple[str, str]:
    """Which backend, and why."""
    chosen = config.getoption("--backend")
    if config.getoption("--rootfs"):
        return "rootfs", "on a root file system that was unpacked before"
    if chosen == "docker" or (chosen is None and _docker_answers()):
        return "docker", "in containers" + ("" if chosen else " (a Docker daemon answers)")
    if chosen is None and os.environ.get(REQUIRE) == "docker":
        raise pytest.UsageError(f"{REQUIRE}=docker, and no Docker daemon answers")
    why = "" if chosen else " (no Docker daemon answers)"
    return "rootfs", f"on an unpacked root file system{why}"


def _docker_answers() -> bool:
    from images.export.docker import daemon

    return daemon.answers()


@pytest.fixture(scope="session")
def subject(pytestconfig: pytest.Config) -> Subject:
    """The image under test, as the matrix, the lock and the store describe it."""
    target, store = pytestconfig.getoption("--target"), pytestconfig.getoption("--store")
    if target is None or store is None:
        pytest.skip("no image named; run: python build.py test --target ID")
    return read_subject(pytestconfig.getoption("--matrix"), target, store)


@pytest.fixture(scope="session")
def new_box(pytestconfig: pytest.Config, subject: Subject) -> Iterator[Box]:
    """Makes boxes of the image; tests take `box`, or a variant of it."""
    backend, _ = _backend(pytestconfig)
    if backend == "docker":
        from images.export.docker import daemon
        from tests.image.containers import ContainerBox

        name = f"roll-sglang:{subject.target.id}"
        daemon.load(subject.store, subject.image, [name], progress=Progress())
        yield ContainerBox(name)
        return
    if os.geteuid() != 0:
        pytest.fail("tests on an unpacked root file system chroot into it: run them as root")
    from tests.image import unpack
    from tests.image.rootfs import RootfsBox

    if given := cast("Path | None", pytestconfig.getoption("--rootfs")):
        yield RootfsBox(given, subject.image)
        return
    place = Path(tempfile.mkdtemp(prefix="roll-image-test-"))
    try:
        unpack.unpack(subject.store, subject.image, place / "root", Progress())
        yield RootfsBox(place / "root", subject.image)
    finally:
        shutil.rmtree(place)


@pytest.fixture(scope="session")
def box(new_box: Box) -> Iterator[Box]:
    """The image, running as root with a writable root file system."""
    with new_box.started() as running:
        yield running


@pytest.fixture(scope="module")
def with_driver(new_box: Box) -> Iterator[Box]:
    """A box of its own, with the stand-in for the driver's library."""
    from tests.image import driver

    with new_box.started() as started:
        driver.install(started)
        yield started
