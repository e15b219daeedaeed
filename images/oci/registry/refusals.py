"""Responses by which a registry refuses a request, and the errors that keep them.

Specification: OCI Distribution Spec 1.1, "Error codes". Registries differ in which status goes with
a code, and some return several codes at once. The specification has no code for an immutable tag,
an unsupported layer type or a body that is too large, so these are recognized by the registry's own
text: here alone, everybody else reads fields.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from images.errors import LoginError, RegistryError
from images.http.session import public_text
from images.util import untrusted_json

if TYPE_CHECKING:
    import requests

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_BLOB_UNKNOWN = re.compile(r"blob (?:is )?(?:unknown|not found|missing)|(?:unknown|missing) blob")
_IMMUTABLE = re.compile(
    r"immutab|(?:cannot|can't|can not) be (?:overwritten|moved|updated)|is locked"
)
_TYPES = re.compile(r"zstd|media ?type|unsupported|not supported|schema")
_CONTENDED = (404, 409, 410, 416)
"""Of a manifest whose blobs are there: returned while another client writes the same one."""

_UNSUPPORTED = (400, 406, 415, 422)
_MAX_TEXT = 20_000  # bytes of a response whose text is searched
_MAX_SUMMARY = 300  # characters of a registry's own text in a message


@dataclass(frozen=True, slots=True)
class Refusal:
    """A response that refuses a request.

    Attributes:
        status: HTTP status.
        codes: error codes, of the specification or the registry's own.
        summary: status, codes and messages in one line, safe to print.
        text: the body in lower case.
        digests: the digests in the body.
    """

    status: int
    codes: frozenset[str] = frozenset()
    summary: str = ""
    text: str = ""
    digests: frozenset[str] = frozenset()

    @property
    def lacks_blob(self) -> bool:
        """Whether a blob that the manifest names is not there."""
        coded = any(code.endswith("BLOB_UNKNOWN") for code in self.codes)
        return coded or _BLOB_UNKNOWN.search(self.text) is not None

    @property
    def retryable(self) -> bool:
        """Whether the registry may accept the same manifest a moment later.

        A digest is never invalid: it was made from these very bytes. Distribution returns
        DIGEST_INVALID while another client writes the same manifest, along with BLOB_UNKNOWN.
        """
        contended = self.status in _CONTENDED and not self.lacks_blob
        return not self.immutable_tag and (contended or "DIGEST_INVALID" in self.codes)

    @property
    def immutable_tag(self) -> bool:
        """Whether the tag is one that the registry never moves."""
        return _IMMUTABLE.search(self.text) is not None

    @property
    def unsupported(self) -> bool:
        """Whether the registry does not support the manifest's form, or a type in it."""
        if self.status not in _UNSUPPORTED:
            return False
        if self.lacks_blob or self.retryable or self.immutable_tag:
            return False
        coded = self.codes & {"MANIFEST_INVALID", "UNSUPPORTED", "UNSUPPORTED_MEDIA_TYPE"}
        return bool(coded) or self.status == 415 or _TYPES.search(self.text) is not None

    @property
    def unsupported_zstd(self) -> bool:
        """Whether zstd is what the registry does not support."""
        return self.unsupported and "zstd" in self.text

    @property
    def too_large(self) -> bool:
        """Whether the request's body is larger than the registry, or a proxy, accepts.

        Some return 416 for it; without these words, 416 is of a range that does not fit.
        """
        return self.status == 413 or (self.status == 416 and "too large" in self.text)


class RefusedError(RegistryError):
    """A registry refused a request.

    Attributes:
        refusal: its response.
    """

    def __init__(self, message: str, refusal: Refusal, *, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.refusal = refusal


class DeniedError(RefusedError, LoginError):
    """A registry refused a request because the login is not allowed to make it."""


class UnsupportedError(RefusedError):
    """The registry does not support a manifest's form, or the type of a blob that it names."""


class BlobUnknownError(RefusedError):
    """A manifest names a blob that the repository does not have."""


class PayloadTooLargeError(RefusedError):
    """The registry, or a proxy before it, accepts no request body of that size."""


class NotFoundError(RegistryError):
    """The repository does not have a manifest or a blob."""


def of(response: requests.Response) -> Refusal:
    """Parse a response; one in an unknown format has a text alone."""
    body = _body(response)
    errors = _errors(body)
    details = "; ".join(": ".join(filter(None, error)) for error in errors)
    details = " ".join(public_text(details or response.reason or "").split())[:_MAX_SUMMARY]
    text = body[:_MAX_TEXT].decode("utf-8", "replace")
    return Refusal(
        response.status_code,
        frozenset(code for code, _ in errors),
        f"HTTP {response.status_code} {details}".rstrip(),
        text.lower(),
        frozenset(_DIGEST.findall(text)),
    )


def _body(response: requests.Response) -> bytes:
    try:
        return response.content or b""
    except OSError:  # the connection broke; the status counts all the same
        return b""


def _errors(body: bytes) -> list[tuple[str, str]]:
    """Return the code and the message of each error."""
    try:
        items: list[dict[str, Any]] = untrusted_json.loads(body)["errors"]
        return [(str(item.get("code", "")), str(item.get("message") or "")) for item in items]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


def of_manifest(error: RefusedError, repository: str, tag: str | None) -> RefusedError:
    """Return the particular error for a manifest that is finally refused.

    Args:
        error: the error for any refused request.
        repository: for the remedy.
        tag: the tag that the manifest was to get; None where it was put under its digest.
    """
    refusal = error.refusal
    if tag and refusal.immutable_tag:
        remedy = f"the registry never moves that tag: push under another, {repository}:ANOTHER-TAG"
        return RefusedError(error.message, refusal, remedy=remedy)
    if refusal.lacks_blob:
        return BlobUnknownError(error.message, refusal, remedy=error.remedy)
    if refusal.unsupported:
        return UnsupportedError(error.message, refusal, remedy=error.remedy)
    return error
