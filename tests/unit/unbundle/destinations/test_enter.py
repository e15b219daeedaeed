"""The script beside an unpacked image: a command in it, as a container engine would run it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from images.oci.layer.entry import Entry, of_bytes
from images.oci.store import store
from tests import directories
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


DRIVER = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\x3e\x00 the driver"
"""The head of a library for x86-64 (ELF), and what distinguishes it from others."""

ODD = "a@COMMAND@ @ENV@ $HOME `id` 'b'"


@pytest.fixture
def place() -> Iterator[Path]:
    with directories.open_to_all() as found:
        yield found


@pytest.fixture
def root(place: Path) -> Path:
    """A tiny image of this machine's shell, unpacked; its name is no plain word."""
    probe = ["unshare", "--mount", "--propagation", "private", "true"]
    if os.geteuid() != 0 or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("mount namespaces cannot be made here")
    layout = store.open_store(place / "store")
    directories = [Entry(name, "dir", 0o755) for name in DIRECTORIES]
    files = [
        Entry("tmp", "dir", 0o1777),
        Entry("root", "dir", 0o700),
        Entry("home/roll", "dir", 0o755, uid=1000, gid=1001),
        of_bytes(
            "etc/passwd", b"root:x:0:0::/root:/bin/sh\nroll:x:1000:1001::/home/roll:/bin/sh\n"
        ),
    ]
    programs = host_files("sh", "env", "cat", "ls", "id", "mkdir", "rmdir", "sleep")
    blob = bundles.add(layout, [*programs, *directories, *files])
    env = {"PATH": "/usr/bin:/bin", "SAID": "it's $HOME", "ODD": ODD}
    bundles.make(layout, bundles.save(layout, "tiny", blob, env=env), place / "out")
    done = bundles.run(place / "out", "--rootfs", place / "my, root")
    assert done.code == 0, done.said
    return place / "my, root"


DIRECTORIES = ("mnt", "proc", "sys", "dev", "run", "etc")


def enter(
    root: Path, *command: str, path: str = "", before: Sequence[str] = (), **env: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, f"{root}.enter", *command],
        env={"PATH": path + os.environ["PATH"], "OF_HOST": "1", **env},
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )


