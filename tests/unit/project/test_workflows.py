"""GitHub's workflows: linted, audited, and checked against our own rules, without a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from images.repository import ROOT
from tests.unit import shell_commands
from tests.unit.linters import lint

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
SCRIPTS = sorted(GITHUB.glob("*.sh"))
PINNED = re.compile(r"uses: [\w.-]+(?:/[\w.-]+)+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")
OUTPUT = re.compile(r"\b(needs|steps)\.([\w-]+)\.outputs\.([\w-]+)")

Job = dict[str, Any]


def read(path: Path) -> dict[str, Any]:
    # `on` is a boolean in YAML 1.1.
    document: dict[str, Any] = yaml.safe_load(
        path.read_text(encoding="utf-8").replace("\non:", "\n'on':")
    )
    return document


ALL = {path.name: read(path) for path in WORKFLOWS}
JOBS = [(name, key) for name, workflow in ALL.items() for key in workflow["jobs"]]
JOB_IDS = [f"{name}-{key}" for name, key in JOBS]


def job_of(where: tuple[str, str]) -> Job:
    job: Job = ALL[where[0]]["jobs"][where[1]]
    return job


def scripts_of(job: Job) -> Iterator[str]:
    yield from (step["run"] for step in job.get("steps", ()) if "run" in step)


# -- linters ---------------------------------------------------------------------------------------


def test_workflows_have_the_form_that_github_wants() -> None:
    lint("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS)
    lint("check-jsonschema", "--builtin-schema", "vendor.dependabot", GITHUB / "dependabot.yml")


def test_auditor_finds_nothing() -> None:
    if sys.version_info < (3, 11):
        pytest.skip("zizmor has no wheel for this Python")
    lint("zizmor", "--offline", "--no-progress", "--persona=auditor", GITHUB)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_clean(path: Path) -> None:
    lint("shellcheck", path)


@pytest.mark.parametrize("where", JOBS, ids=JOB_IDS)
def test_steps_are_clean_shell(where: tuple[str, str], tmp_path: Path) -> None:
    for number, script in enumerate(scripts_of(job_of(where))):
        step = tmp_path / f"{number}.sh"
        # GitHub runs a step of `shell: bash` with these options.
        step.write_text(f"#!/usr/bin/env bash\nset -eo pipefail\n{script}")
        lint("shellcheck", "--exclude=SC1091", step)  # the venv's activate is not there


# -- our own rules ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_nothing_is_allowed_that_no_job_asks_for(name: str) -> None:
    assert ALL[name]["permissions"] == {}
    assert "concurrency" in ALL[name] or set(ALL[name]["on"]) == {"workflow_call"}
    assert "pull_request_target" not in ALL[name]["on"]


@pytest.mark.parametrize("where", JOBS, ids=JOB_IDS)
def test_jobs_say_what_they_may_and_how_long(where: tuple[str, str]) -> None:
    job = job_of(where)
    assert "permissions" in job
    assert "timeout-minutes" in job or "uses" in job


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit_and_version(path: Path) -> None:
    lines = [line.strip().removeprefix("- ") for line in path.read_text().splitlines()]
    uses = [line for line in lines if line.startswith("uses: ")]
    assert [line for line in uses if "./" not in line and not PINNED.match(line)] == []
    images = [line for line in lines if line.startswith("image: ")]
    assert [line for line in images if not re.search(r"@sha256:[0-9a-f]{64}$", line)] == []


def test_one_version_of_each_action_and_image() -> None:
    text = "\n".join(path.read_text() for path in WORKFLOWS)
    for pattern in (r"uses: ([\w./-]+)@(\S+)", r"image: (\w+):(\S+)"):
        found = set(re.findall(pattern, text))
        assert found
        assert len(found) == len({name for name, _ in found}), found


@pytest.mark.parametrize("where", JOBS, ids=JOB_IDS)
def test_values_reach_scripts_by_the_environment_alone(where: tuple[str, str]) -> None:
    assert [script for script in scripts_of(job_of(where)) if "${{" in script] == []


@pytest.mark.parametrize("where", JOBS, ids=JOB_IDS)
def test_commands_exist(where: tuple[str, str]) -> None:
    for script in scripts_of(job_of(where)):
        for command in shell_commands.of_shell(script):
            assert shell_commands.fault(command) is None, command
        for path in re.findall(r"bash (\.\S+)", script):
            assert (ROOT / path).is_file()


@pytest.mark.parametrize("where", JOBS, ids=JOB_IDS)
def test_outputs_that_are_used_are_made(where: tuple[str, str]) -> None:
    job = job_of(where)
    for kind, name, output in OUTPUT.findall(yaml.safe_dump(job)):
        if kind == "steps":
            (step,) = [step for step in job["steps"] if step.get("id") == name]
            assert "uses" in step or f'echo "{output}=' in step["run"]
            continue
        assert name in needs(job)
        giver = ALL[where[0]]["jobs"][name]
        source = ALL[Path(giver["uses"]).name]["on"]["workflow_call"] if "uses" in giver else giver
        assert output in source["outputs"]


def needs(job: Job) -> list[str]:
    found = job.get("needs", [])
    return [found] if isinstance(found, str) else found


def test_no_pull_request_reaches_a_machine_of_ours() -> None:
    own = {where for where in JOBS if "self-hosted" in str(job_of(where).get("runs-on"))}
    assert own == {("image.yml", "prove")}
    assert {name for name, job in reached("pull_request")} & {name for name, _ in own} == set()
    assert own <= reached("push")
    for where in own:
        assert job_of(where)["environment"] == "gpu"
        assert "github.ref == 'refs/heads/main'" in job_of(where)["if"]


def test_pull_requests_write_nothing_and_see_no_secret() -> None:
    for where in reached("pull_request"):
        assert "write" not in job_of(where)["permissions"].values()
        assert "secrets." not in yaml.safe_dump(job_of(where))


def reached(event: str) -> set[tuple[str, str]]:
    """The jobs that an event can start, those of called workflows included."""
    todo = [name for name, workflow in ALL.items() if event in workflow["on"]]
    found: set[tuple[str, str]] = set()
    while todo:
        name = todo.pop()
        for key, job in ALL[name]["jobs"].items():
            found.add((name, key))
            if "uses" in job:
                todo.append(Path(job["uses"]).name)
    return found


def test_tag_is_moved_after_proof_and_signature_alone() -> None:
    job = job_of(("image.yml", "promote"))
    assert set(needs(job)) == {"push", "sign", "prove"}
    assert "needs.prove.result == 'success' || needs.push.outputs.proven == 'true'" in job["if"]
    (command,) = [found for script in scripts_of(job) for found in shell_commands.of_shell(script)]
    assert command[1] == "promote"
    assert "--unproven" not in command
    # What the build pushes has a tag of its own, which no other commit gets.
    pushes = [
        command
        for script in scripts_of(job_of(("image.yml", "push")))
        for command in shell_commands.of_shell(script)
        if command[1] == "push"
    ]
    assert [command[command.index("--to") + 1] for command in pushes] == [
        "$REPOSITORY:$TARGET-${GITHUB_SHA::12}"
    ]


# -- code of others, and what it must not be beside ------------------------------------------------

WRITERS = [where for where in JOBS if "write" in str(job_of(where).get("permissions"))]
WRITING = ("secrets.registry-user", "secrets.registry-password", "secrets.PULL_REQUEST_TOKEN")


def runs_code_of_others(command: list[str]) -> bool:
    """Whether one of our commands runs what packages or images contain."""
    name = command[1] if len(command) > 1 and not command[1].startswith("-") else "build"
    return name in ("test", "lock", "propose") or (
        name == "build" and "--only-known" not in command
    )


def steps_with_commands(job: Job) -> Iterator[tuple[int, list[str]]]:
    for number, step in enumerate(job.get("steps", ())):
        for command in shell_commands.of_shell(step.get("run", "")):
            yield number, command


@pytest.mark.parametrize("where", WRITERS, ids="-".join)
def test_no_code_of_others_runs_where_something_may_be_written(where: tuple[str, str]) -> None:
    found = [command for _, command in steps_with_commands(job_of(where))]
    assert [command for command in found if runs_code_of_others(command)] == []


@pytest.mark.parametrize("where", JOBS, ids=JOB_IDS)
def test_a_login_that_may_write_is_in_jobs_that_write(where: tuple[str, str]) -> None:
    if "uses" not in job_of(where) and where not in WRITERS:
        assert [name for name in WRITING if name in yaml.safe_dump(job_of(where))] == []


@pytest.mark.parametrize("where", JOBS, ids=JOB_IDS)
def test_tests_run_after_the_login_is_gone(where: tuple[str, str]) -> None:
    steps = job_of(where).get("steps", ())
    scripts = [step.get("run", "") for step in steps]
    logins = [number for number, script in enumerate(scripts) if "login.sh" in script]
    tests = [n for n, command in steps_with_commands(job_of(where)) if command[1] == "test"]
    if logins and tests:
        gone = scripts.index('rm -rf "$RUNNER_TEMP/registry-login"')
        assert max(logins) < gone < min(tests)


def test_what_was_handed_over_is_hashed_before_the_login() -> None:
    scripts = [step.get("run", "") for step in job_of(("image.yml", "push"))["steps"]]
    (verified,) = (n for n, script in enumerate(scripts) if "build.py verify" in script)
    (login,) = (n for n, script in enumerate(scripts) if "login.sh" in script)
    assert verified < login
    assert any('[ "$digest" = "$BUILT" ]' in script for script in scripts)


@pytest.mark.parametrize("where", JOBS, ids=JOB_IDS)
def test_packages_are_installed_by_their_hashes_alone(where: tuple[str, str]) -> None:
    assert [script for script in scripts_of(job_of(where)) if "pip install" in script] == []
    assert "--require-hashes" in (GITHUB / "install.sh").read_text()


@pytest.mark.parametrize("where", JOBS, ids=JOB_IDS)
def test_checkouts_keep_no_credentials(where: tuple[str, str]) -> None:
    steps = job_of(where).get("steps", ())
    checkouts = [step for step in steps if "actions/checkout" in step.get("uses", "")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


LOCKED = re.compile(r"(?P<pin>[a-z0-9.-]+==[^ ;\\]+)(?: ; (?P<marker>[^\\]+))? \\")


@pytest.mark.parametrize("extra", ["", "test"])
@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_lock_of_the_workflows_is_that_of_the_project(extra: str, python: str) -> None:
    """Renewed by the command in docs/releasing.md."""
    lines = (GITHUB / f"requirements{extra and '-test'}.txt").read_text().splitlines()
    pins = {}
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if found := LOCKED.fullmatch(line):
            assert following.startswith("    --hash=sha256:")
            if applies(found["marker"], python):
                requirement = Requirement(found["pin"])
                pins[canonicalize_name(requirement.name)] = str(requirement.specifier)[2:]
        else:
            assert re.match(r"#|    (?:--hash=sha256:[0-9a-f]{64}(?: \\)?|# )", line), line
    project = tomli.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(project["optional-dependencies"][extra] if extra else ())]
    for requirement in map(Requirement, wanted):
        if requirement.marker is None or applies(str(requirement.marker), python):
            pinned = pins[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(pinned), f"{requirement}: {pinned} is locked"


def applies(marker: str | None, python: str) -> bool:
    known = {"python_version": python, "python_full_version": f"{python}.0"}
    return marker is None or Marker(marker).evaluate(known)


# -- the script that proposes changes --------------------------------------------------------------

GH = """#!/bin/sh
echo "$@" >> "$CALLS"
case "$2" in list) grep -c "pr create" "$CALLS" || true;; esac
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of a bare repository, and a `gh` that notes what it is asked."""
    for name, value in {
        "CALLS": str(tmp_path / "calls"),
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_SYSTEM": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gh").write_text(GH)
    (tmp_path / "bin" / "gh").chmod(0o755)
    (tmp_path / "calls").touch()
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", "origin")
    git(tmp_path, "clone", "--quiet", "origin", "work")
    work = tmp_path / "work"
    (work / "evidence").mkdir()
    (work / "evidence" / "a.json").write_text("1")
    git(work, "checkout", "--quiet", "-B", "main")
    git(work, "add", ".")
    git(work, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message=first")
    git(work, "push", "--quiet", "origin", "main")
    return work


def git(where: Path, *arguments: str) -> str:
    command = ["git", "-C", str(where), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def propose(work: Path) -> str:
    """Run the script; return the commands that `gh` got since the beginning."""
    script = GITHUB / "pull-request.sh"
    command = ["bash", str(script), "evidence", "A title", "evidence"]
    subprocess.run(command, cwd=work, check=True, capture_output=True, text=True)
    return (work.parent / "calls").read_text()


def test_proposal_of_nothing(checkout: Path) -> None:
    (checkout / "other").write_text("not below the path")
    assert propose(checkout) == ""
    assert git(checkout, "ls-remote", "--heads", "origin").endswith("refs/heads/main")


def test_proposal_is_one_commit_and_one_request(checkout: Path) -> None:
    for content in ("2", "3"):
        git(checkout, "checkout", "--quiet", "--force", "-B", "main", "origin/main")
        (checkout / "evidence" / "a.json").write_text(content)
        (checkout / "other").write_text("not below the path")
        calls = propose(checkout)
    assert calls.count("pr create --base main --head automatic/evidence --title A title") == 1
    git(checkout, "fetch", "--quiet", "origin")
    branch = "origin/automatic/evidence"
    assert git(checkout, "show", f"{branch}:evidence/a.json") == "3"
    assert git(checkout, "log", "--format=%s", f"origin/main..{branch}") == "A title"
    assert git(checkout, "diff", "--name-only", "origin/main", branch) == "evidence/a.json"
