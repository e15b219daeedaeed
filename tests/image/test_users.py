"""Root, a named user and an arbitrary uid; a read-only root file system; byte code for all."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatch
from typing import Any

import pytest

from images import image_paths
from tests.image import driver, vllm
from tests.image.box import Box
from tests.image.subject import Subject

# Kubernetes and OpenShift choose a uid that no file of the image knows.
USERS = {"arbitrary uid": "12345:0", "uid and group unknown": "23456:23456", "named user": "roll"}


@pytest.fixture(params=USERS)
def restricted(new_box: Box, request: pytest.FixtureRequest) -> Iterator[Box]:
    """Another user on a read-only root file system; /tmp alone can be written."""
    with new_box.started(
        user=USERS[request.param], read_only=True, tmpfs=["/tmp"], env={"HOME": "/tmp"}
    ) as started:
        yield started


def test_nothing_needs_root_or_a_writable_image(restricted: Box, subject: Subject) -> None:
    assert restricted.run("id -u").strip() != "0"
    assert restricted.attempt("touch /opt/venv/written").rc != 0
    restricted.run("python -c 'import roll_runtime'")
    restricted.run("test -w $HOME && touch $HOME/written")
    if "torch" in subject.versions:
        restricted.run("python -c 'import torch; torch.ones(2, 2) @ torch.ones(2, 2)'")
    answer = restricted.attempt("python -m roll_runtime doctor").stdout
    assert "HOME: /tmp is writable" in answer


#: What `docker run --user` gives a user without a line in passwd; DIR.enter gives a writable one.
DOCKERS_HOME = {"HOME": "/"}

#: A user, and options of its box; without a HOME that the test sets.
STARTED_AS: dict[str, dict[str, Any]] = {
    "root": {"user": None},
    "named user": {"user": "roll"},
    "uid that passwd does not know, group root": {"user": "12345:0", "env": DOCKERS_HOME},
    "unknown uid and group": {"user": "23456:23456", "env": DOCKERS_HOME},
    "uid that passwd does not know, read-only": {
        "user": "12345:0",
        "env": DOCKERS_HOME,
        "read_only": True,
        "tmpfs": ["/tmp"],
    },
    "named user, read-only": {"user": "roll", "read_only": True, "tmpfs": ["/tmp"]},
}

ENGINE = """
import getpass, json, multiprocessing, os, pathlib, pwd, subprocess, sys, tempfile

def seen():
    return [getpass.getuser(), str(pathlib.Path.home()), pwd.getpwuid(os.getuid()).pw_name]

def child(queue):
    queue.put(seen())

if __name__ == "__main__":
    if sys.argv[1] == "0.4.10.post2":
        # Its FP8 kernels ask Triton's driver at their import, which there is not without a GPU.
        import types
        from triton.runtime import driver
        driver.set_active(types.SimpleNamespace(get_benchmarker=lambda: None))
    import sglang.srt.entrypoints.engine
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    spawned = queue.get(timeout=60)
    process.join()
    tempfile.NamedTemporaryFile(dir=pathlib.Path.home()).close()
    shell = subprocess.run(["sh", "-c", "touch ~/written && echo $HOME"], capture_output=True)
    print(json.dumps([seen(), spawned, shell.stdout.decode().strip() or shell.stderr.decode()]))
"""


@pytest.mark.parametrize("kind", STARTED_AS)
def test_engine_is_imported_by(new_box: Box, subject: Subject, kind: str) -> None:
    """The engine's own import: torch asks for the user's name there. HOME is writable after it."""
    subject.need_engine()
    with new_box.started(**STARTED_AS[kind]) as started:
        driver.install(started)
        uid = started.run("id -u").strip()
        env = dict(driver.ENV)
        if subject.target.sglang.startswith("0.4."):
            vllm.install(started)
            env |= vllm.ENV
        own, spawned, shell_home = started.ask(ENGINE, subject.target.sglang, env=env)
        assert own == spawned
        assert own[1] == shell_home
        if "does not know" in kind or "unknown" in kind:
            assert own == [f"uid{uid}", f"/tmp/roll-home-{uid}", f"uid{uid}"]
            mode = started.run(f"stat -c '%a %u' /tmp/roll-home-{uid}").split()
            assert mode == ["700", uid]
        answer = started.attempt("python -m roll_runtime doctor").stdout
        assert f"user: {own[0]} (" in answer
        assert f"HOME: {own[1]} is writable" in answer


def test_home_of_the_named_user_is_writable_for_all(new_box: Box) -> None:
    for user in USERS.values():
        with new_box.started(user=user, env={"HOME": "/home/roll"}) as started:
            started.run("touch $HOME/$(id -u)")


#: Where a set-user-id program may be, and whose it may be; the second line's are a flavour's.
SET_USER_ID_PLACES = ("/usr/bin/", "/usr/sbin/", "/usr/lib/openssh/", "/usr/lib/*/utempter/")
SET_USER_ID_PACKAGES = {
    *("passwd", "login", "util-linux", "libpam-modules-bin", "libpam-modules"),
    *("openssh-client", "libutempter0", "iputils-ping"),
}


def test_set_user_id_programs_are_debians_own(box: Box) -> None:
    """Of these packages and at these paths only; none of a wheel, none of the project."""
    listed = box.run("find / -xdev -path /proc -prune -o -type f -perm /6000 -print").split()
    places = [f"{place}*" for place in SET_USER_ID_PLACES]
    assert [path for path in listed if not any(fnmatch(path, place) for place in places)] == []
    if listed:
        # dpkg knows some by the names that they had before /bin and /sbin were merged into /usr.
        ask = "for path in %s; do dpkg -S $path || dpkg -S ${path#/usr}; done 2>/dev/null"
        owned = box.run(ask % " ".join(listed)).splitlines()
        assert len(owned) == len(listed)
        packages = {line.partition(":")[0] for line in owned}
        assert packages <= SET_USER_ID_PACKAGES


def test_all_can_read_all(box: Box) -> None:
    """Files that only root can read would be missing for all other users."""
    command = f"find /{image_paths.PREFIX} /{image_paths.CUDA_HOME} "
    command += "\\( -type f ! -perm -444 -o -type d ! -perm -555 \\) -print"
    assert box.run(command).split() == []
    writable = f"find /{image_paths.PREFIX} /{image_paths.CUDA_HOME} ! -type l -perm /022 -print"
    assert box.run(writable).split() == [], "writable for others than root"
