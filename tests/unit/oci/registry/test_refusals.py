"""Meaning of the responses by which registries refuse a request; their text is of real ones."""

from __future__ import annotations

import json

import pytest
import requests

from images.errors import LoginError
from images.oci.registry import refusals
from images.oci.registry.refusals import (
    BlobUnknownError,
    DeniedError,
    Refusal,
    RefusedError,
    UnsupportedError,
)


def answer(status: int, *errors: object, body: bytes | None = None) -> Refusal:
    response = requests.Response()
    response.status_code = status
    response._content = json.dumps({"errors": errors}).encode() if body is None else body
    return refusals.of(response)


def error(code: str, message: str = "", **more: object) -> dict[str, object]:
    return {"code": code, "message": message, **more}


@pytest.mark.parametrize(
    ("refusal", "meaning"),
    [
        (answer(400, error("MANIFEST_BLOB_UNKNOWN", "blob unknown to registry")), "lacks_blob"),
        (answer(404, error("BLOB_UNKNOWN")), "lacks_blob"),
        (answer(400, error("MANIFEST_INVALID", "blob not found")), "lacks_blob"),
        (answer(400, error("DIGEST_INVALID"), error("BLOB_UNKNOWN")), "lacks_blob retryable"),
        (answer(400, error("DIGEST_INVALID", "provided digest did not match")), "retryable"),
        (answer(409, error("CONFLICT")), "retryable"),
        (answer(404, body=b"<html>"), "retryable"),
        (answer(412, error("PRECONDITION", "'app:v1' configured as immutable.")), "immutable_tag"),
        (answer(400, error("TAG_INVALID", "it cannot be overwritten")), "immutable_tag"),
        (answer(409, error("TAG_IMMUTABLE")), "immutable_tag"),
        (answer(400, error("MANIFEST_INVALID", "manifest invalid")), "unsupported"),
        (answer(415, body=b""), "unsupported"),
        (answer(400, error("UNSUPPORTED")), "unsupported"),
        (answer(400, body=b"unknown layer mediaType ...tar+zstd"), "unsupported unsupported_zstd"),
        (answer(413, body=b"<html>"), "too_large"),
        (answer(416, error("SIZE_INVALID", "too large")), "retryable too_large"),
        (answer(403, error("DENIED", "media type")), ""),
        (answer(400, error("QUOTA", "used up")), ""),
        (answer(412, error("PROJECTPOLICYVIOLATION", "needs a signature")), ""),
    ],
)  # fmt: skip
def test_meaning_of_a_refusal(refusal: Refusal, meaning: str) -> None:
    names = (
        "lacks_blob", "retryable", "immutable_tag", "unsupported", "unsupported_zstd", "too_large"
    )  # fmt: skip
    assert " ".join(name for name in names if getattr(refusal, name)) == meaning


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b'{"errors":null}', b'{"errors":[1]}', b'{"errors":{"a":1}}', b"\xff\xfe",
     b"[" * 100_000, b'{"errors":[{"code":["x"]}]}', b"9" * 10_000],
)  # fmt: skip
def test_responses_in_an_unknown_format(body: bytes) -> None:
    assert answer(400, body=body).status == 400


def test_errors_keep_status_and_codes() -> None:
    digest = "sha256:" + "a" * 64
    refusal = answer(404, error("BLOB_UNKNOWN", detail={"digest": digest}))
    assert (refusal.status, refusal.codes) == (404, frozenset({"BLOB_UNKNOWN"}))
    assert refusal.digests == {digest}
    denied = DeniedError("m", refusal, remedy="log in")
    assert isinstance(denied, LoginError)
    assert denied.exit_code == LoginError.exit_code
    reworded = denied.reworded("n")
    assert type(reworded) is DeniedError
    assert (reworded.message, reworded.remedy, reworded.refusal) == ("n", "log in", refusal)
    assert denied.message == "m"


def test_particular_errors_of_a_manifest() -> None:
    def particular(refusal: Refusal, tag: str | None = "v1") -> RefusedError:
        return refusals.of_manifest(RefusedError("m", refusal), "host/app", tag)

    immutable = particular(Refusal(403, text="immutable"))
    assert type(immutable) is RefusedError
    assert "host/app:ANOTHER-TAG" in str(immutable.remedy)
    assert particular(Refusal(403, text="immutable"), None).remedy == RefusedError.usual
    assert isinstance(particular(answer(404, error("BLOB_UNKNOWN"))), BlobUnknownError)
    assert isinstance(particular(Refusal(415)), UnsupportedError)
