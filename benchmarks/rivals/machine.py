"""Description of the machine, for readers of the figures."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

from benchmarks.rivals.rival import quiet


def describe(place: Path) -> dict[str, str]:
    """Return CPU, cores, memory, kernel, disk, and the programs that measure all rivals."""
    processors = Path("/proc/cpuinfo").read_text().splitlines()
    memory = Path("/proc/meminfo").read_text().split()[1]
    models = [line.partition(": ")[2] for line in processors if line.startswith("model name")]
    columns = ["df", "--output=fstype,size", "--block-size=1G", str(place)]
    kind, size = quiet(columns).splitlines()[1].split()
    return {
        "CPU": models[0] if models else platform.machine(),
        "cores": str(os.cpu_count()),
        "memory": f"{int(memory) / 2**20:.0f} GiB",
        "kernel": platform.release(),
        "disk": f"{kind}, {size} GiB",
        "system": platform.freedesktop_os_release()["PRETTY_NAME"],
        "Python": platform.python_version(),
        "uv": quiet(["uv", "--version"]).split()[1],
        "podman": quiet(["podman", "--version"]).split()[2],
        "registry": quiet(["docker-registry", "--version"]).split()[2].strip(),
        "commit": _commit(),
    }


def _commit() -> str:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        ["git", "-C", str(root), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"
