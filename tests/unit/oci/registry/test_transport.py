"""Locations of uploads, and errors of refused requests; integration tests make the requests."""

from __future__ import annotations

import pytest
import requests

from images.errors import RegistryError
from images.http.retry import Policy, TransientError
from images.oci.registry.refusals import DeniedError, RefusedError
from images.oci.registry.transport import Transport

BASE = "https://host.example/v2/team/app/blobs/uploads/"


def transport(registry: str = "host.example", *, plain_http: bool = False) -> Transport:
    return Transport(
        registry, plain_http=plain_http, policy=Policy(max_attempts_unreached=2, base_delay=0.0)
    )


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/v2/x?_state=1", "https://host.example/v2/x?_state=1"),
        ("https://host.example/v2/x", "https://host.example/v2/x"),
        ("http://host.example/v2/x", "https://host.example/v2/x"),
        ("https://storage.example/x?signature=1", "https://storage.example/x?signature=1"),
    ],
)
def test_upload_locations(location: str, url: str) -> None:
    assert transport().resolved(location, BASE) == url


def test_upload_location_elsewhere_without_tls_is_refused() -> None:
    with pytest.raises(RegistryError) as error:
        transport().resolved("http://storage.example/x?signature=s3cr3t", BASE)
    assert "http://storage.example/x" in error.value.message
    assert "s3cr3t" not in error.value.message


def test_plain_http_stays_plain() -> None:
    base = "http://host.example/v2/x"
    plain = transport(plain_http=True)
    assert plain.resolved("/v2/y", base) == "http://host.example/v2/y"
    assert plain.resolved("http://storage.example/x", base) == "http://storage.example/x"


def test_docker_hub_has_its_api_elsewhere() -> None:
    assert transport("docker.io").url("a/b") == "https://registry-1.docker.io/v2/a/b"


def answer(status: int, body: str, reason: str = "Reason") -> requests.Response:
    response = requests.Response()
    response.status_code, response.reason = status, reason
    response._content = body.encode()
    return response


@pytest.mark.parametrize(
    ("body", "summary"),
    [
        ('{"errors":[{"code":"DENIED","message":"quota\\nused up"}]}', "DENIED: quota used up"),
        ('{"errors":[{"code":"A"},{"code":"B","message":"b"}]}', "A; B: b"),
        ('{"errors":[{"code":"A","message":"see //u:s3cr3t@h/x?t=s3cr3t"}]}', "A: see //h/x"),
        ('{"errors":null}', "Reason"),
        ("<html>", "Reason"),
        ("", "Reason"),
    ],
)
def test_errors_of_a_response_are_reported_in_one_line(body: str, summary: str) -> None:
    error = transport().refused(answer(400, body), "trying")
    assert error.message == f"host.example: trying: HTTP 400 {summary}"


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, DeniedError), (403, DeniedError), (404, RefusedError), (405, RefusedError)],
)
def test_refused_requests_have_a_remedy(status: int, kind: type[RefusedError]) -> None:
    error = transport().refused(answer(status, ""), "trying")
    assert type(error) is kind
    assert error.refusal.status == status
    assert error.remedy


def test_unreached_host_gets_fewer_attempts() -> None:
    fresh = transport()
    fresh.pause(1, TransientError("down"), "HEAD /v2/x")
    with pytest.raises(RegistryError, match="2 attempts failed, the last one: down") as error:
        fresh.pause(2, TransientError("down"), "HEAD /v2/x")
    assert "network" in (error.value.remedy or "")
