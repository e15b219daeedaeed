"""Who gets a login, and when a token is renewed; more of it is tried on real registries."""

from __future__ import annotations

import json
import time

import pytest
import requests

from images.errors import LoginError, RegistryError
from images.http import origin, session
from images.oci.registry import auth
from images.oci.registry.auth import Authorization
from images.oci.registry.credentials import Login
from tests.unit.servers import serving


def authorization(
    login: Login | None, home: str = "https://host.example", lines: list[str] | None = None
) -> Authorization:
    return Authorization(
        home.partition("://")[2],
        session.session(),
        home=origin.of(home),
        login_for=lambda _: login,
        log=(lines if lines is not None else []).append,
    )


def test_no_header_before_the_registry_wants_one() -> None:
    assert authorization(Login("user", "pass")).header(("scope",)) is None


def test_basic_is_answered_once() -> None:
    tried = authorization(Login("user", "pass"))
    tried.answer('Basic realm="x"', None, own=False)
    assert tried.header(()) == "Basic dXNlcjpwYXNz"
    with pytest.raises(LoginError, match="refuses the login"):
        tried.answer('Basic realm="x"', tried.header(()), own=False)


def test_missing_login_is_reported_with_the_command_that_makes_one() -> None:
    with pytest.raises(LoginError, match="contains none for it") as error:
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


# -- token servers ---------------------------------------------------------------------------------

TOKEN = (200, {"Content-Type": "application/json"}, b'{"token": "t"}')
BASIC = "Basic dXNlcjpwYXNz"


def token_of(tried: Authorization, realm: str) -> str | None:
    tried.answer(f'Bearer realm="{realm}",service="s"', None, own=False)
    return tried.header(("repository:a:pull",))


@pytest.mark.parametrize("status", [400, 401, 404, 405, 501])
@pytest.mark.parametrize(
    ("login", "header"),
    [
        (Login("user", "pass", "identity"), BASIC),
        (Login("user", "", "identity"), "Basic dXNlcjppZGVudGl0eQ=="),
        (Login(identity_token="identity"), "Basic PHRva2VuPjppZGVudGl0eQ=="),
    ],
)
def test_token_server_without_oauth_gets_the_other_form(
    status: int, login: Login, header: str
) -> None:
    with serving(lambda asked: TOKEN if asked.method == "GET" else (status, {}, b"")) as server:
        assert token_of(authorization(login, server.url), f"{server.url}/token") == "Bearer t"
    post, get = server.seen
    assert (post.method, post.login) == ("POST", None)
    assert b"refresh_token=identity" in post.body
    assert (get.method, get.login) == ("GET", header)
    assert get.path == "/token?service=s&scope=repository%3Aa%3Apull"


def test_identity_token_that_is_refused_in_both_forms_is_a_login_error() -> None:
    with serving(lambda _: (401, {}, b"")) as server:
        tried = authorization(Login(identity_token="s3cr3t"), server.url)
        with pytest.raises(LoginError, match="refuses the login"):
            token_of(tried, f"{server.url}/token")
    assert len(server.seen) == 2


@pytest.mark.parametrize("login", [Login("user", "pass"), Login(identity_token="s3cr3t"), None])
def test_token_server_that_redirects_to_another_server(login: Login | None) -> None:
    with serving(lambda _: TOKEN) as other, serving(lambda _: TOKEN) as server:
        server.answer = lambda _: (307, {"Location": f"{other.url}/x?t=s3cr3t"}, b"")
        with pytest.raises(RegistryError, match=f"redirects to {other.url}/x$") as error:
            token_of(authorization(login, server.url), f"{server.url}/token")
    assert other.seen == []
    assert "s3cr3t" not in f"{error.value.message}{error.value.remedy}"


def test_token_server_may_redirect_to_its_own_paths() -> None:
    with serving(lambda _: TOKEN) as server:
        server.answer = lambda asked: (
            TOKEN if asked.path.startswith("/two") else (307, {"Location": "/two?x=1"}, b"")
        )
        tried = authorization(Login("user", "pass"), server.url)
        assert token_of(tried, f"{server.url}/one") == "Bearer t"
    assert server.logins == [BASIC, BASIC]


def test_login_for_another_domain_is_reported_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines: list[str] = []
    realm = "http://auth.elsewhere.example/token"
    with serving(lambda _: TOKEN) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        tried = authorization(Login("user", "pass"), "http://registry.example.com", lines)
        assert token_of(tried, realm) == "Bearer t"
        assert tried.header(("another scope",)) == "Bearer t"
    assert lines == [f"registry.example.com: its login is sent to the token server {realm}"]


def test_nothing_is_reported_where_no_login_is_sent() -> None:
    lines: list[str] = []
    with serving(lambda _: TOKEN) as server:
        assert token_of(authorization(None, server.url, lines), f"{server.url}/token")
        tried = authorization(Login("user", "pass"), server.url, lines)
        assert token_of(tried, f"{server.url}/token")
    assert lines == []


@pytest.mark.parametrize("realm", ["file:///etc/passwd", "gopher://x/", "http://127.0.0.1.:x/"])
def test_unusable_realm_is_an_error_at_once(realm: str) -> None:
    tried = authorization(Login("user", "pass"), "http://127.0.0.1:5000")
    with pytest.raises(RegistryError, match=r"not an HTTP URL|without TLS"):
        token_of(tried, realm)


# -- tokens ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "fresh"),
    [
        ({"token": "t"}, 50),
        ({"access_token": "t", "expires_in": 300}, 290),
        ({"token": "t", "expires_in": 4}, 2),
        ({"token": "t", "access_token": "other", "expires_in": None}, 50),
    ],
)
def test_tokens_are_used_until_shortly_before_they_expire(
    body: dict[str, object], fresh: float
) -> None:
    found = auth.parse_token(answer(body), 1000.0, "https://a/t")
    assert (found.header, found.until) == ("Bearer t", 1000.0 + fresh)
    assert found.is_fresh() is (time.monotonic() < found.until)


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        "x",
        {"token": "t", "expires_in": "soon"},
        {"token": "s3cr3t\r\nHost: x"},
        {"token": {}},
        {"token": "é"},
    ],
)
def test_responses_without_a_token(body: object) -> None:
    with pytest.raises(RegistryError, match="without a token") as error:
        auth.parse_token(answer(body), 0.0, "https://a/t")
    assert "s3cr3t" not in error.value.message


def answer(body: object) -> requests.Response:
    response = requests.Response()
    response.status_code = 200
    response._content = json.dumps(body).encode()
    return response
