"""A user without a line in passwd, and a HOME that cannot be written.

Kubernetes and `docker run --user` start a container as a uid that no file of the image knows,
with `HOME=/`. Python then has no name for the user (`getpass.getuser` raises KeyError, and
torch reads the name at import), and every cache below HOME fails. An entrypoint may not run, so
this is put right at the interpreter's start, for the process and what it starts. Programs that read
passwd themselves (ssh, sudo, whoami) are not reached.

Imported by `_hooks` only where something is missing; no import here that is not loaded anyway.
"""

import os
import stat

from roll_runtime.marks import MARK, is_ours, mark

# See __init__.py: `typing` costs more than all of this.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from typing import Any

NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")
"""Variables that Python reads the user's name from before passwd, in its order."""

SETTING = "ROLL_RUNTIME_HOME"
"""`keep`: HOME is left as it is, writable or not."""


def name_of(uid: int) -> str:
    """Return the name of a user without a line in passwd."""
    return f"uid{uid}"


def settle(environ: "MutableMapping[str, str] | None" = None) -> None:
    """Set a user's name and a writable HOME where the process lacks them.

    Args:
        environ: the environment to change; the process's own by default.
    """
    env = os.environ if environ is None else environ
    uid = os.getuid()
    line = passwd_line(uid)
    if line is None and not any(env.get(name) for name in NAMES):
        env["USER"] = env["LOGNAME"] = name_of(uid)
    home = env.get("HOME") or (line.pw_dir if line is not None else "")
    if not is_usable(home) and env.get(SETTING) != "keep":
        home = own_home(env, uid) or home
    if home:
        # Also where it was not set: a shell that is started does not read it from passwd.
        env["HOME"] = home
    if line is None:
        _answer_for(uid, env)


def passwd_line(uid: int) -> "Any":
    """Return the line of a user in passwd, or `None`."""
    import pwd

    try:
        line = pwd.getpwuid(uid)
    except KeyError:
        return None
    return None if line.pw_gecos == MARK else line


def is_usable(home: str) -> bool:
    """Return whether a HOME can be written, or made where it is not there."""
    if not home.startswith("/"):
        return False
    while not os.path.exists(home):  # noqa: PTH110 - pathlib is an import of milliseconds
        home = os.path.dirname(home)  # noqa: PTH120
    return os.path.isdir(home) and os.access(home, os.W_OK | os.X_OK)  # noqa: PTH112


def home_path(environ: "MutableMapping[str, str]", uid: int) -> str:
    """Return where the HOME of a user without one is: one for each uid, below the temporary files.

    The first of TMPDIR, /tmp and /var/tmp that can be written, as Python's `tempfile` chooses.
    """
    bases = (environ.get("TMPDIR") or "/tmp", "/tmp", "/var/tmp")  # noqa: S108
    base = next((base for base in bases if os.access(base, os.W_OK | os.X_OK)), bases[0])
    return f"{base.rstrip('/')}/roll-home-{uid}"


def own_home(environ: "MutableMapping[str, str]", uid: int) -> "str | None":
    """Make the HOME of a user without one; `None` where it cannot be, or another user owns it.

    Everyone may write where temporary files are, so what is there is used only if it is a directory
    of this very user; others are shut out of it.
    """
    path = home_path(environ, uid)
    try:
        _make(path)
        found = os.lstat(path)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid:
            return None
        if found.st_mode & 0o077:
            os.chmod(path, 0o700)  # noqa: PTH101
    except OSError:
        return None
    return path


def _make(path: str) -> None:
    try:
        os.mkdir(path, 0o700)  # noqa: PTH102
    except FileExistsError:  # by a process before, or one that starts at the same time
        return


def _answer_for(uid: int, environ: "MutableMapping[str, str]") -> None:
    """Let `pwd.getpwuid` know this one uid: some programs do not read the environment."""
    import pwd

    upstream = pwd.getpwuid
    if is_ours(upstream):
        return
    name = next((environ[name] for name in NAMES if environ.get(name)), name_of(uid))
    home = environ.get("HOME", "/")
    line = pwd.struct_passwd((name, "x", uid, os.getgid(), MARK, home, "/bin/sh"))

    def getpwuid(number: int, /) -> "Any":
        try:
            return upstream(number)
        except KeyError:
            if number == uid:
                return line
            raise

    pwd.getpwuid = mark(getpwuid)
