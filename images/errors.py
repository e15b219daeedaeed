"""One exception class for each failure that a person can mend.

`build.py` is the only place that catches them: it prints the message and exits with `exit_code`.
"""

from __future__ import annotations


class BuildError(Exception):
    """A failure with a cause and a remedy.

    Args:
        message: what was wrong and where, in one line or a list of lines.
        remedy: the command or change that mends it; printed after the message.
    """

    exit_code = 1

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class UsageError(BuildError):
    """The command line asks for something that does not exist or does not fit together."""

    exit_code = 2


class MatrixError(BuildError):
    """matrix.yaml is not valid; the message lists every fault with its line."""

    exit_code = 3


class LockError(BuildError):
    """A lock is missing, stale, edited by hand, or cannot be made."""

    exit_code = 4


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


class ToolError(BuildError):
    """A program that the build needs is missing or failed."""

    exit_code = 8


class DockerError(BuildError):
    """The Docker daemon cannot be reached or refused the request."""

    exit_code = 9


class ImageTestError(BuildError):
    """The tests of an image ran and did not pass."""

    exit_code = 10


class EvidenceError(BuildError):
    """What is kept of an image's run on a GPU cannot be read or written."""


class RegistryError(BuildError):
    """A registry cannot be reached, refused a request, or broke off too often."""

    exit_code = 11


class LoginError(RegistryError):
    """A registry wants a login, or another one, or a login cannot be read."""

    exit_code = 12


class BudgetError(BuildError):
    """An image is larger than the budget that the matrix gives it."""

    exit_code = 13
