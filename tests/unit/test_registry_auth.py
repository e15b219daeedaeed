"""Challenges, and when a token is renewed; the protocol itself is tried on real registries."""

from __future__ import annotations

import json
import time

import pytest
import requests

from images import registry_auth
from images.docker_auth import Login
from images.errors import LoginError, RegistryError
from images.registry_auth import Authorization


@pytest.mark.parametrize(
    ("header", "scheme", "parameters"),
    [
        ('Basic realm="a b"', "basic", {"realm": "a b"}),
        ('bearer realm="https://a/t",service="s"', "bearer",
         {"realm": "https://a/t", "service": "s"}),
        ('Bearer Realm="https://a/t", scope="repository:a:pull,push"', "bearer",
         {"realm": "https://a/t", "scope": "repository:a:pull,push"}),
        ('Basic realm="x", Bearer realm="y",service="z"', "bearer",
         {"realm": "y", "service": "z"}),
        ('Bearer realm="y", Basic realm="x"', "bearer", {"realm": "y"}),
        ('Negotiate, Basic realm="x"', "basic", {"realm": "x"}),
        ("Negotiate", "", {}),
        ("", "", {}),
    ],
)  # fmt: skip
def test_challenges(header: str, scheme: str, parameters: dict[str, str]) -> None:
    assert registry_auth._parsed(header) == (scheme, parameters)


def authorization(login: Login | None, *, plain_http: bool = False) -> Authorization:
    return Authorization(
        "host.example", requests.Session(), plain_http=plain_http, login_for=lambda _: login
    )


def test_nothing_is_said_before_it_is_asked_for() -> None:
    assert authorization(Login("user", "pass")).header(("scope",)) is None


def test_basic_is_answered_once() -> None:
    tried = authorization(Login("user", "pass"))
    tried.answer('Basic realm="x"', None, own=False)
    assert tried.header(()) == "Basic dXNlcjpwYXNz"
    with pytest.raises(LoginError, match="does not take the login"):
        tried.answer('Basic realm="x"', tried.header(()), own=False)


def test_no_login_is_told_with_the_command_that_makes_one() -> None:
    with pytest.raises(LoginError, match="holds none for it") as error:
        authorization(None).answer('Basic realm="x"', None, own=False)
    assert "docker login host.example" in (error.value.remedy or "")


def test_a_token_server_without_tls_gets_no_login() -> None:
    tried = authorization(Login("user", "pass"))
    tried.answer('Bearer realm="http://elsewhere.example/t?x=s3cr3t"', None, own=False)
    with pytest.raises(RegistryError, match=r"without TLS: http://elsewhere\.example/t$"):
        tried.header(("scope",))


def test_another_kind_of_authorization_is_refused() -> None:
    with pytest.raises(RegistryError, match="neither Basic nor Bearer"):
        authorization(None).answer("Negotiate", None, own=False)


@pytest.mark.parametrize(
    ("body", "fresh"),
    [
        ({"token": "t"}, 50),
        ({"access_token": "t", "expires_in": 300}, 290),
        ({"token": "t", "expires_in": 4}, 2),
        ({"token": "t", "access_token": "other", "expires_in": None}, 50),
    ],
)
def test_tokens_are_used_until_shortly_before_their_end(
    body: dict[str, object], fresh: float
) -> None:
    found = registry_auth._token_of(answer(body), 1000.0, "https://a/t")
    assert (found.header, found.until) == ("Bearer t", 1000.0 + fresh)
    assert found.is_fresh() is (time.monotonic() < found.until)


@pytest.mark.parametrize("body", [{}, [], "x", {"token": "t", "expires_in": "soon"}])
def test_answers_without_a_token(body: object) -> None:
    with pytest.raises(RegistryError, match="without a token"):
        registry_auth._token_of(answer(body), 0.0, "https://a/t")


def answer(body: object) -> requests.Response:
    response = requests.Response()
    response.status_code = 200
    response._content = json.dumps(body).encode()
    return response
