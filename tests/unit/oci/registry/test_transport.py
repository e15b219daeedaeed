"""Where uploads may be sent to, and what is told of failures; requests are tried for real."""

from __future__ import annotations

import pytest
import requests

from images.errors import LoginError, RegistryError
from images.http.retry import Policy, TransientError
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
def test_location_of_an_upload(location: str, url: str) -> None:
    assert transport().resolved(location, BASE) == url


def test_upload_that_would_go_elsewhere_without_tls_is_refused() -> None:
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
    ("body", "told"),
    [
        ('{"errors":[{"code":"DENIED","message":"quota\\nused up"}]}', "DENIED: quota used up"),
        ('{"errors":[{"code":"A"},{"code":"B","message":"b"}]}', "A: ; B: b"),
        ('{"errors":[{"code":"A","message":"see //u:s3cr3t@h/x?t=s3cr3t"}]}', "A: see //h/x"),
        ('{"errors":null}', "Reason"),
        ("<html>", "Reason"),
        ("", "Reason"),
    ],
)
def test_what_a_registry_says_is_told_in_one_line(body: str, told: str) -> None:
    error = transport().refused(answer(400, body), "trying")
    assert error.message == f"host.example: trying: HTTP 400 {told}"


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, LoginError), (403, LoginError), (404, RegistryError), (405, RegistryError)],
)
def test_what_a_person_can_mend_has_a_remedy(status: int, kind: type[RegistryError]) -> None:
    error = transport().refused(answer(status, ""), "trying")
    assert type(error) is kind
    assert error.remedy


def test_attempts_end_sooner_with_a_host_that_never_answered() -> None:
    tried = transport()
    tried.pause(1, TransientError("down"), "HEAD /v2/x")
    with pytest.raises(RegistryError, match="2 attempts failed, the last one: down") as error:
        tried.pause(2, TransientError("down"), "HEAD /v2/x")
    assert "network" in (error.value.remedy or "")