def said(root: Path, *command: str, path: str = "", before: Sequence[str] = (), **env: str) -> str:
    """Return the output of a command that must succeed."""
    done = enter(root, *command, path=path, before=before, **env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def in_sh(*lines: str) -> list[str]:
    return ["sh", "-c", "\n".join(lines)]


# -- what a command gets ---------------------------------------------------------------------------


def test_a_command_gets_the_images_environment_and_its_own_arguments(root: Path) -> None:
    lines = set(said(root, "env").splitlines())
    assert {"PATH=/usr/bin:/bin", "SAID=it's $HOME", "HOME=/root"} <= lines
    assert not [line for line in lines if line.startswith(("OF_HOST", "LD_LIBRARY_PATH"))]
    done = enter(
        root, "env", "SAID=other", "sh", "-c", 'echo "$SAID|$1|$2"; exit 7', "sh", "a b", ""
    )
    assert (done.returncode, done.stdout) == (7, "other|a b|\n")


def test_a_value_that_looks_like_a_word_of_the_script_stays_as_it_is(root: Path) -> None:
    assert said(root, *in_sh('echo "$ODD"')) == f"{ODD}\n"


def test_it_sees_the_host_and_leaves_nothing_mounted(root: Path) -> None:
    script = in_sh("cat /proc/self/stat >/dev/null && ls /sys/kernel >/dev/null && ls /mnt")
    for options in ([], ["--scratch"], ["--scratch", "--pid"]):
        assert {"etc", "usr"} <= set(said(root, *options, *script).split())
        assert root.name not in Path("/proc/mounts").read_text().replace("\\040", " ")
        assert not list((root / "mnt").iterdir())
        assert not list((root / "run").iterdir())


WRITE = "for place in $HOME /tmp /dev/shm; do mkdir $place/$$ && rmdir $place/$$ || exit 1; done"


def test_home_tmp_and_shared_memory_can_be_written(root: Path) -> None:
    assert said(root, *in_sh(WRITE, "echo $HOME")) == "/root\n"


def test_they_can_be_written_where_the_files_are_on_a_read_only_disk(root: Path) -> None:
    read_only = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
    script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    read_only += [script, str(root)]
    assert said(root, *in_sh(WRITE, "echo $HOME"), before=read_only) == "/run/home\n"
    assert enter(root, "mkdir", "/made", before=read_only).returncode != 0


def test_small_shared_memory_becomes_one_of_its_own(root: Path) -> None:
    """A container engine's default is 64 MB; NCCL and torch need more."""
    for size, same in (("64m", False), ("2g", True)):
        small = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
        small += [
            f'mount -t tmpfs -o size={size} t /dev/shm && : > /dev/shm/hosts; exec "$@"',
            "sh",
        ]
        assert ("hosts" in said(root, "ls", "/dev/shm", before=small)) is same


def test_the_machines_own_name_is_known(root: Path) -> None:
    """Also where the host knows it by a module of its libc that the image lacks."""
    named = ["unshare", "--mount", "--uts", "--propagation", "private", "sh", "-c"]
    named += ['hostname a-node.example && exec "$@"', "sh"]
    lines = said(root, "cat", "/etc/hosts", before=named).splitlines()
    assert [line.split()[1] for line in lines if "a-node.example" in line] == ["a-node.example"]
    assert "localhost" in "".join(lines)
    assert (root / "etc/hosts").read_bytes() == b""  # what it was mounted over


# -- options ---------------------------------------------------------------------------------------


def test_scratch_changes_vanish_and_others_stay(root: Path) -> None:
    need_overlay(root)
    write = in_sh("echo new > /etc/passwd", "mkdir /made && ls /")
    before = bundles.tree(root)
    assert "made" in said(root, "--scratch", *write).split()
    assert bundles.tree(root) == before | {
        name: item
        for name, item in bundles.tree(root).items()
        if name in ("etc/hosts", "etc/resolv.conf")
    }
    said(root, *write)
    assert (root / "made").is_dir()
    assert (root / "etc/passwd").read_text() == "new\n"


def test_processes_of_its_own_are_all_that_a_command_sees(root: Path) -> None:
    assert said(root, "--pid", *in_sh("[ -d /proc/2000000 ] || cat /proc/1/comm")) == "sh\n"
    assert str(os.getpid()) not in said(root, "--pid", "ls", "/proc").split()
    assert str(os.getpid()) in said(root, "ls", "/proc").split()


@pytest.mark.parametrize("options", [["--pid"], ["--pid", "--user", "roll"]])
def test_processes_of_its_own_end_with_it(root: Path, options: list[str]) -> None:
    """Whoever they run as: a change of user would keep them from it."""
    script = in_sh("sleep 1000 &", "echo ready; exec sleep 1000")
    with subprocess.Popen(
        [f"{root}.enter", *options, *script], stdout=subprocess.PIPE, cwd="/"
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        process.kill()
        assert process.stdout.read() == b""  # no process has it open any more


@pytest.mark.parametrize(
    ("user", "identity", "home"),
    [
        ("roll", "1000 1001", "/home/roll"),
        ("1000", "1000 1001", "/home/roll"),
        ("roll:0", "1000 0", "/home/roll"),
        ("12345", "12345 0", "/run/home"),
        ("12345:6", "12345 6", "/run/home"),
    ],
)
def test_a_user_by_name_or_number_has_a_home(
    root: Path, user: str, identity: str, home: str
) -> None:
    script = in_sh("echo $(id -u) $(id -g) $HOME", "mkdir $HOME/made /tmp/made && rmdir $HOME/made")
    assert said(root, "--user", user, *script) == f"{identity} {home}\n"


def test_what_is_no_option_is_refused_and_help_lists_them(root: Path) -> None:
    done = enter(root, "--bogus", "env")
    assert (done.returncode, done.stdout) == (1, "")
    assert "--bogus: no such option" in done.stderr
    assert "--help" in done.stderr
    shown = said(root, "--help")
    assert all(f"  {option}" in shown for option in ("--scratch", "--pid", "--user"))
    assert "set -eu" not in shown
    assert said(root, "--", *in_sh("echo $0")) == "sh\n"


def need_overlay(root: Path) -> None:
    if "an overlay is refused" in enter(root, "--scratch", "id").stderr:
        pytest.skip("this kernel refuses overlays")


# -- the driver ------------------------------------------------------------------------------------


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/usr/bin/sh\n{text}\n")
    path.chmod(0o755)


USE = in_sh(
    "nvidia-smi",
    "command -v nvidia-smi",
    "ls $LD_LIBRARY_PATH",
    "cat $LD_LIBRARY_PATH/libcuda.so.1",
)


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
        f"\\tlibnvidia-gone.so.1 (libc6,x86-64) => {place}/libnvidia-gone.so.1",
        "\\tlibz.so.1 (libc6,x86-64) => /nowhere/libz.so.1",
    ]
    program(place / "ldconfig", "printf '" + "\\n".join(lines) + "\\n'")
    program(place / "nvidia-smi", "echo a GPU")
    for options in ([], ["--scratch"]):
        shown = said(root, *options, *USE, path=f"{place}:").splitlines()
        assert shown[:2] == ["a GPU", "/run/driver/bin/nvidia-smi"]
        assert shown[2:] == ["libcuda.so.1", "libnvidia-ml.so.1", "the driver"]
    assert not list((root / "run").iterdir())


def test_a_driver_that_the_linkers_cache_lacks_is_found(root: Path, tmp_path: Path) -> None:
    """Nodes of GKE have it in /usr/local/nvidia alone."""
    hide = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
    hide += ['mount --bind "$0" /usr/local && shift 0; exec "$@"', str(tmp_path / "local")]
    libraries = tmp_path / "local/nvidia/lib64"
    libraries.mkdir(parents=True)
    put(libraries)
    program(tmp_path / "local/nvidia/bin/nvidia-smi", "echo a GPU")
    shown = said(root, *USE, path=f"{no_cache(tmp_path)}:", before=hide).split("\n")
    assert shown[:2] == ["a GPU", "/run/driver/bin/nvidia-smi"]
    assert shown[2:4] == ["libcuda.so.1", "libcuda.so.580.1"]
    assert "the driver" in shown[4]


def test_a_driver_that_only_ld_library_path_names_is_found(root: Path, tmp_path: Path) -> None:
    places = [tmp_path / "none", tmp_path / "named"]
    places[1].mkdir()
    put(places[1])
    shown = said(
        root,
        *in_sh("ls $LD_LIBRARY_PATH", "echo $LD_LIBRARY_PATH $PATH"),
        path=f"{no_cache(tmp_path)}:",
        LD_LIBRARY_PATH=f":relative:{places[0]}:{places[1]}",
    )
    assert shown.split() == [
        "libcuda.so.1", "libcuda.so.580.1", "/run/driver/lib", "/usr/bin:/bin:/run/driver/bin"
    ]  # fmt: skip


def put(directory: Path) -> None:
    """A driver, and beside it what is none or of another platform."""
    (directory / "libcuda.so.580.1").write_bytes(DRIVER)
    (directory / "libcuda.so.1").symlink_to("libcuda.so.580.1")
    (directory / "libnvidia-ptxjitcompiler.so.1").write_bytes(DRIVER[:18] + b"\xb7\x00" + bytes(9))
    (directory / "libnvidia-broken.so.1").write_text("text")
    (directory / "libnvidia-gone.so.1").symlink_to("nowhere")
    (directory / "libcudart.so.12").write_bytes(DRIVER)


def no_cache(place: Path) -> Path:
    """A directory with an ldconfig whose cache knows no driver."""
    program(place / "bin/ldconfig", "echo")
    return place / "bin"


# -- users -----------------------------------------------------------------------------------------


@pytest.fixture
def as_user(root: Path) -> list[str]:
    """Return the words that run a command as an ordinary user who can reach the image."""
    as_user = ["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups"]
    if subprocess.run([*as_user, "unshare", "-Ur", "true"], check=False).returncode:
        pytest.skip("ordinary users cannot make namespaces here")
    if subprocess.run([*as_user, "ls", root], capture_output=True, check=False).returncode:
        pytest.skip("ordinary users cannot reach the directory of the tests")
    return as_user


def test_an_ordinary_user_may_enter_and_write_home_and_tmp(root: Path, as_user: list[str]) -> None:
    """The files are root's: HOME is one of the command's own."""
    write = in_sh("mkdir $HOME/made /tmp/made", "echo $HOME $(id -u)")
    assert said(root, *write, before=as_user) == "/run/home 0\n"
    done = enter(root, "--user", "roll", "id", before=as_user)
    assert done.returncode == 1
    assert "--user needs root" in done.stderr


def test_an_ordinary_user_may_have_a_scratch_view(root: Path, as_user: list[str]) -> None:
    write = in_sh("mkdir $HOME/made /tmp/made", "echo $HOME")
    done = enter(root, "--scratch", "--pid", *write, before=as_user)
    if "an overlay is refused" in done.stderr:
        pytest.skip("this kernel refuses overlays to ordinary users")
    assert (done.returncode, done.stdout) == (0, "/run/home\n"), done.stderr
    assert not (root / "tmp/made").exists()
