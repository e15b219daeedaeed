"""The proof of one image of a kit after another: unpack, test, keep the evidence, remove."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from images.attest import evidence_check
from images.errors import BuildError
from images.export.kit import document, gpu_choice, results, stages
from images.export.kit.document import Kit, KitTarget
from images.export.kit.gpu_choice import Gpus
from images.export.kit.results import Results
from images.export.kit.stages import Clock, Measured
from images.repository import ROOT
from images.util import network_namespace

PROVEN, FAILED, LATER = "proven", "failed", "not reached"
_UNPACK = "unpack"
_INCOMPLETE = 3  # of unpack.py: parts have not arrived
_SHORT = 19  # of a digest
_ROLLS_ADDRESS = "8.8.8.8"
"""ROLL takes the address by which the kernel would reach this one; without any it fails, and
`doctor` says so of an image that has ROLL's requirements."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result for a target.

    Attributes:
        target: the target.
        state: `proven`, `failed` or `not reached`.
        detail: the machine, or the reason.
        seconds: spent on it in this run.
        ends: whether no other target can be proven in this run.
        waits: whether the target was not begun, because its bundle is not complete.
    """

    target: KitTarget
    state: str
    detail: str
    seconds: float = 0.0
    ends: bool = False
    waits: bool = False

    def cells(self) -> tuple[str, ...]:
        """Return its row of the table."""
        digest = self.target.digest[:_SHORT]
        return (self.target.id, digest, self.state, f"{self.seconds:.0f}", self.detail)


class _StoppedError(Exception):
    """A target is not finished in this run.

    Args:
        state: its state.
        detail: the reason.
        ends: whether no other target can be proven either.
        waits: whether its bundle is not complete.
    """

    def __init__(self, state: str, detail: str, *, ends: bool = False, waits: bool = False) -> None:
        self.state, self.detail, self.ends, self.waits = state, detail, ends, waits
        super().__init__(detail)

    def result(self, target: KitTarget, seconds: float) -> Result:
        """Return the target's result."""
        return Result(target, self.state, self.detail, seconds, self.ends, self.waits)


