"""One exception class per failure that the user can fix.

An error that ends a command is caught by `build.py`, which prints its message and exits with
`exit_code`.
"""

from __future__ import annotations

from typing import TypeVar

from images import printable

_E = TypeVar("_E", bound="BuildError")


class BuildError(Exception):
    """A failure with a cause and a remedy.

    Both texts may quote untrusted input. They are escaped for a terminal here, since every error
    passes here.

    Args:
        message: what was wrong and where, in one line or a list of lines.
        remedy: the command or change that fixes it; printed after the message.

    Attributes:
        usual: the default remedy of a class; None if it has none.
        particular: the remedy given for this failure; None if `usual` is used.
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
    """The command line names something that does not exist, or options that exclude each other."""

    exit_code = 2
    usual = "python build.py --help, or python build.py COMMAND --help"


class MatrixError(BuildError):
    """matrix.yaml is invalid; the message lists every fault with its line."""

    exit_code = 3
    usual = (
        "correct the matrix; docs/matrix.md explains its keys, and `python build.py list` reads it "
        "again"
    )


class LockError(BuildError):
    """A lock is missing, stale or edited by hand, or cannot be resolved."""

    exit_code = 4
    usual = "correct what matrix.yaml asks for, then: python build.py lock --target ID"


class FetchError(BuildError):
    """A locked file is unavailable: removed from the index or mirror, or the network failed."""

    exit_code = 5


class IntegrityError(BuildError):
    """Bytes do not match their digest, their lock or their RECORD."""

    exit_code = 6


class ConflictError(IntegrityError):
    """Two distributions of a target install files that cannot both be in its image."""


class StoreError(BuildError):
    """The store cannot be read or written: not an OCI layout, disk full, no permission."""

    exit_code = 7
    usual = "let this user read and write there, or name another directory with --store or --cache"


class OutputError(BuildError):
    """A result cannot be written: standard output or the file of `--out` is full or closed."""

    exit_code = StoreError.exit_code


class ToolError(BuildError):
    """A program that the build needs is missing or failed."""

    exit_code = 8


class DockerError(BuildError):
    """The Docker daemon cannot be reached or refused the request."""

    exit_code = 9
    usual = "read the daemon's log: journalctl -u docker"


class ImageTestError(BuildError):
    """The tests of an image ran and did not pass."""

    exit_code = 10


class EvidenceError(BuildError):
    """The evidence of an image's run on a GPU cannot be read or written."""


class RegistryError(BuildError):
    """A registry cannot be reached, refused a request, or dropped the connection too often."""

    exit_code = 11
    usual = "read the registry's log; run the same command again to resume"


class LoginError(RegistryError):
    """A registry requires a login or rejects the one given, or credentials cannot be read."""

    exit_code = 12


class BudgetError(BuildError):
    """An image is larger than its budget in the matrix."""

    exit_code = 13
