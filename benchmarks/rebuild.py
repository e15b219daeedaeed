"""How long builds of one target take, beside BuildKit on the same base and lock.

    python benchmarks/rebuild.py --target torch280-sglang052 [--docker-host unix:///…/docker.sock]

Measured, as whole processes, in turn with BuildKit's where a daemon is given: a build that changes
nothing, one after a change of roll_runtime, one after the bump of one small pin. Sources are
copied to a temporary directory first; the store and the download cache are the real ones, so the
target must have been built into them. Figures are medians, with the lowest and highest.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from images import fetch, lock, matrix, plan, uv  # noqa: E402
from images.store import open_store  # noqa: E402

BUMPS = ("sniffio==1.3.0", "sniffio==1.2.0", "sniffio==1.1.0")
"""A small pure-Python distribution that every target has, at releases that it is not locked to."""


class Checkout:
    """A copy of the sources that may be changed."""

    def __init__(self, place: Path, options: argparse.Namespace) -> None:
        self.path = place / "checkout"
        ignore = shutil.ignore_patterns(".git", ".venv", "store", "__pycache__", ".*_cache")
        shutil.copytree(ROOT, self.path, ignore=ignore)
        self._options = options
        self._matrix = (self.path / "matrix.yaml").read_text()

    def build(self) -> None:
        """Build the target as its users do."""
        options = self._options
        command = [sys.executable, "build.py", "--target", options.target]
        command += ["--store", str(options.store), "--cache", str(options.cache)]
        subprocess.run(command, cwd=self.path, check=True, capture_output=True)

    def touch_runtime(self) -> None:
        """Change one line of roll_runtime."""
        module = self.path / "roll_runtime" / "src" / "roll_runtime" / "__init__.py"
        module.write_text(f"{module.read_text()}\n# {time.time_ns()}\n")

    def bump(self, pin: str) -> None:
        """Move the small pin; the lock is made anew, which is not timed."""
        row = f"  - id: {self._options.target}\n"
        head, _, tail = self._matrix.partition(row)
        override = f"    overrides:\n      - pin: {pin}\n        why: benchmark\n"
        (self.path / "matrix.yaml").write_text(head + row + override + tail)
        command = [sys.executable, "build.py", "lock", "--target", self._options.target]
        subprocess.run(command, cwd=self.path, check=True, capture_output=True)
        # The bumped wheel is in the download cache, as BuildKit's is in its cache mount.
        target = matrix.load(self.path / "matrix.yaml").target(self._options.target)
        found = lock.read(matrix.load(self.path / "matrix.yaml"), target).distributions
        wanted = {item.pin: item.artifact for item in found if item.pin == pin}
        with fetch.Downloads(self._options.cache, jobs=1, advance=lambda _: None) as downloads:
            for artifact, url in uv.locate(wanted).items():
                downloads.start(artifact, url).result()


class BuildKit:
    """The same target by `docker build` with BuildKit."""

    def __init__(self, place: Path, checkout: Checkout, options: argparse.Namespace) -> None:
        self._context = place / "context"
        self._context.mkdir()
        self._checkout = checkout
        self._target = options.target
        self._env = {**os.environ, "DOCKER_HOST": options.docker_host, "DOCKER_BUILDKIT": "1"}
        self._docker = options.docker
        shutil.copy(ROOT / "benchmarks" / "buildkit" / "Dockerfile", self._context)
        shutil.copy(uv.find(), self._context / "uv")
        self._import_base(open_store(options.store), options.target)

    def _import_base(self, store: object, target: str) -> None:
        from images.store import Store

        if not isinstance(store, Store):
            raise TypeError("a store was opened")
        base = store.load(target).layers[0].blob
        blob = store.blob_path(base.digest)
        with subprocess.Popen(["zstd", "-dc", str(blob)], stdout=subprocess.PIPE) as tar:
            subprocess.run(
                [self._docker, "import", "-", "bench-base"],
                stdin=tar.stdout,
                env=self._env,
                check=True,
                capture_output=True,
            )

    def prepare(self) -> None:
        """Lay out what the Dockerfile copies; not timed for the lock, as ours is not."""
        path = self._checkout.path
        target = matrix.load(path / "matrix.yaml").target(self._target)
        found = lock.read(matrix.load(path / "matrix.yaml"), target).distributions
        stack = [item for item in found if plan.is_torch_stack(item)]
        rest = [item for item in found if not plan.is_torch_stack(item)]
        for name, items in (("torch.txt", stack), ("rest.txt", rest)):
            text = "".join(f"{lock.line_of(item)}\n" for item in items)
            (self._context / name).write_text(text)

    def build(self) -> None:
        """Build as its users do: the runtime's wheel, then the image."""
        with TemporaryDirectory() as work:
            subprocess.run(
                [uv.find(), "build", "--wheel", "-q", "--out-dir", work, "roll_runtime"],
                cwd=self._checkout.path,
                env={**os.environ, "SOURCE_DATE_EPOCH": "315532800"},
                check=True,
                capture_output=True,
            )
            (wheel,) = Path(work).glob("*.whl")
            copy = self._context / "roll_runtime.whl"
            if not copy.exists() or copy.read_bytes() != wheel.read_bytes():
                shutil.copyfile(wheel, copy)
        command = [self._docker, "build", "--network", "host", "-q", "-t", "bench", "."]
        if bundle := os.environ.get("SSL_CERT_FILE"):
            command[2:2] = ["--secret", f"id=ca,src={bundle}"]
        subprocess.run(command, cwd=self._context, env=self._env, check=True, capture_output=True)


