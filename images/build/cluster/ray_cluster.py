"""The connection to a Ray cluster. The only module that imports Ray.

Ray schedules, and begins tasks of a lost node elsewhere. What it gives up is returned as a failure,
and the driver makes that layer.
"""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from images.build.cluster import node_check, worker
from images.build.cluster.tasks import Job, Made, Task, fitting
from images.errors import BuildError, ToolError, UsageError

RESOURCE = "roll_images"
"""Custom resource of the nodes that make layers; where no node has it, all with processors do."""

_ADDRESSES = "HOST:6379 on a machine of the cluster, ray://HOST:10001 elsewhere"
_CONNECT = 5.0  # seconds
_RETRIES = 3  # of a task whose worker or node was lost
_LOOK = 5.0  # seconds between two looks at the nodes
_CHECK = 120.0  # seconds in which all nodes must have answered
_ENDING = 20.0  # seconds for tasks that are cancelled
_SLIVER = 0.001  # of the custom resource: processors decide how many tasks a node gets

Done = Callable[[Task, "Made | str"], None]
"""Takes what became of a task: what the worker reports, or why there is no layer."""


def _ray() -> Any:
    try:
        import ray
        import ray.exceptions
        import ray.util.scheduling_strategies
    except ModuleNotFoundError as error:
        raise ToolError(
            f"--ray needs the package ray: {error}",
            remedy="pip install 'ray[client]==VERSION', with the cluster's version: ray --version",
        ) from None
    return ray


@contextmanager
def connected(address: str, checkout: Path) -> Iterator[Cluster]:
    """Connect to a cluster; workers run the code of a checkout.

    Raises:
        UsageError: it is no address.
        ToolError: Ray is not installed, the cluster is unreachable, or has another version.
    """
    ray = _ray()
    _check_answers(address)
    # Ray reports lost nodes on standard output, where scripts expect one JSON document.
    with redirect_stdout(sys.stderr):
        yield from _joined(ray, address, checkout)


