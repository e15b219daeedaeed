"""Foreign code on the builder: each way to confine it, and what it reaches all the same."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from images.content.sdist import sandbox
from images.content.sdist.sandbox import Confinement
from images.errors import ToolError
from images.repository import ROOT
from tests.listening import listening
from tests.unit.linters import lint

PYTHON = "/usr/bin/python3"
ENV = {"PATH": "/usr/bin:/bin", "MARK": "ours"}
CONFINEMENTS = list(sandbox.confinements())

# What an sdist's build would try; each attempt ends in a line of a document.
ATTEMPTS = """
import ctypes, json, os, signal, socket, sys
secret, parent, outside, port = sys.argv[1:]
def environment():
    return "CI_TOKEN" in open("/proc/%s/environ" % parent).read()
def write():
    open(outside, "w").write("x")
    return True
def capabilities():
    held = (ctypes.c_uint32 * 6)()  # there may be no /proc
    assert not ctypes.CDLL(None).capget((ctypes.c_uint32 * 2)(0x20080522, 0), held)
    return any(held)
def gained():
    os.chroot("/tmp")
    return True
attempts = {
    "file": lambda: bool(open(secret).read()),
    "environment": environment,
    "own environment": lambda: "CI_TOKEN" in os.environ,
    "write": write,
    "network": lambda: bool(socket.create_connection(("127.0.0.1", int(port)), 2)),
    "process": lambda: os.kill(int(parent), 0) is None,
    "terminal": lambda: bool(os.open("/dev/tty", os.O_RDWR)),
    "capabilities": capabilities,
    "gained": gained,
    "home": lambda: open(os.path.expanduser("~/x"), "w").close() or "HOME" not in os.environ,
}
found = {}
for name, attempt in attempts.items():
    try:
        found[name] = attempt()
    except OSError:
        found[name] = False
print(json.dumps(found))
"""


def name_of(confinement: Confinement) -> str:
    return f"{' '.join(confinement.prefix[:3]) or 'no namespaces'}, user {confinement.user}"


@pytest.fixture(params=CONFINEMENTS, ids=name_of)
def confinement(request: pytest.FixtureRequest) -> Confinement:
    one: Confinement = request.param
    if reason := sandbox.failure(one):
        pytest.skip(f"not on this host: {reason}")
    return one


def packed(place: Path, files: dict[str, bytes]) -> Path:
    path = place / "input.tar"
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.uid = info.gid = 12345  # of another user, who does not exist in there
            tar.addfile(info, io.BytesIO(content))
    return path


def ran(
    confinement: Confinement, place: Path, script: str, *arguments: str
) -> tuple[str, list[tarfile.TarInfo]]:
    """What a script printed, and what it left."""

    def command(inside: str) -> Sequence[str]:
        return [PYTHON, "-B", f"{inside}/script.py", *arguments]

    files = packed(place, {"script.py": script.encode()})
    output = sandbox.run(files, command, ENV, place, confinement=confinement)
    with output.open("rb") as stream:
        log = sandbox.log_of(stream)
    with tarfile.open(output) as tar:
        return log, tar.getmembers()


def test_code_reaches_nothing_of_the_builder(confinement: Confinement, tmp_path: Path) -> None:
    secret = tmp_path / "config.json"
    secret.write_text("a login")
    secret.chmod(0o600)
    holder = subprocess.Popen(
        [sys.executable, "-c", "input()"],
        stdin=subprocess.PIPE,
        env={**os.environ, "CI_TOKEN": "t0ken"},
    )
    with holder, listening(BaseHTTPRequestHandler) as port:
        arguments = [str(secret), str(holder.pid), str(tmp_path / "outside"), str(port)]
        log, _ = ran(confinement, tmp_path, ATTEMPTS, *arguments)
        holder.kill()
    reached = {name for name, found in json.loads(log).items() if found}
    # Without namespaces the network is reachable.
    assert reached == (set() if confinement.closed else {"network"})
    assert not (tmp_path / "outside").exists()


def test_another_user_has_no_group_of_the_builder(confinement: Confinement, tmp_path: Path) -> None:
    if confinement.user == "self":
        pytest.skip("the builder's own user")
    log, _ = ran(
        confinement, tmp_path, "import os; print(os.getresuid(), os.getresgid(), os.getgroups())"
    )
    assert log == "(65534, 65534, 65534) (65534, 65534, 65534) []\n"


def test_trees_of_a_builder_with_a_strict_umask_are_read(
    confinement: Confinement, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    (tree / "inner").mkdir(parents=True)
    program = tree / "inner" / "program"
    program.write_text("#!/bin/sh\necho runs\n")
    for path, mode in ((program, 0o700), (program.parent, 0o700), (tree, 0o700)):
        path.chmod(mode)
    output = sandbox.run(
        packed(tmp_path, {}),
        lambda inside: [f"{inside}/given/inner/program"],
        ENV,
        tmp_path,
        trees={"given": tree},
        confinement=confinement,
    )
    with output.open("rb") as stream:
        assert sandbox.log_of(stream) == "runs\n"


def test_its_files_and_its_environment_are_all_that_it_gets(
    confinement: Confinement, tmp_path: Path
) -> None:
    script = """
