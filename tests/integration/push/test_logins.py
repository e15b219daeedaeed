"""Logins, tokens and credential helpers; no secret is printed."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from images.errors import LoginError
from images.oci.store.store import Store
from tests.integration.push.conftest import Make, command_line, log_in, pushed, states, whole_in
from tests.integration.registries import (
    HTPASSWD,
    PASSWORD,
    Fault,
    Proxy,
    TokenServer,
    proxy,
    registry,
)


@pytest.fixture
def basic(tmp_path: Path) -> Iterator[str]:
    """A registry that wants Basic authorization."""
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    auth = {"htpasswd": {"realm": "test", "path": str(tmp_path / "htpasswd")}}
    with registry(tmp_path, auth=auth) as address:
        yield address


def test_basic_login(layout: Store, make: Make, basic: str, own_config: Path) -> None:
    log_in(own_config, basic)
    assert states(pushed(layout, make(), basic)) == ["sent"] * 4
    assert pushed(layout, make(), basic).unchanged


def test_login_of_a_credential_helper(
    layout: Store,
    make: Make,
    basic: str,
    own_config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    helper = tmp_path / "bin" / "docker-credential-tried"
    helper.parent.mkdir()
    secret = json.dumps({"Username": "user", "Secret": PASSWORD, "ServerURL": basic})
    helper.write_text(f"#!/bin/sh\n[ \"$1\" = get ] && cat > /dev/null && echo '{secret}'\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{helper.parent}:{os.environ['PATH']}")
    own_config.write_text(json.dumps({"credHelpers": {basic: "tried"}}))
    assert states(pushed(layout, make(), basic)) == ["sent"] * 4


@pytest.mark.parametrize("scheme", ["basic", "token"])
@pytest.mark.parametrize("login", [None, "wrong-s3cr3t"])
def test_wrong_login_is_reported_without_its_secret(
    layout: Store,
    make: Make,
    basic: str,
    own_config: Path,
    faulty: Proxy,
    scheme: str,
    login: str | None,
) -> None:
    make()
    address = basic
    if scheme == "token":
        TokenServer(faulty)
        address = faulty.address
    if login:
        log_in(own_config, address, login)
    run = command_line(layout, address)
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 12
    assert f"docker login {address}" in done.stderr
    message = "refuses the login" if login else "contains none for it"
    assert message in done.stderr
    secret = base64.b64encode(f"user:{login}".encode()).decode()
    assert "s3cr3t" not in done.stderr
    assert secret not in done.stderr
    assert "Traceback" not in done.stderr


def test_login_that_may_not_push_is_reported(layout: Store, make: Make, faulty: Proxy) -> None:
    faulty.faults.append(Fault("status", "POST", status=403, times=99))
    with pytest.raises(LoginError, match="an upload to team/app: HTTP 403") as error:
        pushed(layout, make(), faulty.address)
    assert "docker login" in str(error.value.remedy)


@pytest.mark.parametrize("uses", [3, 5])
def test_token_that_expires_during_a_push_is_renewed(
    layout: Store,
    make: Make,
    faulty: Proxy,
    own_config: Path,
    tmp_path: Path,
    uses: int,
) -> None:
    log_in(own_config, faulty.address)
    tokens = TokenServer(faulty, uses=uses)
    image = make()
    done = pushed(layout, image, faulty.address, jobs=1)
    assert states(done) == ["sent"] * 4
    assert len(tokens.issued) > 2
    faulty.guard = None
    whole_in(faulty.address, tmp_path / "back")


def test_tokens_that_expire_through_other_threads_are_renewed(
    layout: Store, make: Make, faulty: Proxy, own_config: Path
) -> None:
    log_in(own_config, faulty.address)
    TokenServer(faulty, uses=1)
    assert states(pushed(layout, make(), faulty.address, jobs=8)) == ["sent"] * 4


def test_token_about_to_expire_is_renewed_before_it_is_used(
    layout: Store, make: Make, faulty: Proxy, own_config: Path
) -> None:
    log_in(own_config, faulty.address)
    tokens = TokenServer(faulty, lifetime=0)  # reports 0: the protocol's 60 s
    pushed(layout, make(), faulty.address)
    assert len(tokens.issued) == 1
    assert faulty.count("GET", "/token") == 1


def test_identity_token_is_exchanged(
    layout: Store, make: Make, faulty: Proxy, own_config: Path
) -> None:
    entry = {"auth": "PHRva2VuPjo=", "identitytoken": "s3cr3t-token"}
    own_config.write_text(json.dumps({"auths": {faulty.address: entry}}))
    TokenServer(faulty)
    assert states(pushed(layout, make(), faulty.address)) == ["sent"] * 4
    assert faulty.count("POST", "/token") == 1


def test_token_server_that_is_down_for_a_moment(
    layout: Store, make: Make, faulty: Proxy, own_config: Path
) -> None:
    log_in(own_config, faulty.address)
    tokens = TokenServer(faulty, uses=4)
    down = [3, 503]

    def guard(request: Any) -> bool:
        if request.path.startswith("/token") and down[0]:
            down[0] -= 1
            request.answer(down[1], {}, b"")
            return True
        return tokens(request)

    faulty.guard = guard
    assert states(pushed(layout, make(), faulty.address)) == ["sent"] * 4


def test_manifest_that_another_client_pushes_at_the_same_time(
    layout: Store, make: Make, faulty: Proxy
) -> None:
    """Distribution 2.8 reports to one of two clients that both's manifest has another digest."""
    errors = {"errors": [{"code": "DIGEST_INVALID", "message": "provided digest did not match"}]}
    left = [1]

    def guard(request: Any) -> bool:
        if request.command == "PUT" and "/manifests/" in request.path and left[0]:
            left[0] -= 1
            request.answer(400, {"Content-Type": "application/json"}, json.dumps(errors).encode())
            return True
        return False

    faulty.guard = guard
    image = make()
    assert pushed(layout, image, faulty.address).manifest_digest == image.manifest_digest
    assert left == [0]


def test_netrc_is_not_used_for_registries(
    layout: Store, make: Make, faulty: Proxy, own_config: Path
) -> None:
    (own_config.parent / ".netrc").write_text("machine 127.0.0.1 login user password s3cr3t\n")
    given: list[str | None] = []

    def look(request: Any) -> bool:
        given.append(request.headers.get("Authorization"))
        return False

    faulty.guard = look
    pushed(layout, make(), faulty.address)
    assert set(given) == {None}


def test_upload_elsewhere_gets_no_login(
    layout: Store, make: Make, basic: str, own_config: Path, tmp_path: Path
) -> None:
    """Some registries let the bytes go to a storage's own address: the login is not for it."""
    log_in(own_config, basic)
    with proxy(basic) as front, proxy(basic) as storage:
        log_in(own_config, front.address)
        given: list[str | None] = []

        def add_login(request: Any) -> bool:
            given.append(request.headers.get("Authorization"))
            return False

        storage.guard = add_login
        storage.login = "Basic " + base64.b64encode(f"user:{PASSWORD}".encode()).decode()
        front.uploads_at = storage.address
        assert states(pushed(layout, make(), front.address)) == ["sent"] * 4
    assert len(given) > 4
    assert set(given) == {None}
