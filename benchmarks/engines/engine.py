"""The interface of an engine that pulls, and what all engines share."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

ENDS_WITH_US = ("setpriv", "--pdeathsig", "KILL")
"""The beginning of a command that the kernel ends when this process is gone, however it ends."""
OWN_MOUNTS = (*ENDS_WITH_US, "unshare", "--mount", "--propagation", "private", "--")
"""The same, with mounts that nobody else sees and that are gone with the command."""


class Engine(Protocol):
    """An engine with empty storage when it is made."""

    def running(self) -> AbstractContextManager[Sequence[int]]:
        """Start its daemon, if it has one; yield process ids; remove its storage at the end."""

    def pull(self, reference: str) -> Sequence[str]:
        """Return the command that pulls an image, as users run it."""

    def used(self) -> int:
        """Return the bytes on disk of its storage."""

    def versions(self) -> Mapping[str, str]:
        """Return the versions of its programs."""


def disk_used(path: Path) -> int:
    """Return the bytes on disk of a directory."""
    if not path.exists():
        return 0
    command = ["du", "--summarize", "--block-size=1", str(path)]
    return int(subprocess.check_output(command, text=True).split()[0])
