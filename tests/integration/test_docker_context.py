"""Which daemon is talked to: the one that the `docker` command line talks to."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from images.errors import DockerError
from images.export.docker import daemon as docker
from images.export.docker import endpoint
from tests.image.containers import running
from tests.integration import dockerd
from tests.integration.dockerd import Daemon
from tests.integration.registries import need


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with dockerd.running() as found:
        yield found


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Docker's configuration, without any context and without a file yet."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "docker"


def cli(*words: str) -> str:
    need("docker")
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=True).stdout


def created(name: str, host: str) -> None:
    cli("context", "create", name, "--docker", f"host={host}")


def same_as_docker() -> bool:
    """Whether `docker` and we find the same daemon, or both none."""
    done = subprocess.run(["docker", "version"], capture_output=True, check=False)
    assert docker.answers() == (done.returncode == 0)
    return docker.answers()


def test_current_context(daemon: Daemon) -> None:
    created("here", daemon.host)
    assert not same_as_docker()
    cli("context", "use", "here")
    assert same_as_docker()
    assert str(endpoint.find()) == f"{daemon.host} (the context here, by docker context use)"
    cli("context", "use", "default")
    assert not same_as_docker()


def test_context_of_the_environment(
    daemon: Daemon, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where there is no config.json: the SDK would look for one in the current directory."""
    created("here", daemon.host)
    assert not (place / "config.json").exists()
    monkeypatch.setenv("DOCKER_CONTEXT", "here")
    assert same_as_docker()


def test_host_of_the_environment_goes_before_a_context(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    created("gone", "unix:///nowhere.sock")
    cli("context", "use", "gone")
    assert not same_as_docker()
    monkeypatch.setenv("DOCKER_CONTEXT", "none-such")
    monkeypatch.setenv("DOCKER_HOST", daemon.host)
    assert same_as_docker()


def test_daemon_that_does_not_answer_is_reported_with_its_context() -> None:
    created("gone", "unix:///nowhere.sock")
    cli("context", "use", "gone")
    with pytest.raises(DockerError) as error, running("any"):
        pass
    text = "unix:///nowhere.sock (the context gone, by docker context use): there is no such socket"
    assert text in error.value.message
    assert "docker context use" in str(error.value.remedy)


@pytest.mark.parametrize("damage", [None, "", "[]", '{"Endpoints": {}}', '{"Endpoints": 1}'])
def test_context_that_cannot_be_used_is_not_taken_for_this_machine(
    monkeypatch: pytest.MonkeyPatch, place: Path, damage: str | None
) -> None:
    created("here", "unix:///x.sock")
    monkeypatch.setenv("DOCKER_CONTEXT", "here" if damage is not None else "none-such")
    if damage is not None:
        (path,) = place.glob("contexts/meta/*/meta.json")
        path.write_text(damage)
    with pytest.raises(DockerError, match=r"the context .*, by DOCKER_CONTEXT: ") as error:
        endpoint.find()
    assert "docker context ls" in str(error.value.remedy)
    assert not docker.answers()


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"currentContext": ""}'])
def test_configuration_without_a_context(place: Path, content: str | None) -> None:
    if content is not None:
        place.mkdir()
        (place / "config.json").write_text(content)
    assert endpoint.find().address == "unix:///var/run/docker.sock"


@pytest.mark.parametrize(
    ("files", "skip", "tls"),
    [
        ((), False, None),
        ((), True, (None, None, False)),
        (("ca",), False, ("ca", None, True)),
        (("ca", "cert", "key"), False, ("ca", "cert", True)),
        (("cert", "key"), True, (None, "cert", False)),
    ],
)
def test_context_with_tls(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: tuple[str, ...],
    skip: bool,
    tls: tuple[str | None, str | None, bool] | None,
) -> None:
    created("far", "tcp://far.example:2376")
    (path,) = place.glob("contexts/meta/*/meta.json")
    document = json.loads(path.read_text())
    document["Endpoints"]["docker"]["SkipTLSVerify"] = skip
    path.write_text(json.dumps(document))
    own = place / "contexts" / "tls" / path.parent.name / "docker"
    own.mkdir(parents=True)
    for name in files:
        (own / f"{name}.pem").touch()
    monkeypatch.setenv("DOCKER_CONTEXT", "far")
    found = endpoint.find().options["tls"]
    if tls is None:
        assert found is False
        return
    authority, certificate = (name and os.fspath(own / f"{name}.pem") for name in tls[:2])
    assert (found.ca_cert, found.verify) == (authority, tls[2])
    assert (found.cert[0] if found.cert else None) == certificate


def test_ssh_without_its_part_of_the_sdk_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec("paramiko"):
        pytest.skip("the SDK has its part for ssh")
    monkeypatch.setenv("DOCKER_HOST", "ssh://nobody@far.example")
    with pytest.raises(DockerError, match="without ssh") as error, running("any"):
        pass
    assert "docker[ssh]" in str(error.value.remedy)