import os
print(sorted(os.environ), os.environ["MARK"], sorted(os.listdir(os.environ["HOME"])))
open(os.path.join(os.path.dirname(__file__), "wheel", "made"), "w").write("x" * 5)
"""
    log, left = ran(confinement, tmp_path, script)
    assert log.replace("'LC_CTYPE', ", "") == "['HOME', 'MARK', 'PATH'] ours []\n"
    assert [(item.name, item.size) for item in left if item.isfile()] == [
        ("log", len(log)),
        ("wheel/made", 5),
    ]


def test_the_script_is_clean_shell() -> None:
    lint("shellcheck", sandbox._SCRIPT)


def test_how_it_ended_is_in_the_log(confinement: Confinement, tmp_path: Path) -> None:
    log, _ = ran(confinement, tmp_path, "import sys; print('words'); sys.exit(3)")
    assert log == "words\nstatus 3\n"


LINKS = """
import os, shutil
place = os.path.dirname(os.path.abspath(__file__))
shutil.rmtree(os.path.join(place, "wheel"), ignore_errors=True)
for name in ("wheel", "log", "../log", "../wheel"):
    try:
        os.symlink({to!r}, os.path.join(place, name))
    except OSError:
        pass
"""


def test_links_that_it_leaves_are_not_followed(confinement: Confinement, tmp_path: Path) -> None:
    """The packing shell has rights that the code has not."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "private.whl").write_text("private")
    outside.chmod(0o700)
    _, left = ran(confinement, tmp_path, LINKS.format(to=str(outside)))
    assert [path.name for path in outside.iterdir()] == ["private.whl"]
    assert not any(item.name.endswith("private.whl") for item in left)


def test_what_it_leaves_running_ends_with_it(confinement: Confinement, tmp_path: Path) -> None:
    if not confinement.closed:
        pytest.skip("without namespaces nobody knows its processes")
    name = f"left{os.getpid()}"
    script = f"""
import subprocess
subprocess.Popen(["sh", "-c", "sleep 300; : {name}"], start_new_session=True)
"""
    ran(confinement, tmp_path, script)
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    assert f": {name}" not in running.stdout


@pytest.mark.parametrize("name", ["a:b", "a;b", "$LIB"])
def test_a_directory_where_pythons_libraries_would_be_the_machines_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / name))
    files = packed(tmp_path, {})
    with pytest.raises(ToolError, match="cannot be built below") as error:
        sandbox.run(
            files, lambda _: ["true"], ENV, tmp_path, confinement=Confinement((), sandbox.NOBODY)
        )
    assert "TMPDIR" in (error.value.remedy or "")


def test_where_nothing_is_confined_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "confinements", lambda: iter([Confinement(("false",), "self")]))
    sandbox.found.cache_clear()
    try:
        with pytest.raises(ToolError, match="does not let you make namespaces") as error:
            sandbox.run(packed(tmp_path, {}), lambda _: ["true"], ENV, tmp_path)
    finally:
        sandbox.found.cache_clear()
    assert "--cache-from" in (error.value.remedy or "")
    assert not (tmp_path / sandbox.OUTPUT).exists()


FIND = "from images.content.sdist import sandbox as confine; print(confine.found())"
NO_SPACES = """
read -r mapped
exec sh -ec '
for kind in user mnt net pid; do echo 0 > /proc/sys/user/max_${kind}_namespaces; done
exec "$@"' sh "$@"
"""


def found_without_namespaces(users: int) -> subprocess.CompletedProcess[str]:
    """What is found where the kernel's own limits leave no namespaces, as in a plain container.

    Args:
        users: how many user ids there are, root's the first.
    """
    if os.geteuid():
        pytest.skip("only root may give several users to a namespace")
    command = ["unshare", "--user", "sh", "-c", NO_SPACES, "sh", sys.executable, "-c", FIND]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True
    ) as started:
        if not entered(started.pid):
            started.kill()
            pytest.skip("the kernel lets no user namespace be made")
        for kind in ("uid_map", "gid_map"):
            Path(f"/proc/{started.pid}/{kind}").write_text(f"0 0 {users}\n")
        out, stderr = started.communicate("mapped\n")
    return subprocess.CompletedProcess(command, started.returncode, out, stderr)


def entered(pid: int) -> bool:
    """Wait until a process has a user namespace of its own."""
    ours = Path("/proc/self/ns/user").readlink()
    for _ in range(100):
        if Path(f"/proc/{pid}/ns/user").readlink() != ours:
            return True
        time.sleep(0.02)
    return False


def test_root_without_namespaces_gets_another_user_and_a_warning() -> None:
    done = found_without_namespaces(65536)
    assert done.returncode == 0, done.stderr
    assert "Confinement(prefix=(), user='65534')" in done.stdout
    assert "warning: sdists are built as another user, but with this machine's network" in (
        done.stderr
    )
    assert "SYS_ADMIN" in done.stderr


def test_root_that_has_no_other_user_either_runs_nothing() -> None:
    done = found_without_namespaces(1)
    assert done.returncode == 1
    assert "ToolError: an sdist's build would see your files and the network" in done.stderr
