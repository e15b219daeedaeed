"""Keeps what the GPU tests found, and writes it as evidence after each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from images.attest import evidence
from images.attest.evidence import Evidence, Gpu, ImageId, Machine, Outcome, Proof, RollRun, Run
from images.attest.evidence_check import suite
from images.attest.verdict import judge_results
from images.commands.test.roll_checkout import RollCheckout
from tests.image.subject import RUNTIME, Subject

_STAGES = ("import", "start", "first_token", "release", "resume", "shutdown")


class Recorder:
    """One session's findings.

    Args:
        path: where they are kept; None to keep none.
        directory: the GPU suite, whose other tests count as not run.
        roll_directory: the suite of ROLL's own code, if the findings are of that one.

    Until a machine with a GPU is known nothing is written: a run without one proves nothing, and
    must not replace what another machine proved.
    """

    def __init__(
        self, path: Path | None, directory: Path, roll_directory: Path | None = None
    ) -> None:
        self._path, self._directory, self._roll_directory = path, directory, roll_directory
        self._roll: RollCheckout | None = None
        self._image: ImageId | None = None
        self._machine: Machine | None = None
        self._how = ""
        self._tests: dict[str, Outcome] = {}
        self._runs: dict[str, Run] = {}

    def begin(
        self, subject: Subject, machine: Machine, how: str, roll: RollCheckout | None = None
    ) -> None:
        """Tell what is tested, and on what.

        Args:
            subject: the image.
            machine: what it runs on.
            how: in what.
            roll: the source of ROLL, if its own code is what is run.

        Raises:
            EvidenceError: the file that is there is not evidence.
        """
        self._image, self._machine, self._how = image_id_of(subject), machine, how
        self._roll = roll
        if self._path is not None:
            evidence.read(self._path)

    @property
    def machine(self) -> Machine:
        """The machine that `begin` was given."""
        assert self._machine is not None
        return self._machine

    def add_report(self, name: str, report: pytest.TestReport) -> None:
        """Note one phase of a test; the worst outcome of the three counts."""
        before = self._tests.get(name, Outcome(evidence.PASSED))
        outcome, reason = before.outcome, before.reason
        if report.failed:
            outcome, reason = evidence.FAILED, ""
        elif report.skipped and outcome != evidence.FAILED:
            outcome, reason = evidence.SKIPPED, _reason(report)
        self._tests[name] = Outcome(outcome, round(before.seconds + report.duration, 2), reason)

    def add_run(self, name: str, result: Mapping[str, Any]) -> None:
        """Note one start of an engine, from smoke's result."""
        self._runs[name] = Run(
            seconds={
                stage.replace("_", " "): result[f"{stage}_s"]
                for stage in _STAGES
                if f"{stage}_s" in result
            },
            memory_mib=result.get("memory_mib", {}),
            compiled=result.get("compiled", {}),
        )

    def write(self) -> Evidence | None:
        """Write the evidence so far, on top of the file's; gives it, or None if nothing is kept."""
        if self._path is None or self._image is None or self._machine is None:
            return None
        date = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        now = Proof(self._machine, self._how, date, {}, dict(self._runs))
        roll_suite: frozenset[str] = frozenset()
        if self._roll is None or self._roll_directory is None:
            now = replace(now, tests=dict(self._tests))
        else:
            run = RollRun(self._roll.commit, self._roll.dirty, date, dict(self._tests))
            now, roll_suite = replace(now, roll=run), suite(self._roll_directory)
        # Read anew: the GPU suite and ROLL's may run in one session, each with its own findings.
        old = evidence.read(self._path)
        whole = evidence.add(old, self._image, now, suite(self._directory), roll_suite)
        evidence.write(self._path, whole)
        return whole

    def summary(self) -> str:
        """A line for people."""
        if self._path is None:
            return "no evidence kept: neither --gpu nor --evidence was given"
        found = self.write()
        if found is None:
            return "no evidence kept: no GPU was seen"
        tested = found.image
        verdict = judge_results(found, tested.target, tested.manifest_digest)
        proof = f"proven on {verdict.text}" if verdict.proven else f"not proven: {verdict.text}"
        return f"{self._path}: {tested.target} {proof}"


def path_of(config: pytest.Config) -> Path | None:
    """Where evidence is kept by the command line; None to keep none."""
    path: Path | None = config.getoption("--evidence")
    target: str | None = config.getoption("--target")
    if path is None and target is not None and config.getoption("--gpu"):
        return evidence.path_of(config.getoption("--matrix").absolute(), target)
    return path


def note(
    recorder: Recorder, folder: str, nodeid: str, when: str, report: pytest.TestReport
) -> None:
    """Note one phase of a test if the test is of a folder, e.g. `tests/gpu`."""
    file, _, name = nodeid.partition("::")
    path = Path(file)
    if "/".join(path.parts[-3:-1]) != folder:
        return
    recorder.add_report(f"{path.name}::{name}", report)
    if when == "teardown":
        # At once: a run that is killed keeps what it found.
        recorder.write()


def image_id_of(subject: Subject) -> ImageId:
    """The image under test, as evidence names it."""
    labels = subject.image.labels
    return ImageId(
        target=subject.target.id,
        manifest_digest=subject.image.manifest_digest,
        config_digest=subject.image.config_digest,
        lock_digest=f"sha256:{labels.get('roll.lock.sha256', '')}",
        roll_runtime=labels.get("roll.runtime.version", subject.versions[RUNTIME]),
    )


def machine_of(driver: Mapping[str, Any], kernel: str) -> Machine:
    """What the image saw, from the answer of `python -m roll_runtime.gpu`."""
    gpus = tuple(
        Gpu(item["name"], item["memory_gib"], ".".join(map(str, item["capability"])))
        for item in driver["devices"]
    )
    return Machine(gpus, driver.get("driver"), ".".join(map(str, driver["cuda"])), kernel)


def _reason(report: pytest.TestReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")