def seconds(run: Callable[[], None]) -> float:
    """Wall time of a call."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


@contextmanager
def workplace() -> Iterator[Path]:
    """A temporary directory."""
    with TemporaryDirectory(prefix="roll-bench-") as place:
        yield Path(place)


def measure(options: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """All figures, in seconds, by what was changed and by whom it was built."""
    figures: dict[str, dict[str, list[float]]] = {}
    with workplace() as place:
        checkout = Checkout(place, options)
        builders: dict[str, Callable[[], None]] = {"ours": checkout.build}
        rival = None
        if options.docker_host:
            rival = BuildKit(place, checkout, options)
            builders["buildkit"] = rival.build

        def rounds(what: str, count: int, change: Callable[[int], None]) -> None:
            times: dict[str, list[float]] = {name: [] for name in builders}
            for number in range(count):
                change(number)
                if rival:
                    rival.prepare()
                for name, run in builders.items():
                    times[name].append(seconds(run))
                    print(f"{what}: {name} {times[name][-1]:.2f} s", file=sys.stderr)
            figures[what] = times

        rounds("warm-up", 1, lambda _: None)
        rounds("no change", options.runs, lambda _: None)
        rounds("roll_runtime changed", options.runs, lambda _: checkout.touch_runtime())
        rounds("one small pin bumped", len(BUMPS), lambda number: checkout.bump(BUMPS[number]))
    del figures["warm-up"]
    return figures


def show(figures: dict[str, dict[str, list[float]]]) -> None:
    """Print a Markdown table of medians, lowest and highest, and the ratio of medians."""
    print("| what changed | ours, s | BuildKit, s | ours / BuildKit |\n|---|---|---|---|")
    for what, times in figures.items():
        cells = [_spread(times[name]) if name in times else "-" for name in ("ours", "buildkit")]
        ratio = "-"
        if "buildkit" in times:
            value = statistics.median(times["ours"]) / statistics.median(times["buildkit"])
            ratio = f"{value:.3f}"
        print(f"| {what} | {cells[0]} | {cells[1]} | {ratio} |")


def _spread(times: Sequence[float]) -> str:
    return f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--target", default="torch280-sglang052")
    parser.add_argument("--store", type=Path, default=ROOT / "store")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "roll-images")
    parser.add_argument("--docker", default="docker", help="the client's program")
    parser.add_argument("--docker-host", help="compare with BuildKit of this daemon")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(options)
    if options.json:
        print(json.dumps(figures, indent=1))
    else:
        show(figures)


if __name__ == "__main__":
    main()
