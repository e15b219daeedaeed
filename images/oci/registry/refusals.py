"""What a registry means by refusing a manifest: its status, its codes and its words together.

Specification: OCI Distribution Spec 1.1, "Error codes". Registries differ in which status goes with
a code, some give several codes at once, and what has no code there (a tag that cannot be moved, a
type of layer that is not known) is in their words alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from images.errors import RegistryError
from images.util import untrusted_json

if TYPE_CHECKING:
    import requests

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LACKING = re.compile(r"blob (?:is )?(?:unknown|not found|missing)|(?:unknown|missing) blob")
_FIXED = re.compile(r"immutab|(?:cannot|can't|can not) be (?:overwritten|moved|updated)|is locked")
_TYPES = re.compile(r"zstd|media ?type|unsupported|not supported|schema")
_PASSING = (404, 409, 410, 416)
"""Of a manifest whose blobs have been taken: told while another client brings the same."""

_UNFIT = (400, 406, 415, 422)
_LONGEST = 20_000  # bytes of an answer whose words are looked at


class NotFoundError(RegistryError):
    """The registry answers, and does not have a manifest or a blob.

    Args:
        message: what was wrong, in one line.
        remedy: what helps.
        lacking: digests that the registry names; empty where it names none.
    """

    def __init__(
        self, message: str, *, remedy: str | None = None, lacking: frozenset[str] = frozenset()
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.lacking = lacking


class UnsupportedError(RegistryError):
    """The registry does not know a manifest's form, or the type of something that it names."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A registry's answer to a manifest that it does not take.

    Attributes:
        status: of HTTP.
        codes: those of the specification, and a registry's own.
        words: all that it says, in lower case.
        named: digests that it speaks of.
    """

    status: int
    codes: frozenset[str] = frozenset()
    words: str = ""
    named: frozenset[str] = frozenset()

    @property
    def lacks_blob(self) -> bool:
        """Whether a blob that the manifest names is said not to be there."""
        told = any(code.endswith("BLOB_UNKNOWN") for code in self.codes)
        return told or _LACKING.search(self.words) is not None

    @property
    def may_pass(self) -> bool:
        """Whether the same request may be taken a moment later.

        A digest is never invalid: it was made from these very bytes. Distribution says so while
        another client writes the same manifest, and that blobs are unknown, both at once.
        """
        at_once = self.status in _PASSING and not self.lacks_blob
        return not self.fixed and (at_once or "DIGEST_INVALID" in self.codes)

    @property
    def fixed(self) -> bool:
        """Whether a tag is said to be one that cannot be moved."""
        return _FIXED.search(self.words) is not None

    @property
    def unfit(self) -> bool:
        """Whether the manifest's form, or a type in it, is said to be none that is taken."""
        if self.status not in _UNFIT or self.lacks_blob or self.may_pass or self.fixed:
            return False
        told = self.codes & {"MANIFEST_INVALID", "UNSUPPORTED", "UNSUPPORTED_MEDIA_TYPE"}
        return bool(told) or self.status == 415 or _TYPES.search(self.words) is not None


def of(response: requests.Response) -> Refusal:
    """What an answer says; one in no form that is known has words alone."""
    text = (response.content or b"")[:_LONGEST].decode("utf-8", "replace")
    try:
        items = untrusted_json.loads(response.content)["errors"]
        codes = frozenset(str(item.get("code", "")) for item in items)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        codes = frozenset()
    named = frozenset(_DIGEST.findall(text))
    return Refusal(response.status_code, codes, text.lower(), named)


def error_of(refusal: Refusal, told: RegistryError, place: str, tag: str | None) -> RegistryError:
    """The error for a manifest that is finally refused.

    Args:
        refusal: the answer.
        told: the error that any refused request would end in.
        place: the repository.
        tag: the tag that the manifest was to get; None where it was put under its digest.
    """
    if tag and refusal.fixed:
        remedy = f"the registry lets nobody move that tag: push under another, {place}:ANOTHER-TAG"
        return RegistryError(told.message, remedy=remedy)
    if refusal.lacks_blob:
        return NotFoundError(told.message, remedy=told.remedy, lacking=refusal.named)
    if refusal.unfit:
        return UnsupportedError(told.message, remedy=told.remedy)
    return told
