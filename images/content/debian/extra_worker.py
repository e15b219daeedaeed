"""Finds what installing packages changes; run in the new root by the image's own interpreter.

`before STATE` notes every path of the root. `after STATE CHANGES GONE` writes a tar of the paths
that are new or differ, with the directories above them, and a list (JSON) of the paths that are no
longer there.
"""

import hashlib
import json
import os
import stat
import sys
import tarfile
from pathlib import Path
from typing import Any

# Of the container engine, of the build itself, of nobody. In /tmp are files of mmdebstrap's.
_FOREIGN = {"dev", "proc", "sys", "extra", "tmp", "var/tmp"}

Facts = list[Any]
"""Kind, owner, mode and content of a path, as JSON has them."""


def state(root: str) -> dict[str, Facts]:
    """The facts of all paths below a root, relative to it; other file systems are not entered."""
    device = os.lstat(root).st_dev
    found: dict[str, Facts] = {}
    waiting = [""]
    while waiting:
        directory = waiting.pop()
        for entry in os.scandir(os.path.join(root, directory)):  # noqa: PTH118  # bytes may be odd
            path = f"{directory}/{entry.name}".lstrip("/")
            info = entry.stat(follow_symlinks=False)
            if path in _FOREIGN or info.st_dev != device:
                continue
            found[path] = _facts(entry.path, info)
            if stat.S_ISDIR(info.st_mode):
                waiting.append(path)
    return found


def _facts(path: str, info: os.stat_result) -> Facts:
    owner = [stat.S_IFMT(info.st_mode), stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid]
    if stat.S_ISREG(info.st_mode):
        return [*owner, _digest(path)]
    if stat.S_ISLNK(info.st_mode):
        return [*owner, str(Path(path).readlink())]
    return [*owner, info.st_rdev]


def _digest(path: str) -> str:
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def changed(before: dict[str, Facts], after: dict[str, Facts]) -> list[str]:
    """The paths that are new or differ, and the directories above them, sorted."""
    found = {path for path, facts in after.items() if before.get(path) != facts}
    above = {str(parent) for path in found for parent in Path(path).parents}
    return sorted((found | above) - {"."})


def save(root: str, paths: list[str], file: str) -> None:
    """Write a tar of paths below a root."""
    with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as tar:
        for path in paths:
            tar.add(Path(root, path), f"./{path}", recursive=False)


def main(arguments: list[str]) -> None:
    """Do what the first argument says."""
    if arguments[0] == "before":
        Path(arguments[1]).write_text(json.dumps(state("/")), encoding="ascii")
        return
    _, noted, changes, gone = arguments
    before = json.loads(Path(noted).read_text(encoding="ascii"))
    after = state("/")
    Path(gone).write_text(json.dumps(sorted(set(before) - set(after))), encoding="ascii")
    save("/", changed(before, after), changes)


if __name__ == "__main__":
    main(sys.argv[1:])
