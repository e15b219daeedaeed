"""One exception class for each failure that a person can mend.

`build.py` is the only place that catches them: it prints the message and exits with `exit_code`.
"""

from __future__ import annotations

from typing import TypeVar

from images import printable

_E = TypeVar("_E", bound="BuildError")


class BuildError(Exception):
    """A failure with a cause and a remedy.

    Both texts may quote what somebody else wrote: they are made fit for a terminal here, at the one
    place that all of them pass.

    Args:
        message: what was wrong and where, in one line or a list of lines.
        remedy: the command or change that mends it; printed after the message.

    Attributes:
        usual: the remedy where none is given, for classes that have one.
        particular: the remedy of this very failure, None where `usual` stands for it.
    """

    exit_code = 1
    usual: str | None = None

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        self.message = printable.lines(message)
        self.particular = printable.lines(remedy) if remedy else None
        self.remedy = self.particular or self.usual
        super().__init__(self.message)

    def reworded(self: _E, message: str | None = None, *, remedy: str | None = None) -> _E:
        """Return the same failure, all fields of its class kept, with other texts.

        Args:
            message: None keeps the message.
            remedy: None keeps the remedy.
        """
        copied = type(self).__new__(type(self))
        copied.__dict__.update(self.__dict__)
        BuildError.__init__(copied, message or self.message, remedy=remedy or self.particular)
        return copied


class UsageError(BuildError):
    """The command line asks for something that does not exist or does not fit together."""

    exit_code = 2
    usual = "python build.py --help, or --help behind a command"


class MatrixError(BuildError):
    """matrix.yaml is not valid; the message lists every fault with its line."""

    exit_code = 3
    usual = (
        "correct the matrix; README.md explains its keys, and `python build.py list` reads it again"
    )


class LockError(BuildError):
    """A lock is missing, stale, edited by hand, or cannot be made."""

    exit_code = 4
    usual = "correct what matrix.yaml asks for, then: python build.py lock --target ID"


class FetchError(BuildError):
    """A locked file cannot be had: gone from the index or the mirror, or the network failed."""

    exit_code = 5


class IntegrityError(BuildError):
    """Bytes are not what their digest, their lock or their RECORD says."""

    exit_code = 6


class ConflictError(IntegrityError):
    """Two distributions of a target bring files that cannot both be in its image."""


class StoreError(BuildError):
    """The store cannot be read or written: not a layout, disk full, no permission."""

    exit_code = 7
    usual = "let this user read and write there, or name another place with --store or --cache"


class OutputError(BuildError):
    """A result cannot be written: standard output or the file of `--out` is full or closed."""

    exit_code = StoreError.exit_code


class ToolError(BuildError):
    """A program that the build needs is missing or failed."""

    exit_code = 8


class DockerError(BuildError):
    """The Docker daemon cannot be reached or refused the request."""

    exit_code = 9
    usual = "the daemon's own log tells more: journalctl -u docker"


class ImageTestError(BuildError):
    """The tests of an image ran and did not pass."""

    exit_code = 10


class EvidenceError(BuildError):
    """What is kept of an image's run on a GPU cannot be read or written."""


class RegistryError(BuildError):
    """A registry cannot be reached, refused a request, or broke off too often."""

    exit_code = 11
    usual = "the registry's own log tells more; the same command goes on where this one stopped"


class LoginError(RegistryError):
    """A registry wants a login, or another one, or a login cannot be read."""

    exit_code = 12


class BudgetError(BuildError):
    """An image is larger than the budget that the matrix gives it."""

    exit_code = 13
