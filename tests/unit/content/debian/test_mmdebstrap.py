from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from images.content.debian import mmdebstrap, mmdebstrap_check, rootfs
from images.errors import ToolError
from images.repository import ROOT

RUN = (
    "import sys; from pathlib import Path\n"
    "from images.content.debian import rootfs as base, mmdebstrap as bootstrap\n"
    "bootstrap.run(Path(sys.argv[1]), base.RECIPE, base.EPOCH)"
)


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    """With a name that neither apt nor a shell would like."""
    place = tmp_path / 'it\'s a "work" place\n'
    place.mkdir(mode=0o700)
    return place


def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A program named mmdebstrap that is first in PATH; `$result` is what it is to write."""
    program = tmp_path / "bin" / "mmdebstrap"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nfor argument; do result=$last last=$argument; done\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


def run(workdir: Path) -> Path:
    return mmdebstrap.run(workdir, rootfs.RECIPE, rootfs.EPOCH)


def test_the_builders_environment_stays_out(
    tmp_path: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, '(env; umask; pwd) > "$result"')
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("LANG", "tr_TR.UTF-8")
    monkeypatch.setenv("HOME", "/home/somebody")
    old = os.umask(0o077)
    try:
        lines = run(workdir).read_text().splitlines()
    finally:
        os.umask(old)
    assert {"TZ=UTC0", "LC_ALL=C.UTF-8", "HOME=/", f"SOURCE_DATE_EPOCH={rootfs.EPOCH}"} <= set(
        lines
    )
    assert not [line for line in lines if line.startswith("LANG=")]
    assert lines[-2:] == ["0022", "/"]


def test_a_failure_shows_the_end_of_the_log(
    tmp_path: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, "echo first; seq 100; echo 'E: no such uid range'; exit 25")
    with pytest.raises(ToolError, match="status 25") as caught:
        run(workdir)
    assert caught.value.message.endswith("E: no such uid range")
    assert "first" not in caught.value.message
    assert "uidmap" in (caught.value.remedy or "")


def test_packages_that_dpkg_refuses_are_named_with_their_output(
    tmp_path: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mmdebstrap's own end of the log is the text of its hook, which has no reason."""
    report = r"Setting up git\nno git today\nErrors were encountered while processing:\n git\n"
    late = r" /packages/less.deb\nE: command failed:\n"
    stand_in(tmp_path, monkeypatch, f"printf '{report}{late}'; seq 100; exit 25")
    with pytest.raises(ToolError, match="dpkg cannot install git, less;") as caught:
        run(workdir)
    assert "no git today" in caught.value.message
    assert "command failed" not in caught.value.message


def test_hooks_run_after_the_bases_own_and_no_root_is_kept(
    tmp_path: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, 'printf "%s\\n" "$@"')
    mmdebstrap.change(
        workdir, rootfs.RECIPE, rootfs.EPOCH, lambda place: [f"download /x {place}/x"]
    )
    arguments = (workdir / "base.log").read_text()
    assert "\n--format=null\n" in arguments
    # What empties the root's /tmp would make mmdebstrap clean the host's apt instead of the root's.
    assert "\n--skip=cleanup\n" in arguments
    assert arguments.index("etc/apt/sources.list") < arguments.index("download /x ")


def test_packages_that_are_unpacked_alone_run_no_scripts_of_the_recipe(
    tmp_path: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, 'printf "%s\\n" "$@"')
    mmdebstrap.change(
        workdir, rootfs.RECIPE, rootfs.EPOCH, lambda place: [f"download /x {place}/x"], ["a", "b"]
    )
    arguments = (workdir / "base.log").read_text()
    assert "\n--variant=extract\n--include=a,b\n" in arguments
    assert "\n--format=null\n--skip=cleanup\n" in arguments
    assert "\n--extract-hook=download /x " in arguments
    assert "--customize-hook" not in arguments, "mmdebstrap has none after unpacking alone"
    assert (rootfs.RECIPE / "install.sh").read_text() not in arguments


def test_a_missing_program_is_reported_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(mmdebstrap_check, "_SYSTEM", "")
    with pytest.raises(ToolError, match="no such program") as caught:
        run(tmp_path)
    assert "apt-get install mmdebstrap" in (caught.value.remedy or "")


# -- what root leaves on the host ------------------------------------------------------------------


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    return place


def mounts(place: Path) -> list[str]:
    """What the host has mounted below a directory, or where mmdebstrap sees it."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    found = [line.split()[1].encode().decode("unicode_escape") for line in lines]
    return [path for path in found if Path(path).is_relative_to(place) or path == "/mnt/new"]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[None]:
    """Root that may mount; whatever a test leaves mounted is taken away."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("needs a root that may mount")
    yield
    for path in reversed(mounts(tmp_path)):
        subprocess.run(["umount", path], check=False)


MOUNT = 'mkdir "$TMPDIR/new"; mount -t tmpfs new "$TMPDIR/new"; : > "$TMPDIR/new/here"; '


@pytest.mark.usefixtures("root")
def test_killed_it_leaves_no_mount_and_nothing_outside_its_directory(
    tmp_path: Path, workdir: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, f'{MOUNT}echo mounted > "$result"; sleep 600')
    with subprocess.Popen(
        [sys.executable, "-c", RUN, str(workdir)], cwd=ROOT, start_new_session=True
    ) as build:
        result = workdir / mmdebstrap.RESULT
        while build.poll() is None and not (result.is_file() and result.read_text()):
            time.sleep(0.01)
        assert build.poll() is None
        os.killpg(build.pid, signal.SIGKILL)
    assert mounts(tmp_path) == []
    assert not list(temporary.iterdir())
    assert (workdir / "new").is_dir()
    shutil.rmtree(workdir)


def without(capability: str, workdir: Path) -> None:
    """Run as a root that lacks a capability, as in a container."""
    command = ["setpriv", f"--bounding-set=-{capability}", sys.executable, "-c", RUN, str(workdir)]
    subprocess.run(command, cwd=ROOT, check=True)


TOLD = 'printf "%s\\n" "$TMPDIR" "$result" > "$result"'


@pytest.mark.usefixtures("root")
def test_root_that_may_not_mount_works_in_the_directory_for_temporary_files(
    tmp_path: Path, workdir: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, TOLD)
    without("sys_admin", workdir)
    result = workdir / mmdebstrap.RESULT
    assert result.read_text() == f"{temporary}\n{result}\n"


@pytest.mark.usefixtures("root")
def test_directory_that_cannot_hold_a_root_holds_the_result_alone(
    tmp_path: Path, workdir: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a file system of a network; nothing stays mounted all the same."""
    stand_in(tmp_path, monkeypatch, MOUNT + TOLD)
    without("mknod", workdir)
    result = workdir / mmdebstrap.RESULT
    assert result.read_text() == f"{temporary}\n{result}\n"
    assert mounts(tmp_path) == []
    assert [path.name for path in temporary.iterdir()] == ["new"]
    assert not list((temporary / "new").iterdir())


@pytest.mark.usefixtures("root")
def test_file_system_without_devices_and_programs_is_made_fit(
    tmp_path: Path, workdir: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(
        tmp_path,
        monkeypatch,
        'set -e; cd "$TMPDIR"; mknod null c 1 3; : > null; cp /bin/true .; ./true; '
        'stat -c %a . > "$result"',
    )
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "nodev,noexec,mode=700", "new", str(workdir)], check=True
    )
    assert run(workdir).read_text() == "755\n"
    assert not list(temporary.iterdir())
