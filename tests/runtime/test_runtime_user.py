"""A user whom passwd does not know, and a HOME that cannot be written: what each process gets."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from runtime_support import clean_environ

from roll_runtime import user

UID = 54321
#: A process that is this user to itself: the kernel takes it for the user who started it, so it can
#: read the interpreter's files, wherever they are.
AS_UID = ("unshare", "--user", f"--map-user={UID}")
#: Nobody can write there, whatever the user.
UNWRITABLE = "/proc"
LOOK = """
import getpass, json, os, pathlib, pwd, subprocess, sys

def asked(what):
    try:
        return what()
    except Exception as error:
        return type(error).__name__

home = lambda: str(pathlib.Path.home())
line = lambda: list(pwd.getpwuid(os.getuid()))[:2] + [pwd.getpwuid(os.getuid()).pw_dir]
found = [asked(getpass.getuser), asked(home), asked(line), asked(lambda: pwd.getpwuid(999999999))]
if "child" in sys.argv:
    print(json.dumps(found))
else:
    done = subprocess.run([sys.executable, __file__, "child"], capture_output=True, text=True)
    print(json.dumps([found, json.loads(done.stdout)]))
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory for temporary files, with the script."""
    if subprocess.run([*AS_UID, "true"], capture_output=True).returncode:
        pytest.skip("the kernel lets no user namespace be made: unshare --user --map-user")
    (tmp_path / "look.py").write_text(LOOK)
    (tmp_path / "tmp").mkdir()
    return tmp_path


def look(python: Path, place: Path, env: dict[str, str]) -> list[list[object]]:
    """Return what a process of the user sees, and a process that it starts."""
    given = {
        name: value
        for name, value in clean_environ().items()
        if name not in (*user.NAMES, "HOME", "TMPDIR")
    }
    done = subprocess.run(
        [*AS_UID, str(python), str(place / "look.py")],
        env={**given, "TMPDIR": str(place / "tmp"), **env},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    seen: list[list[object]] = json.loads(done.stdout)
    assert seen[0] == seen[1], "a child sees what its parent sees"
    assert seen[0][3] == "KeyError", "other uids stay unknown"
    return seen


@pytest.mark.parametrize("home", [UNWRITABLE, f"{UNWRITABLE}/made", "", None])
def test_unknown_user_gets_a_name_and_a_home(python: Path, place: Path, home: str | None) -> None:
    env = {} if home is None else {"HOME": home}
    own = str(place / "tmp" / f"roll-home-{UID}")
    seen = look(python, place, env)
    assert seen[0][:3] == [f"uid{UID}", own, [f"uid{UID}", "x", own]]
    found = Path(own).stat()
    assert (found.st_mode & 0o777, found.st_uid) == (0o700, os.geteuid())


def test_name_and_home_that_were_given_stay(python: Path, place: Path) -> None:
    home = str(place / "tmp")
    seen = look(python, place, {"HOME": home, "USER": "somebody"})
    assert seen[0][:2] == ["somebody", home]
    assert not (place / "tmp" / f"roll-home-{UID}").exists()


def test_home_may_be_kept(python: Path, place: Path) -> None:
    env = {"HOME": UNWRITABLE, "ROLL_RUNTIME_HOME": "keep"}
    assert look(python, place, env)[0][1] == UNWRITABLE


def test_kill_switch_leaves_all_as_it_is(python: Path, place: Path) -> None:
    env = {"HOME": UNWRITABLE, "ROLL_RUNTIME_AUTOLOAD": "0"}
    name, home, login = look(python, place, env)[0][:3]
    assert name in ("KeyError", "OSError")  # getpass.getuser() before and from Python 3.13 on
    assert (home, login) == (UNWRITABLE, "KeyError")


@pytest.mark.parametrize("kind", ["directory", "link", "file"])
def test_home_of_somebody_else_is_refused(python: Path, place: Path, kind: str) -> None:
    """Everyone may put something there before: it is not used, and HOME stays what it was."""
    taken = place / "tmp" / f"roll-home-{UID}"
    if kind == "directory":
        if os.geteuid() != 0:
            pytest.skip("root alone can make another user's directory")
        taken.mkdir(mode=0o777)
        os.chown(taken, UID + 1, UID + 1)
    elif kind == "link":
        taken.symlink_to(place / "tmp")
    else:
        taken.touch()
    assert look(python, place, {"HOME": UNWRITABLE})[0][1] == UNWRITABLE


def test_own_home_is_shut_for_others(python: Path, place: Path) -> None:
    own = place / "tmp" / f"roll-home-{UID}"
    own.mkdir()
    own.chmod(0o777)
    assert look(python, place, {"HOME": UNWRITABLE})[0][1] == str(own)
    assert own.stat().st_mode & 0o777 == 0o700


def test_known_user_is_left_alone(tmp_path: Path) -> None:
    line = user.passwd_line(os.getuid())
    if line is None:
        pytest.skip("passwd does not know the user who runs the tests")
    given = {"HOME": str(tmp_path)}
    user.settle(given)
    assert given == {"HOME": str(tmp_path)}
    unset: dict[str, str] = {}
    user.settle(unset)
    assert unset == {"HOME": line.pw_dir}, "for what is started: a shell does not ask passwd"


@pytest.mark.parametrize("home", ["", "~", "relative", "/dev/null"])
def test_what_is_no_home(home: str) -> None:
    assert not user.is_usable(home)


def test_home_that_can_be_made_is_one(tmp_path: Path) -> None:
    assert user.is_usable(str(tmp_path / "not" / "there" / "yet"))
