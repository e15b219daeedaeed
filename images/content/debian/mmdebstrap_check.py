"""Checks that mmdebstrap can make a root file system here, before anything is fetched or made.

The requirements differ by user. Root mounts, or works in TMPDIR where that is not permitted; an
ordinary user needs a range of ids in /etc/subuid and /etc/subgid, and always works in TMPDIR.
"""

from __future__ import annotations

import os
import pwd
import shutil
from contextlib import suppress
from pathlib import Path

from images.errors import StoreError, ToolError
from images.util.progress import size

_SYSTEM = ":/usr/sbin:/sbin"  # the PATH of users lacks chroot's directory
_IDS = (Path("/etc/subuid"), Path("/etc/subgid"))
_ROOM = 900 << 20
"""Bytes of an unpacked base and its packages."""

_NOT_PLAIN = frozenset(' \t\n"\\#%')
"""Special characters in apt's sources and settings, which contain the path of the new root."""

_ACL = "system.posix_acl_default"
_CHOOSE = "set TMPDIR to another directory"


def search_path() -> str:
    """Return the search path for programs."""
    return os.environ.get("PATH", "") + _SYSTEM


def temporary() -> Path:
    """Return the directory of the new root where it cannot be with the caller's files."""
    return Path(os.environ.get("TMPDIR", "/tmp"))  # noqa: S108  # mmdebstrap's own default


def check_program() -> None:
    """Check that mmdebstrap is installed.

    Raises:
        ToolError: it is not.
    """
    if shutil.which("mmdebstrap", path=search_path()) is None:
        raise ToolError(
            "mmdebstrap: no such program",
            remedy="install it: apt-get install mmdebstrap uidmap",
        )


def check_user() -> None:
    """Check that an ordinary user has a range of user ids.

    Raises:
        ToolError: there is none, or the programs that map them are missing.
    """
    if absent := [name for name in ("newuidmap", "newgidmap") if not shutil.which(name)]:
        raise ToolError(
            f"{absent[0]}: no such program; an ordinary user needs it to make the base",
            remedy="install it: apt-get install uidmap; or run as root",
        )
    names = _names()
    for path in _IDS:
        if not names & _holders(path):
            user = min(names, key=str.isdecimal)
            raise ToolError(
                f"{path}: no line for {user}, who needs a range of ids to make the base",
                remedy=f"as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 "
                f"{user}; or run as root",
            )


def check_temporary(directory: Path) -> None:
    """Check that a root can be made in a directory for temporary files.

    Raises:
        ToolError: its name, its mount or its access control list does not permit it.
        StoreError: it has too little space, or is not writable.
    """
    shown = f"TMPDIR={directory}"
    if _NOT_PLAIN.intersection(str(directory)):
        raise ToolError(f"{shown!r}: apt does not support these characters", remedy=_CHOOSE)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise StoreError(f"{shown}: cannot be written", remedy=_CHOOSE)
    found = os.statvfs(directory)
    if found.f_flag & os.ST_NOEXEC:
        raise ToolError(
            f"{shown}: mounted noexec, but the base's programs must run there", remedy=_CHOOSE
        )
    if _hands_down(directory):
        raise ToolError(
            f"{shown}: its default access control list would change modes of the image's files",
            remedy=f"{_CHOOSE}, or remove the list: setfacl -k {directory}",
        )
    if (free := found.f_bavail * found.f_frsize) < _ROOM:
        raise StoreError(
            f"{shown}: {size(free)} free; the base is made there and needs {size(_ROOM)}",
            remedy=f"free some space there, or {_CHOOSE}",
        )


def make_plain(directory: Path) -> None:
    """Let files in a directory of the caller's keep their own groups and modes.

    A setgid bit or a default access control list would be inherited by all files below.
    """
    if _hands_down(directory):
        os.removexattr(directory, _ACL)
    directory.chmod(directory.stat().st_mode & 0o777)


def _hands_down(directory: Path) -> bool:
    try:
        return _ACL in os.listxattr(directory)
    except OSError:  # a file system without such lists
        return False


def _names() -> set[str]:
    """Return the names of this user in lines of /etc/subuid."""
    names = {str(os.geteuid())}
    with suppress(KeyError):  # no line in passwd
        names.add(pwd.getpwuid(os.geteuid()).pw_name)
    return names


def _holders(path: Path) -> set[str]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    return {line.partition(":")[0] for line in lines}
