"""A build on a real Ray cluster of two nodes, with a real registry between them.

It needs Ray (`pip install '.[ray]'`), which CI does without. The nodes are one machine's, each with
a download cache and a store of its own.
"""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import ROOT, TARGET, Cli, SmallImage, other_cache
from tests.integration.registries import HTPASSWD, need, registry

pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")

OTHER_VERSION = """
import runpy, sys, ray
ray.__version__ = "9.9.9"
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A head without processors, and two nodes with one each."""
    from ray.cluster_utils import Cluster

    need("mmdebstrap")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_health_check_period_ms", "500")
        patch.setenv("RAY_health_check_failure_threshold", "3")
        head = {"num_cpus": 0, "include_dashboard": False}
        found = Cluster(initialize_head=True, head_node_args=head)
        for number in range(2):
            place = tmp_path_factory.mktemp(f"node{number}")
            found.add_node(
                num_cpus=1,
                memory=2 << 30,
                object_store_memory=80 << 20,
                env_vars={"ROLL_IMAGES_CACHE": str(other_cache(place))},
            )
        found.wait_for_nodes()
        yield found
        found.shutdown()


@pytest.fixture
def driver(tmp_path: Path) -> Cli:
    """A driver with nothing in its store."""
    return Cli(tmp_path / "store", other_cache(tmp_path))


def arguments(address: str, server: str) -> list[str]:
    cache = ["--cache-to", f"{server}/roll/cache", "--plain-http"]
    return ["build", "--target", TARGET, "--json", "--ray", address, *cache]


class Running:
    """A build that is running, and its messages so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        assert process.stderr
        self._reader = threading.Thread(target=self.lines.extend, args=(process.stderr,))
        self._reader.start()

    @property
    def messages(self) -> str:
        return "".join(self.lines)

    def wait_until(self, true: Callable[[], bool]) -> None:
        while not true():
            assert self.process.poll() is None, self.messages
            time.sleep(0.05)

    def end(self) -> str:
        """Wait for the end; return standard output."""
        assert self.process.stdout
        output = self.process.stdout.read()
        self.process.wait()
        self._reader.join()
        return output


@contextmanager
def running(command: list[str]) -> Iterator[Running]:
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield Running(process)
        finally:
            process.kill()


def bootstrapping() -> bool:
    """Whether a process of a worker puts a root file system together."""
    done = subprocess.run(["pgrep", "-f", "mmdebstrap --mode"], capture_output=True, check=False)
    return done.returncode == 0


def test_node_that_cannot_log_in_to_the_cache_is_named(
    cluster: Any, driver: Cli, tmp_path: Path
) -> None:
    users = tmp_path / "users"
    users.write_text(HTPASSWD)
    with registry(tmp_path, auth={"htpasswd": {"realm": "r", "path": str(users)}}) as server:
        login = {"auths": {server: {"auth": "dXNlcjpzM2NyM3QtcGFzcw=="}}}
        (tmp_path / "config.json").write_text(json.dumps(login))
        environment = {"DOCKER_CONFIG": str(tmp_path)}
        done = driver.run(*arguments(cluster.address, server), env=environment)
    assert done.returncode == 8, done.stderr
    assert "error: node " in done.stderr
    assert server in done.stderr
    assert "docker login" in done.stderr
    assert "roll_images" in done.stderr


def test_ctrl_c_cancels_the_tasks(cluster: Any, driver: Cli, server: str) -> None:
    with running(driver.command(*arguments(cluster.address, server))) as build:
        build.wait_until(bootstrapping)
        build.process.send_signal(signal.SIGINT)
        build.end()
    assert build.process.returncode == 130, build.messages
    assert "interrupted: finished work is kept" in build.messages
    assert "Traceback" not in build.messages
    deadline = time.monotonic() + 30
    while bootstrapping() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not bootstrapping()


def test_digest_is_that_of_one_machine_though_a_node_is_lost(
    cluster: Any, driver: Cli, server: str, small: SmallImage
) -> None:
    command = arguments(cluster.address, server)
    with running(driver.command(*command)) as build:
        build.wait_until(lambda: "  made " in build.messages)
        cluster.remove_node(cluster.list_all_nodes()[1], allow_graceful=False)
        output = build.end()
    assert build.process.returncode == 0, build.messages
    document = json.loads(output)
    assert document["manifest_digest"] == small.document["manifest_digest"]
    assert "lost the node" in build.messages
    assert "it is made here" not in build.messages
    made_here = [layer["title"] for layer in document["layers"] if not layer["reused"]]
    assert len(made_here) == 1, "roll_runtime alone"
    assert "layers made on" in build.messages
    again = driver.run(*command)
    assert json.loads(again.stdout)["manifest_digest"] == document["manifest_digest"]
    assert "cluster" not in again.stderr, "nothing is left for it"
    assert driver.run("pull", "--target", TARGET).returncode == 0
    assert driver.verified()


def test_other_version_is_named(cluster: Any, driver: Cli, server: str) -> None:
    program, script, *rest = driver.command(*arguments(cluster.address, server))
    command = [program, "-c", OTHER_VERSION, script, *rest]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 8, done.stderr
    assert "Version mismatch" in done.stderr
    assert "9.9.9" in done.stderr
    assert "pip install" in done.stderr


@pytest.mark.parametrize(
    ("address", "code", "message"),
    [
        ("127.0.0.1:1", 8, "no Ray cluster at 127.0.0.1:1: Connection refused"),
        ("ray://127.0.0.1:1", 8, "no Ray cluster at ray://127.0.0.1:1"),
        ("127.0.0.1", 2, "--ray 127.0.0.1: not the address of a cluster"),
    ],
)
def test_address_of_no_cluster_is_reported(
    address: str, code: int, message: str, driver: Cli, server: str
) -> None:
    done = driver.run(*arguments(address, server))
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_cluster_without_processors_is_reported(driver: Cli, server: str) -> None:
    from ray.cluster_utils import Cluster

    head = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        done = driver.run(*arguments(head.address, server))
    finally:
        head.shutdown()
    assert done.returncode == 8, done.stderr
    assert "no node with a processor" in done.stderr
