"""The script beside an unpacked image: a command in it, as a container engine would run it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from images import store
from images.entry import Entry, of_bytes
from tests.unit import bundles


def host_files(*programs: str) -> list[Entry]:
    """Programs of this machine and the libraries that they need, where they are."""
    found: dict[str, Path] = {}
    for program in programs:
        path = Path(shutil.which(program) or pytest.skip(f"no {program} here"))
        said = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
        for name in [f"/usr/bin/{program}", *re.findall(r"/\S+", said)]:
            found[name] = path if name.startswith("/usr/bin") else Path(name)
    return [of_bytes(name[1:], path.read_bytes(), 0o755) for name, path in found.items()]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tiny image of this machine's shell, unpacked; its name is no plain word."""
    probe = ["unshare", "--mount", "--propagation", "private", "true"]
    if os.geteuid() != 0 or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("mount namespaces cannot be made here")
    layout = store.open_store(tmp_path / "store")
    directories = [
        Entry(name, "dir", 0o755) for name in ("mnt", "proc", "sys", "dev", "run", "etc")
    ]
    blob = bundles.add(layout, [*host_files("sh", "env", "cat", "ls"), *directories])
    bundles.make(layout, bundles.save(layout, "tiny", blob), tmp_path / "out")
    done = bundles.run(tmp_path / "out", "--rootfs", tmp_path / "my root")
    assert done.code == 0, done.said
    return tmp_path / "my root"


def enter(root: Path, *command: str, path: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [f"{root}.enter", *command],
        env={"PATH": path + os.environ["PATH"], "OF_HOST": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_command_gets_the_images_environment_and_its_own_arguments(root: Path) -> None:
    done = enter(root, "env")
    assert done.returncode == 0, done.stderr
    lines = set(done.stdout.splitlines())
    assert {"PATH=/usr/bin:/bin", "SAID=it's $HOME", "HOME=/root"} <= lines
    assert not [line for line in lines if line.startswith(("OF_HOST", "LD_LIBRARY_PATH"))]
    done = enter(
        root, "env", "SAID=other", "sh", "-c", 'echo "$SAID|$1|$2"; exit 7', "sh", "a b", ""
    )
    assert (done.returncode, done.stdout) == (7, "other|a b|\n")


def test_it_sees_the_host_and_leaves_nothing_mounted(root: Path) -> None:
    done = enter(
        root, "sh", "-c", "cat /proc/self/stat >/dev/null && ls /sys/kernel >/dev/null && ls /mnt"
    )
    assert done.returncode == 0, done.stderr
    assert {"etc", "usr"} <= set(done.stdout.split())
    assert root.name not in Path("/proc/mounts").read_text().replace("\\040", " ")
    assert not list((root / "mnt").iterdir())


def test_the_hosts_driver_is_brought_in_and_the_files_stay_as_they_are(
    root: Path, tmp_path: Path
) -> None:
    place = tmp_path / "host"
    place.mkdir()
    (place / "libcuda.so.550").write_text("the driver")
    (place / "libcuda.so.1").symlink_to("libcuda.so.550")
    (place / "libnvidia-ml.so.1").write_text("its management")
    lines = [
        f"\\tlibcuda.so.1 (libc6,x86-64) => {place}/libcuda.so.1",
        "\\tlibcuda.so.1 (libc6) => /nowhere/libcuda.so.1",
        f"\\tlibnvidia-ml.so.1 (libc6,x86-64) => {place}/libnvidia-ml.so.1",
        "\\tlibz.so.1 (libc6,x86-64) => /nowhere/libz.so.1",
    ]
    (place / "ldconfig").write_text("#!/bin/sh\nprintf '" + "\\n".join(lines) + "\\n'\n")
    (place / "ldconfig").chmod(0o755)
    script = 'cat "$LD_LIBRARY_PATH/libcuda.so.1"; ls $LD_LIBRARY_PATH'
    done = enter(root, "sh", "-c", script, path=f"{place}:")
    assert done.returncode == 0, done.stderr
    said, _, listed = done.stdout.partition("driver")
    assert said == "the "
    assert {"libcuda.so.1", "libnvidia-ml.so.1"} <= set(listed.split())
    assert "libz.so.1" not in listed
    assert not list((root / "run").iterdir())


def test_an_ordinary_user_may_enter(root: Path) -> None:
    as_user = ["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups"]
    if subprocess.run([*as_user, "unshare", "-Ur", "true"], check=False).returncode:
        pytest.skip("ordinary users cannot make namespaces here")
    for path in (root.parent, *root.parent.parents[:2]):
        path.chmod(0o755)
    command = [*as_user, f"{root}.enter", "sh", "-c", "echo $HOME"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert (done.returncode, done.stdout) == (0, "/root\n"), done.stderr