@dataclass(frozen=True)
class Session:
    """A run of a kit.

    Attributes:
        kit: the kit.
        directory: its directory.
        work: the directory of unpacked images.
        evidence: the output directory.
        clock: the time that is left.
        python_path: where the suite finds its modules.
        roll: a checkout of ROLL; None if ROLL's own code does not run.
        remove_parts: whether the parts of bundles are removed after their last use.
        together: how many images are tested at a time; if several, each on one GPU.
    """

    kit: Kit
    directory: Path
    work: Path
    evidence: Path
    clock: Clock
    python_path: str
    roll: Path | None
    remove_parts: bool
    together: int = 1
    _unpacking: threading.Lock = field(default_factory=threading.Lock)
    _measuring: threading.Lock = field(default_factory=threading.Lock)
    _tried: dict[int, frozenset[str]] = field(default_factory=dict)
    _gpus: Gpus = field(default_factory=lambda: Gpus(gpu_choice.visible()))

    def failed_before(self, number: int) -> bool:
        """Return whether an earlier run tested a target's image, and a test failed."""
        target = self.kit.targets[number]
        failed = any(self._results.failed(target, suite) for suite in (results.GPU, results.ROLL))
        return failed and not self._place(target).exists()

    def prove(self, number: int) -> Result:
        """Run what a target's evidence lacks, as far as possible; an error is a result as well."""
        target, begin = self.kit.targets[number], time.monotonic()
        try:
            if self._results.todo(target):
                with self._unpacking:
                    self._unpack(number)
                self._prove_by_all(target)
                self._remove(target)
            return Result(target, *self._verdict(target), time.monotonic() - begin)
        except _StoppedError as stopped:
            return stopped.result(target, time.monotonic() - begin)
        except Exception as error:  # of a thread: nobody would see it before all have ended
            with self._log(target).open("a", encoding="utf-8") as log:
                traceback.print_exc(file=log)
            reason = error.message if isinstance(error, BuildError) else repr(error)
            detail = f"{reason}, see {self._log(target)}"
            return Result(target, FAILED, detail, time.monotonic() - begin)

    # -- results -----------------------------------------------------------------------------------

    @property
    def _results(self) -> Results:
        return Results(self.kit, self.directory, self.evidence, self.roll is not None)

    def _verdict(self, target: KitTarget) -> tuple[str, str]:
        found = self._results.read(target)
        if found is None:
            detail = f"the tests left no evidence, see {self._log(target)}"
            # As without a GPU: where no image has any, those that follow are unpacked in vain.
            none = not any(map(self._results.read, self.kit.targets))
            raise _StoppedError(FAILED, detail, ends=none)
        judged = evidence_check.judge(found, target.id, target.digest, target.since)
        if judged.proven:
            return PROVEN, judged.text
        if not self._results.todo(target) and self.roll is None and found.roll is None:
            return LATER, "the GPU tests passed; ROLL's own code runs with --roll CHECKOUT"
        return FAILED, judged.fault or judged.text

    # -- stages ------------------------------------------------------------------------------------

    @property
    def _layout(self) -> Path:
        return self.work / "layout"

    @property
    def _store(self) -> Path:
        return self.work / "store"

    @property
    def _measured(self) -> Measured:
        return Measured.read(self.work / "seconds.json")

    def _measure(self, stage: str, seconds: float) -> None:
        with self._measuring:
            self._measured.add(stage, seconds)

    def _place(self, target: KitTarget) -> Path:
        return self.work / f"image-{target.id}-{target.digest[7:_SHORT]}"

    def _need_time(self, stage: str) -> None:
        """Refuse a stage that may take longer than is left, as far as one was measured."""
        needed, left = self._measured.seconds.get(stage, 0.0), self.clock.left
        if left is not None and left <= needed:
            detail = f"{stage} may take {needed:.0f} s, and {left:.0f} s are left"
            raise _StoppedError(LATER, detail, ends=True)

    def _unpack(self, number: int) -> None:
        """Unpack an image whose layers have all arrived, and those that its bundle leaves out."""
        target = self.kit.targets[number]
        whole = self._place(target) / "whole"
        if whole.exists():
            return
        if not self._arrived(target):
            raise _StoppedError(LATER, "its bundle has not arrived", waits=True)
        self._need_time(_UNPACK)
        begin = time.monotonic()
        for earlier in range(number):
            try:
                self._fill_layout(earlier)
            except _StoppedError as stopped:
                if stopped.state != FAILED:  # a fault of its own, which is its own result
                    raise
        self._fill_layout(number)
        if not self._in_layout(target).exists():
            detail = f"parts have not arrived, see {self._log(target)}"
            raise _StoppedError(LATER, detail, waits=True)
        self._place(target).mkdir(exist_ok=True)
        if self._run_unpack(target, "--rootfs", str(self._place(target) / "root")):
            raise _StoppedError(FAILED, f"layers are missing, see {self._log(target)}")
        # The layout may name another manifest, of layers that were rebuilt from files.
        self._run_unpack(target, "--layout", str(self._store), "--no-layers")
        whole.touch()
        self._measure(_UNPACK, time.monotonic() - begin)

    def _in_layout(self, target: KitTarget) -> Path:
        return self.work / f"layers-of-{target.digest[7:]}"

    def _fill_layout(self, number: int) -> None:
        """Have the layers of an image, as far as they have arrived: tried once for what is there.

        A machine on which the images before were proven has them; a bare one does not.
        """
        target = self.kit.targets[number]
        if self._in_layout(target).exists() or not self._arrived(target):
            return
        below = [one.id for one in self.kit.targets[:number] if self._in_layout(one).exists()]
        there = frozenset([*below, *(path.name for path in self._bundle(target).iterdir())])
        if self._tried.get(number) == there:
            return
        self._tried[number] = there
        if self._run_unpack(target) == 0:
            self._in_layout(target).touch()

    def _arrived(self, target: KitTarget) -> bool:
        return (self._bundle(target) / "bundle.json").is_file()

    def _bundle(self, target: KitTarget) -> Path:
        return self.directory / document.BUNDLES / target.id

    def _run_unpack(self, target: KitTarget, *options: str) -> int:
        """Unpack what has arrived of an image, its layers to the layout; return the exit code.

        Raises:
            _StoppedError: the time ended, or a file is damaged.
        """
        command = ["images.unbundle.cli", "--bundle", str(self._bundle(target))]
        command += ["--digest", target.digest, *options]
        if "--no-layers" not in options:
            command += ["--layout", str(self._layout)]
            command += ["--remove-parts"] if self.remove_parts else []
        code = self._run(_UNPACK, target, command)
        if code not in (0, _INCOMPLETE):
            raise _StoppedError(FAILED, f"unpacking: exit code {code}, see {self._log(target)}")
        return code

    def _prove_by_all(self, target: KitTarget) -> None:
        """Run what the evidence lacks of each suite, until one fails.

        What is lacking is asked again: the first result of another machine than that of the
        evidence so far replaces it, with that of the other suite.
        """
        done: list[str] = []
        while left := [suite for suite in self._results.todo(target) if suite not in done]:
            done.append(left[0])
            self._prove_by(left[0], target)
            if self._results.failed(target, left[0]):
                return

    def _prove_by(self, suite: str, target: KitTarget) -> None:
        """Run what the evidence lacks of a suite: modules, not single tests, share engines."""
        lacking = self._results.modules(target, suite)
        if not lacking:
            return
        self._test(suite, target, lacking)
        rest = self._results.modules(target, suite)
        # The results of another machine do not count for this one, which has begun its own now.
        if rest and rest != lacking and not self._results.failed(target, suite):
            self._test(suite, target, rest)

    def _test(self, suite: str, target: KitTarget, modules: Sequence[str]) -> None:
        self._need_time(suite)
        command = ["pytest", *modules, "--target", target.id, "--store", str(self._store)]
        command += ["--matrix", str(ROOT / self.kit.matrix), "--backend", "rootfs"]
        command += ["--rootfs", str(self._place(target) / "root"), "--gpu"]
        command += ["--evidence", str(self._results.path(target)), "-p", "no:cacheprovider"]
        command += [f"--basetemp={self.work / f'pytest-{target.id}'}", "-v", "-rfEs", "--tb=short"]
        command += [f"--roll={self.roll}"] if suite == results.ROLL else []
        with self._place_on_gpu(suite) as variables:
            begin = time.monotonic()
            self._run(suite, target, command, variables)  # what failed is in the evidence
        self._measure(suite, time.monotonic() - begin)

    @contextmanager
    def _place_on_gpu(self, suite: str) -> Iterator[dict[str, str]]:
        """Give the variables of a suite: which GPU it has, and where its turns there are kept."""
        if self.together == 1:
            yield {}
            return
        with self._gpus.one(first=suite == results.ROLL) as gpu:
            turns = self.work / f"turns-on-gpu-{gpu.replace('/', '-')}"  # a MIG device has them
            turns.mkdir(exist_ok=True)
            yield {document.TURNS: str(turns), **({gpu_choice.VISIBLE: gpu} if gpu else {})}

    def _run(
        self,
        stage: str,
        target: KitTarget,
        module: Sequence[str],
        variables: Mapping[str, str] | None = None,
    ) -> int:
        """Run a module of Python; what it prints is added to the target's log."""
        self.clock.message(f"{target.id}: {stage}")
        env = {**os.environ, "PYTHONPATH": self.python_path, **(variables or {})}
        command = [*self._network(stage), sys.executable, "-m", *module]
        code = stages.run(command, self._log(target), self.clock, cwd=ROOT, env=env)
        if code is None:
            raise _StoppedError(LATER, f"the time ended: {stage}", ends=True)
        return code

    def _network(self, stage: str) -> tuple[str, ...]:
        """Return what gives a suite a network of its own: two engines, or Rays, share ports."""
        if self.together == 1 or stage == _UNPACK:
            return ()
        # ROLL's own code does without: its session sets the address to 127.0.0.1.
        return network_namespace.loopback_only(also=_ROLLS_ADDRESS if stage == results.GPU else "")

    def _log(self, target: KitTarget) -> Path:
        return self.evidence / f"{target.id}.log"

    def _remove(self, target: KitTarget) -> None:
        """Remove an unpacked image; what a kill leaves of it is removed by the next run."""
        removed = self.work / f"removed-{target.id}"
        self._place(target).rename(removed)
        shutil.rmtree(removed)
