"""The commit that the builder itself runs from, and the CI run that it runs in."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Checkout:
    """A commit.

    Attributes:
        commit: its hexadecimal name.
        modified: whether files differ from it.
    """

    commit: str
    modified: bool


@dataclass(frozen=True, slots=True)
class CiRun:
    """A run of GitHub Actions, by the variables that it sets.

    Attributes:
        repository: its address, `https://…`.
        ref: the branch or tag that it runs for, `refs/…`.
        workflow: the workflow file and its ref as an address: the identity that keyless signatures
            of that run name.
        attempt: the address of this very run.
        hosted: `github-hosted` or `self-hosted`.
    """

    repository: str
    ref: str
    workflow: str
    attempt: str
    hosted: str


def of(root: Path) -> Checkout | None:
    """The commit whose work tree is `root`; None where there is no git, or another's tree."""
    top = _git(root, "rev-parse", "--show-toplevel")
    commit = _git(root, "rev-parse", "HEAD")
    if top is None or commit is None or Path(top) != root.resolve():
        return None
    return Checkout(commit, _git(root, "status", "--porcelain") != "")


def ci_run(env: Mapping[str, str]) -> CiRun | None:
    """The run that these environment variables tell of."""
    if env.get("GITHUB_ACTIONS") != "true":
        return None
    try:
        server = env["GITHUB_SERVER_URL"]
        repository = f"{server}/{env['GITHUB_REPOSITORY']}"
        run = f"{repository}/actions/runs/{env['GITHUB_RUN_ID']}"
        return CiRun(
            repository,
            env["GITHUB_REF"],
            f"{server}/{env['GITHUB_WORKFLOW_REF']}",
            f"{run}/attempts/{env['GITHUB_RUN_ATTEMPT']}",
            env["RUNNER_ENVIRONMENT"],
        )
    except KeyError:  # something that passes itself off as GitHub; it is not the builder it names
        return None


def _git(root: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
