"""The processes of an engine and of Ray: which there are, and that none is left."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

import psutil

_ENGINE = "sglang::"
_RAY = ("raylet", "gcs_server", "ray::")
_GRACE = 20.0  # seconds in which processes may end


def schedulers() -> set[int]:
    """The ids of the engine's scheduler processes."""
    return _find(lambda words: f"{_ENGINE}schedul" in words)


def engine() -> set[int]:
    """The ids of all processes of an engine."""
    return _find(lambda words: _ENGINE in words)


def ray() -> set[int]:
    """The ids of Ray's processes, its workers among them."""
    return _find(lambda words: any(name in words for name in _RAY))


def need_no_engine() -> str:
    """An AssertionError if processes of an engine are left, with their titles."""
    return _need_none(engine, "process of the engine")


def need_no_ray() -> str:
    """An AssertionError if processes of Ray are left, with their titles."""
    return _need_none(ray, "process of Ray")


def stop_ray() -> str:
    """End the driver's part, then `ray stop`, as ROLL's users end a cluster; its last line."""
    import ray as driver

    driver.shutdown()
    command = ["ray", "stop", "--grace-period", "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)
    return (done.stdout.strip().splitlines() or [""])[-1]


def _need_none(kind: Callable[[], set[int]], what: str) -> str:
    start = time.monotonic()
    while left := kind():
        if time.monotonic() - start > _GRACE:
            titles = {pid: _title(pid) for pid in left}
            raise AssertionError(f"a {what} is left after {_GRACE:.0f} s: {titles}")
        time.sleep(0.5)
    return f"no {what} is left after {time.monotonic() - start:.1f} s"


def _find(wanted: Callable[[str], bool]) -> set[int]:
    found = set()
    for process in psutil.process_iter(["pid", "cmdline", "status"]):
        words = " ".join(process.info["cmdline"] or [])
        if process.info["status"] != psutil.STATUS_ZOMBIE and wanted(words):
            found.add(process.info["pid"])
    return found


def _title(pid: int) -> str:
    try:
        return " ".join(psutil.Process(pid).cmdline())[:80]
    except psutil.Error:
        return "(ended)"
