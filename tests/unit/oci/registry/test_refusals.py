"""What registries mean by their answers to a manifest; the words are those of real ones."""

from __future__ import annotations

import json

import pytest
import requests

from images.errors import LoginError, RegistryError
from images.oci.registry import refusals
from images.oci.registry.refusals import NotFoundError, Refusal, UnsupportedError


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
        (answer(400, error("DIGEST_INVALID"), error("BLOB_UNKNOWN")), "lacks_blob may_pass"),
        (answer(400, error("DIGEST_INVALID", "provided digest did not match")), "may_pass"),
        (answer(409, error("CONFLICT")), "may_pass"),
        (answer(404, body=b"<html>"), "may_pass"),
        (answer(412, error("PRECONDITION", "'app:v1' configured as immutable.")), "fixed"),
        (answer(400, error("TAG_INVALID", "it cannot be overwritten")), "fixed"),
        (answer(409, error("TAG_IMMUTABLE")), "fixed"),
        (answer(400, error("MANIFEST_INVALID", "manifest invalid")), "unfit"),
        (answer(415, body=b""), "unfit"),
        (answer(400, error("UNSUPPORTED")), "unfit"),
        (answer(400, body=b"unknown layer mediaType ...tar+zstd"), "unfit"),
        (answer(403, error("DENIED", "media type")), ""),
        (answer(400, error("QUOTA", "used up")), ""),
        (answer(412, error("PROJECTPOLICYVIOLATION", "needs a signature")), ""),
    ],
)  # fmt: skip
def test_meaning_of_a_refusal(refusal: Refusal, meaning: str) -> None:
    names = ("lacks_blob", "may_pass", "fixed", "unfit")
    assert " ".join(name for name in names if getattr(refusal, name)) == meaning


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b'{"errors":null}', b'{"errors":[1]}', b'{"errors":{"a":1}}', b"\xff\xfe",
     b"[" * 100_000, b'{"errors":[{"code":["x"]}]}', b"9" * 10_000],
)  # fmt: skip
def test_answers_in_no_form_that_is_known(body: bytes) -> None:
    assert answer(400, body=body).status == 400


def test_kind_of_the_error() -> None:
    told = LoginError("m", remedy="log in")
    digest = "sha256:" + "a" * 64
    place = "host/app"
    fixed = refusals.error_of(Refusal(403, words="immutable"), told, place, "v1")
    assert type(fixed) is RegistryError
    assert "host/app:ANOTHER-TAG" in str(fixed.remedy)
    assert refusals.error_of(Refusal(403, words="immutable"), told, place, None) is told
    lacking = answer(404, error("BLOB_UNKNOWN", detail={"digest": digest}))
    missing = refusals.error_of(lacking, told, place, "v1")
    assert isinstance(missing, NotFoundError)
    assert missing.lacking == {digest}
    unfit = refusals.error_of(Refusal(415), told, place, "v1")
    assert isinstance(unfit, UnsupportedError)
