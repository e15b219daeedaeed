"""Queries of a git work tree that may belong to another user.

git refuses such a tree (CVE-2022-24765), since its settings name programs that even `git status`
runs. It is read nevertheless, with every setting off that would run one: a build in a container
often has a checkout of another uid.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

_REFUSED = "dubious ownership"
_FILTERS = r"^filter\..*\.(clean|smudge|process)$"
_STATUS = ("status", "--porcelain", "--ignore-submodules=dirty", "--")
_HARMLESS = (
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "protocol.allow=never"),  # a partial clone would fetch what it lacks, by any program
)


class Git:
    """A work tree.

    Args:
        root: its top directory, or one below.

    Raises:
        FileNotFoundError: git is not installed.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._options: tuple[str, ...] = ()
        if _REFUSED in self._run("rev-parse", "--show-toplevel").stderr:
            self._options = ("-c", f"safe.directory={root.resolve()}", *_HARMLESS)
            self._options += tuple(self._without_filters())

    def ask(self, *arguments: str) -> str:
        """Return the output of a git command.

        Raises:
            ValueError: it fails; with the last line of git's message.
        """
        done = self._run(*arguments)
        if done.returncode:
            raise ValueError((done.stderr.strip().splitlines() or ["no reason given"])[-1])
        return done.stdout.strip()

    @property
    def top(self) -> Path:
        """The top directory of the work tree; raises ValueError as `ask`."""
        return Path(self.ask("rev-parse", "--show-toplevel"))

    @property
    def commit(self) -> str:
        """The commit's hexadecimal id; raises ValueError as `ask`."""
        return self.ask("rev-parse", "HEAD")

    def changed(self, *paths: str) -> bool:
        """Return whether files (all, or those below some paths) differ from the commit."""
        return bool(self.ask(*_STATUS, *paths))

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["git", *self._options, "-C", str(self._root), *arguments]
        env = {**os.environ, "LC_ALL": "C"}  # its messages are parsed
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    def _without_filters(self) -> Iterator[str]:
        """Yield options that remove the program of every filter in the tree's settings."""
        named = self._run("config", "--null", "--name-only", "--get-regexp", _FILTERS).stdout
        for setting in filter(None, named.split("\0")):
            yield from ("-c", f"{setting}=")
            yield from ("-c", f"{setting.rpartition('.')[0]}.required=false")
