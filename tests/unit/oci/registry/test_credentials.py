"""Logins out of Docker's configuration, and nothing of them in messages."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from images.errors import LoginError
from images.oci.registry import credentials
from images.oci.registry.credentials import Login

HOST = "registry.example.com:5000"
AUTH = base64.b64encode(b"user:s3cr3t").decode()


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "config.json"


def helper(place: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = place / "docker-credential-tried"
    program.write_text(f"#!/bin/sh\ncat > /dev/null\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:/usr/bin:/bin")


def test_login_without_configuration(config: Path) -> None:
    assert credentials.login_for(HOST) is None


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"auths": {}},
        {"auths": {"other.example": {"auth": AUTH}}},
        {"auths": {HOST: {}}},
        {"auths": {HOST: {"email": "a@b"}}, "HttpHeaders": {}},
        {"proxies": {}, "detachKeys": "ctrl-e"},
    ],
)
def test_no_login(config: Path, content: dict[str, Any]) -> None:
    config.write_text(json.dumps(content))
    assert credentials.login_for(HOST) is None


@pytest.mark.parametrize("key", [HOST, f"https://{HOST}", f"https://{HOST}/v2/"])
def test_login_of_the_file(config: Path, key: str) -> None:
    config.write_text(json.dumps({"auths": {key: {"auth": AUTH}}}))
    assert credentials.login_for(HOST) == Login("user", "s3cr3t")


def test_identity_token(config: Path) -> None:
    entry = {"auth": AUTH, "identitytoken": "s3cr3t-token"}
    config.write_text(json.dumps({"auths": {HOST: entry}}))
    assert credentials.login_for(HOST) == Login("user", "s3cr3t", "s3cr3t-token")


@pytest.mark.parametrize("entry", [{}, {"auth": "s3cr3t"}, {"auth": 5}])
def test_identity_token_beside_which_nothing_can_be_read(config: Path, entry: object) -> None:
    assert isinstance(entry, dict)
    config.write_text(json.dumps({"auths": {HOST: {**entry, "identitytoken": "s3cr3t-token"}}}))
    assert credentials.login_for(HOST) == Login(identity_token="s3cr3t-token")


@pytest.mark.parametrize(
    ("key", "asked", "plain_http", "found"),
    [
        ("host.example", "host.example:443", False, True),
        ("host.example:443", "host.example", False, True),
        ("https://Host.Example/v1/", "host.example", False, True),
        ("host.example", "HOST.example", False, True),
        ("host.example:80", "host.example", True, True),
        ("host.example", "host.example:80", True, True),
        ("host.example:443", "host.example", True, False),
        ("host.example", "host.example:80", False, False),
        ("host.example", "host.example:5000", False, False),
        ("host.example", "sub.host.example", False, False),
        ("host.example.evil.example", "host.example", False, False),
        ("not a host", "host.example", False, False),
    ],
)
def test_entry_counts_for_the_same_server_only(
    config: Path, key: str, asked: str, plain_http: bool, found: bool
) -> None:
    config.write_text(json.dumps({"auths": {key: {"auth": AUTH}}}))
    login = credentials.login_for(asked, plain_http=plain_http)
    assert login == (Login("user", "s3cr3t") if found else None)


@pytest.mark.parametrize(
    ("name", "user"),
    [("team/app", "team"), ("team/app/x", "app"), ("team", "team"), ("teamster/app", "all")],
)
def test_entry_may_be_for_some_repositories_only(config: Path, name: str, user: str) -> None:
    """As skopeo and podman write them."""
    keys = {"": "all", "/team": "team", "/team/app/x": "app", "/other": "other"}
    auths = {
        f"{HOST}{path}": {"auth": base64.b64encode(f"{user}:s3cr3t".encode()).decode()}
        for path, user in keys.items()
    }
    config.write_text(json.dumps({"auths": auths}))
    assert credentials.login_for(HOST, name) == Login(user, "s3cr3t")
    config.write_text(json.dumps({"auths": {f"{HOST}/other": auths[f"{HOST}/other"]}}))
    assert credentials.login_for(HOST, name) is None


def test_malformed_entry_of_another_registry_is_ignored(config: Path) -> None:
    auths = {"other.example": {"auth": "s3cr3t"}, HOST: {"auth": AUTH}}
    config.write_text(json.dumps({"auths": auths}))
    assert credentials.login_for(HOST) == Login("user", "s3cr3t")


def test_helper_gets_the_name_in_the_configuration(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = json.dumps({"Username": "user", "Secret": "s3cr3t", "ServerURL": HOST})
    helper(config.parent, monkeypatch, f"echo '{secret}'")
    config.write_text(json.dumps({"credHelpers": {"host.example": "tried"}}))
    assert credentials.login_for("host.example:443") == Login("user", "s3cr3t")
    assert credentials.login_for("other.example") is None


def test_docker_hub_has_a_name_of_its_own(config: Path) -> None:
    config.write_text(json.dumps({"auths": {"https://index.docker.io/v1/": {"auth": AUTH}}}))
    assert credentials.login_for("docker.io") == Login("user", "s3cr3t")


@pytest.mark.parametrize("setting", [{"credsStore": "tried"}, {"credHelpers": {HOST: "tried"}}])
@pytest.mark.parametrize(
    ("name", "login"),
    [("user", Login("user", "s3cr3t")), ("<token>", Login(identity_token="s3cr3t"))],
)
def test_login_of_a_helper(
    config: Path, monkeypatch: pytest.MonkeyPatch, setting: dict[str, Any], name: str, login: Login
) -> None:
    secret = json.dumps({"Username": name, "Secret": "s3cr3t", "ServerURL": HOST})
    helper(config.parent, monkeypatch, f"echo '{secret}'")
    config.write_text(json.dumps({**setting, "auths": {HOST: {}}}))
    assert credentials.login_for(HOST) == login


def test_helper_that_knows_no_login(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = 'echo "credentials not found in native keychain"; exit 1'
    helper(config.parent, monkeypatch, script)
    config.write_text(json.dumps({"credsStore": "tried", "auths": {HOST: {"auth": AUTH}}}))
    assert credentials.login_for(HOST) == Login("user", "s3cr3t")


@pytest.mark.parametrize("script", ["echo s3cr3t; exit 3", "echo s3cr3t", None])
def test_helper_that_fails(
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str | None,
    recwarn: pytest.WarningsRecorder,
) -> None:
    if script:
        helper(config.parent, monkeypatch, script)
    config.write_text(json.dumps({"credHelpers": {HOST: "tried"}}))
    with pytest.raises(LoginError) as error:
        credentials.login_for(HOST)
    assert "docker-credential-tried" in f"{error.value.message} {error.value.remedy}"
    assert "s3cr3t" not in f"{error.value.message} {error.value.remedy}"
    assert error.value.__cause__ is None
    assert not list(recwarn)


@pytest.mark.parametrize(
    "content",
    [
        "{s3cr3t",
        "[]",
        '"s3cr3t"',
        json.dumps({"auths": {HOST: {"auth": "s3cr3t"}}}),
        json.dumps({"auths": {HOST: {"auth": ""}}}),
        json.dumps({"auths": {HOST: "s3cr3t"}}),
        '{"auths": ["s3cr3t"]}',
    ],
)
def test_malformed_configuration_is_reported(config: Path, content: str) -> None:
    config.write_text(content)
    with pytest.raises(LoginError) as error:
        credentials.login_for(HOST)
    assert str(config) in error.value.message
    assert "docker login" in (error.value.remedy or "")
    assert "s3cr3t" not in f"{error.value.message} {error.value.remedy}"


def test_secrets_are_not_in_the_repr() -> None:
    assert "s3cr3t" not in repr(Login("user", "s3cr3t", "s3cr3t"))