def _joined(ray: Any, address: str, checkout: Path) -> Iterator[Cluster]:
    try:
        ray.init(
            address=address,
            runtime_env={"working_dir": str(checkout)},
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ImportError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        ray.shutdown()
        raise ToolError(
            f"cannot join the Ray cluster at {address}: {' '.join(str(error).split())}",
            remedy=f"{_ADDRESSES}; Python and Ray in the versions of the cluster: "
            "pip install 'ray[client]==VERSION'",
        ) from error
    try:
        yield Cluster(ray)
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Check that something listens: where nothing does, Ray ends the process after a minute."""
    if address == "auto":
        return
    try:
        url = urlsplit(address if "://" in address else f"//{address}")
        host, port = url.hostname, url.port
    except ValueError:
        host, port = None, None
    if not host or not port or url.scheme not in ("", "ray"):
        raise UsageError(f"--ray {address}: not the address of a cluster", remedy=_ADDRESSES)
    try:
        socket.create_connection((host, port), _CONNECT).close()
    except OSError as error:
        raise ToolError(
            f"no Ray cluster at {address}: {error.strerror or error}",
            remedy=f"{_ADDRESSES}; start one: ray start --head",
        ) from error


class Cluster:
    """A cluster that is connected."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray

    def nodes(self) -> list[Mapping[str, Any]]:
        """Return the nodes that are alive and make layers, as Ray describes them."""
        alive = [node for node in self._ray.nodes() if node["Alive"]]
        marked = [node for node in alive if node["Resources"].get(RESOURCE)]
        return [node for node in marked or alive if node["Resources"].get("CPU", 0) >= 1]

    def check(self, requirements: Sequence[str], job: Job) -> None:
        """Check that every node can make layers.

        Raises:
            ToolError: one cannot, does not answer, or there is none.
        """
        nodes = self.nodes()
        if not nodes:
            raise ToolError(
                "the Ray cluster has no node with a processor",
                remedy="start one: ray start --address HOST:6379",
            )
        pending = {self._checked(node, requirements, job): node for node in nodes}
        done, late = self._ray.wait([*pending], num_returns=len(pending), timeout=_CHECK)
        for ref in late:
            self._ray.cancel(ref)
        faults = [_about(pending[ref], self._fault(ref)) for ref in done]
        faults += [_about(pending[ref], (f"no answer in {_CHECK:.0f} s", "")) for ref in late]
        if found := list(dict.fromkeys(line for line in faults if line)):
            raise ToolError(
                "\n".join(found),
                remedy=f"repair these nodes, or choose others with the custom resource "
                f"{RESOURCE}: ray start --resources '{{\"{RESOURCE}\": 1}}'",
            )

    def _checked(self, node: Mapping[str, Any], requirements: Sequence[str], job: Job) -> Any:
        affinity = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        remote = self._ray.remote(node_check.fault)
        return remote.options(
            num_cpus=0, max_retries=0, scheduling_strategy=affinity(node["NodeID"], soft=False)
        ).remote(list(requirements), job)

    def _fault(self, ref: Any) -> tuple[str, str] | None:
        try:
            found: tuple[str, str] | None = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            return _first_line(error), ""
        return found

    def run(self, tasks: Sequence[Task], job: Job, done: Done, log: Callable[[str], None]) -> None:
        """Run tasks to the end; those that are running when this is interrupted are cancelled.

        Args:
            tasks: in the order in which they are begun.
            job: what they have in common.
            done: called for each.
            log: takes a line for the user.
        """
        pending = self._submitted(tasks, job)
        nodes = {node["NodeID"]: node for node in self.nodes()}
        try:
            while pending:
                finished, _ = self._ray.wait([*pending], num_returns=1, timeout=_LOOK)
                for ref in finished:
                    done(pending.pop(ref), self._outcome(ref))
                alive = {node["NodeID"]: node for node in self.nodes()}
                for lost in nodes.keys() - alive.keys():
                    log(f"  lost the node {_name(nodes[lost])}: its layers are made again")
                nodes = alive
                self._give_up(pending, done)
        finally:
            self._cancel(pending)

    def _submitted(self, tasks: Sequence[Task], job: Job) -> dict[Any, Task]:
        nodes = self.nodes()
        marked = any(node["Resources"].get(RESOURCE) for node in nodes)
        sizes = [_size(node) for node in nodes]
        remote = self._ray.remote(worker.make)
        found = {}
        for task in (fitting(one, sizes) for one in tasks):
            ref = remote.options(
                name=task.title,
                num_cpus=task.cpus,
                memory=task.memory,
                resources={RESOURCE: _SLIVER} if marked else {},
                max_retries=_RETRIES,
            ).remote(task, job)
            found[ref] = task
        return found

    def _outcome(self, ref: Any) -> Made | str:
        try:
            made: Made = self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause
            return cause.message if isinstance(cause, BuildError) else _last_line(error)
        except self._ray.exceptions.RayError as error:
            return _first_line(error)
        return made

    def _give_up(self, pending: dict[Any, Task], done: Done) -> None:
        """Give up the tasks that no node is left for: Ray would wait for a new one."""
        sizes = [_size(node) for node in self.nodes()]
        for ref, task in list(pending.items()):
            if not any(task.fits(size) for size in sizes):
                self._ray.cancel(ref)
                done(pending.pop(ref), "no node is left that is large enough")

    def _cancel(self, pending: Mapping[Any, Task]) -> None:
        for ref in pending:
            self._ray.cancel(ref)
        if pending:
            self._ray.wait([*pending], num_returns=len(pending), timeout=_ENDING)


def _size(node: Mapping[str, Any]) -> tuple[float, float]:
    return node["Resources"].get("CPU", 0), node["Resources"].get("memory", 0)


def _name(node: Mapping[str, Any]) -> str:
    return str(node.get("NodeManagerHostname") or node["NodeManagerAddress"])


def _about(node: Mapping[str, Any], fault: tuple[str, str] | None) -> str:
    if fault is None:
        return ""
    cause, fix = fault
    return f"node {_name(node)}: {cause}{f' (fix: {fix})' if fix else ''}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
