"""Registries with TLS, and without it when that is asked for."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from images.errors import BuildError, RegistryError
from images.export.push import push
from images.oci.reference import Repository
from images.oci.registry.client import Registry
from images.oci.store.store import Store
from tests.integration.push.conftest import QUICK, Make, Shown, digest_in, states
from tests.integration.registries import Proxy, need, registry


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A registry with a certificate of its own: its address and the certificate."""
    need("openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-keyout", str(key), "-out", str(certificate), "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    tls = {"certificate": str(certificate), "key": str(key)}
    with registry(tmp_path, http={"tls": tls}) as address:
        yield address, certificate


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_tls_with_a_private_certificate(
    layout: Store,
    make: Make,
    secure: tuple[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    address, certificate = secure
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(certificate))
    image = make()
    with Registry(Repository(address, "team/app"), policy=QUICK) as connected:
        done = push.push(layout, image, connected, "v1", progress=Shown())
    assert states(done) == ["sent"] * 4
    assert digest_in(address) == image.manifest_digest


def test_certificate_that_is_not_trusted(
    layout: Store, make: Make, secure: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    with (
        Registry(Repository(secure[0], "team/app"), policy=QUICK) as connected,
        pytest.raises(RegistryError, match="certificate is not trusted") as error,
    ):
        push.push(layout, make(), connected, "v1", progress=Shown())
    assert "REQUESTS_CA_BUNDLE" in str(error.value.remedy)


def test_plain_http_only_when_asked(layout: Store, make: Make, faulty: Proxy) -> None:
    with (
        Registry(Repository(faulty.address, "team/app"), policy=QUICK) as connected,
        pytest.raises(BuildError) as error,
    ):
        push.push(layout, make(), connected, "v1", progress=Shown())
    assert "--plain-http" in str(error.value.remedy)
    assert not faulty.seen
