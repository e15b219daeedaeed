"""The cost of roll_runtime.pth at each start of an interpreter.

Installs the wheel into a fresh virtual environment beside an empty one and starts both in turn::

    python benchmarks/hook_start.py [--starts 60]

Prints the median start of each and the median of the paired differences, in milliseconds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "roll_runtime"


def environment(folder: Path, wheel: Path | None) -> Path:
    """Make a virtual environment, with the wheel or without, and return its interpreter."""
    subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
    python = folder / "bin" / "python"
    if wheel is not None:
        command = ["uv", "pip", "install", "--quiet", "--no-index", "--no-deps", "--python"]
        subprocess.run([*command, str(python), "--compile-bytecode", str(wheel)], check=True)
    return python


def start(python: Path, env: dict[str, str]) -> float:
    """Start an interpreter that does nothing and return the milliseconds it took."""
    before = time.perf_counter()
    subprocess.run([str(python), "-c", "pass"], check=True, env=env)
    return (time.perf_counter() - before) * 1000


def measure(starts: int) -> dict[str, float]:
    """Return the medians in milliseconds: bare, hooked, switched off, and the paired costs."""
    with tempfile.TemporaryDirectory(prefix="hook-start-") as name:
        folder = Path(name)
        command = ["uv", "build", "--quiet", "--wheel", "--out-dir", str(folder / "dist")]
        subprocess.run([*command, str(PACKAGE)], check=True)
        (wheel,) = (folder / "dist").glob("*.whl")
        hooked = environment(folder / "hooked", wheel)
        bare = environment(folder / "bare", None)
        env = {key: value for key, value in os.environ.items() if not key.startswith("ROLL_")}
        off = {**env, "ROLL_RUNTIME_AUTOLOAD": "0"}
        runs = {"bare": (bare, env), "hooked": (hooked, env), "off": (hooked, off)}
        for python, variables in runs.values():
            start(python, variables)
        times: dict[str, list[float]] = {key: [] for key in runs}
        for _ in range(starts):
            for key, (python, variables) in runs.items():
                times[key].append(start(python, variables))
    result = {key: statistics.median(values) for key, values in times.items()}
    for key in ("hooked", "off"):
        pairs = zip(times[key], times["bare"], strict=True)
        result[f"{key}_cost"] = statistics.median(one - other for one, other in pairs)
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--starts", type=int, default=60)
    result = measure(parser.parse_args().starts)
    for key in ("bare", "hooked", "off"):
        cost = f"  (+{result[key + '_cost']:.2f} ms)" if key != "bare" else ""
        print(f"{key:7} {result[key]:7.2f} ms{cost}")


if __name__ == "__main__":
    main()
