"""Credentials appear in no image, log, error, lock or cache: not as they are, nor encoded."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
import zstandard

from tests.faults import index, tiny
from tests.faults.tiny import Done, Tiny
from tests.integration import registries
from tests.integration.registries import Proxy, proxy, registry

USER, PASSWORD = "reader", "s3cr3t-p@ss/w:rd"
LOGIN = f"{USER}:{PASSWORD}"
REGISTRY_LOGIN = f"{registries.USER}:{registries.PASSWORD}"
IN_URL = f"{USER}:{quote(PASSWORD, safe='')}"
# What CI systems and clusters keep in the environment of every process.
ENVIRONMENT = {
    name: f"s3cr3t-{name}"
    for name in (
        "AWS_SECRET_ACCESS_KEY",
        "GITHUB_TOKEN",
        "HF_TOKEN",
        "PIP_INDEX_URL",
        "UV_INDEX_PRIVATE_PASSWORD",
        "DOCKER_AUTH_CONFIG",
        "ROLL_IMAGES_TOKEN",
    )
}
SECRETS = {
    PASSWORD,
    quote(PASSWORD, safe=""),
    base64.b64encode(LOGIN.encode()).decode(),
    base64.b64encode(PASSWORD.encode()).decode(),
    registries.PASSWORD,
    base64.b64encode(REGISTRY_LOGIN.encode()).decode(),
    *ENVIRONMENT.values(),
}


def leaks(content: bytes) -> list[str]:
    """The secrets that are in the content."""
    return [secret for secret in SECRETS if secret.encode() in content]


def leaks_below(place: Path) -> dict[str, list[str]]:
    """Files with a secret in them, in their name or, of layers, in their tar."""
    found = {}
    for path in place.rglob("*"):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            if content.startswith(zstandard.FRAME_HEADER):
                content = zstandard.ZstdDecompressor().decompressobj().decompress(content)
            if seen := leaks(content + str(path).encode()):
                found[str(path)] = seen
    return found


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    """The tiny target, its lock made with an index that wants a login, given in its address."""
    with index.serving() as served:
        place = tmp_path_factory.mktemp("private")
        made = tiny.make(served, place)
        made.lock.unlink()
        served.login = LOGIN
        env = {**ENVIRONMENT, "UV_DEFAULT_INDEX": served.url(IN_URL)}
        yield replace(made, env=env)


def test_login_in_the_indexs_address(private: Tiny, tmp_path: Path) -> None:
    """Locking and building go through the login and leave no trace of it, nor of tokens."""
    done = private.run("lock")
    assert done.code == 0, done.said
    outputs = [done]
    made = private.fresh(tmp_path)
    for arguments in (
        ("build",),
        ("build", "--json"),
        ("inspect",),
        ("inspect", "--json"),
        ("list",),
    ):
        outputs.append(made.run(*arguments))
        assert outputs[-1].code == 0, outputs[-1].said
    outputs.append(made.run("bundle", "--out", str(tmp_path / "bundle")))
    assert outputs[-1].code == 0, outputs[-1].said
    for output in outputs:
        assert not leaks((output.out + output.said).encode())
    assert not leaks(private.lock.read_bytes())
    assert leaks_below(tmp_path) == {}
    assert any(path.startswith("/files/") for path in private.index.seen)


def test_the_searcher_finds_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text(f"x{PASSWORD}x")
    (tmp_path / "blob").write_bytes(zstandard.compress(ENVIRONMENT["HF_TOKEN"].encode() * 50))
    assert {Path(path).name for path in leaks_below(tmp_path)} == {"plain", "blob"}


WRONG = {
    "wrong login": (f"{USER}:other-s3cr3t@", "", 0),
    "no such host": (f"{IN_URL}@", "http://nowhere.invalid/simple/", 0),
    "nothing listens": (f"{IN_URL}@", "http://127.0.0.1:1/simple/", 0),
    "no address": (f"{IN_URL}@", "htp://host/simple", 0),
    "forbidden": (f"{IN_URL}@", "", 403),
    "gone": (f"{IN_URL}@", "", 410),
    "broken": (f"{IN_URL}@", "", 500),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors_of_the_index(private: Tiny, tmp_path: Path, name: str) -> None:
    """Whatever fails at the index, no message contains its login."""
    if not private.lock.exists():
        private.run("lock")
    login, address, status = WRONG[name]
    url = (address or private.index.url()).replace("://", f"://{login}")
    env = {**private.env, "UV_DEFAULT_INDEX": url, "UV_HTTP_RETRIES": "0"}
    made = replace(private.fresh(tmp_path), env={**env, "UV_NO_CACHE": "1"})
    private.index.status = status
    try:
        done = made.run("build")
    finally:
        private.index.status = 0
    assert done.code in (4, 5), done.said
    assert done.said.startswith("error: ")
    assert not leaks((done.out + done.said).encode()), done.said
    assert "other-s3cr3t" not in done.said
    assert leaks_below(tmp_path) == {}


# -- registries ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A registry that wants a login, and a proxy that sees what goes over the line."""
    place = tmp_path_factory.mktemp("registry")
    (place / "htpasswd").write_text(registries.HTPASSWD)
    auth = {"htpasswd": {"realm": "test", "path": str(place / "htpasswd")}}
    with registry(place, auth=auth) as address, proxy(address) as found:
        yield found


def pushes(made: Tiny, place: Path, address: str, login: str) -> Done:
    """Push with a login in Docker's configuration."""
    auth = base64.b64encode(login.encode()).decode()
    place.mkdir()
    (place / "config.json").write_text(json.dumps({"auths": {address: {"auth": auth}}}))
    env = {**made.env, "DOCKER_CONFIG": str(place), **ENVIRONMENT}
    return replace(made, env=env).run("push", "--plain-http", "--to", f"{address}/team/app")


def test_login_in_dockers_configuration(
    warm: Tiny, digest: str, tmp_path: Path, guarded: Proxy
) -> None:
    assert warm.build() == digest
    done = pushes(warm, tmp_path / "right", guarded.address, REGISTRY_LOGIN)
    assert done.code == 0, done.said
    refused = pushes(warm, tmp_path / "wrong", guarded.address, f"{registries.USER}:other-s3cr3t")
    assert refused.code == 12, refused.said
    for output in (done, refused):
        assert not leaks((output.out + output.said).encode())
        assert "other-s3cr3t" not in output.said
    assert leaks_below(warm.store) == {}
    assert not any(leaks(request.path.encode()) for request in guarded.seen)
