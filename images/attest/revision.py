"""The commit of the builder itself, and the CI run that it is part of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from images.util import git, output


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
        attempt: the address of this attempt of the run.
        hosted: `github-hosted` or `self-hosted`.
    """

    repository: str
    ref: str
    workflow: str
    attempt: str
    hosted: str


def of(root: Path) -> Checkout | None:
    """Return the commit whose work tree is `root`; None without git, or in another's work tree.

    A work tree whose commit is unavailable is reported: the image's provenance is then incomplete.
    """
    try:
        tree = git.Git(root)
        if tree.top != root.resolve():
            return None
        return Checkout(tree.commit, tree.changed())
    except FileNotFoundError:
        why = "git is not installed (apt-get install git)"
    except (OSError, ValueError) as error:
        why = f"git: {error}"
    if (root / ".git").exists():
        output.message(f"warning: the provenance names no commit: {why}")
    return None


def ci_run(env: Mapping[str, str]) -> CiRun | None:
    """Return the CI run that environment variables describe; None outside CI."""
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
    except KeyError:  # not GitHub, whatever GITHUB_ACTIONS says
        return None
