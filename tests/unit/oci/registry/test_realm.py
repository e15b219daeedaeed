"""Where a login may go that a registry wants at its token server."""

from __future__ import annotations

import pytest

from images.errors import RegistryError
from images.http import origin
from images.oci.registry import realm

HOME = origin.of("https://registry.example.com")


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://auth.example.com/token?a=b", "https://auth.example.com/token?a=b"),
        ("https://auth.elsewhere.example/token", "https://auth.elsewhere.example/token"),
        ("https://me:s3cr3t@auth.example.com/token", "https://auth.example.com/token"),
        ("http://registry.example.com/token", "https://registry.example.com/token"),
        ("/token", "https://registry.example.com/token"),
        ("https://1.1.1.1/token", "https://1.1.1.1/token"),
    ],
)
def test_accepted_realms(text: str, url: str) -> None:
    assert realm.checked(text, HOME, "registry.example.com") == url


@pytest.mark.parametrize(
    "text",
    ["file:///etc/passwd", "ftp://auth.example.com/", "gopher://x/", "https://a\\@b.example/"],
)
def test_realm_that_is_no_url(text: str) -> None:
    for home in (HOME, origin.of("http://localhost:5000")):
        with pytest.raises(RegistryError, match="not an HTTP URL"):
            realm.checked(text, home, "registry.example.com")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "localhost", "x.localhost", "0.0.0.0",
     "169.254.169.254", "10.1.2.3", "192.168.0.1", "[::1]", "[::ffff:127.0.0.1]", "[fe80::1]",
     "[fd00::1]", "100.64.0.1"],
)  # fmt: skip
@pytest.mark.parametrize("home", ["https://1.1.1.1", "http://1.1.1.1"])
def test_registry_outside_must_not_name_an_address_of_this_network(host: str, home: str) -> None:
    with pytest.raises(RegistryError, match="of this machine or its network"):
        realm.checked(f"{home.partition(':')[0]}://{host}/t", origin.of(home), "1.1.1.1")


@pytest.mark.parametrize(
    ("home", "text"),
    [
        ("http://10.0.0.5:5000", "http://10.0.0.7/token"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5001/token"),
        ("http://localhost:5000", "http://localhost:5001/token"),
        ("http://localhost:5000", "http://10.0.0.7/token"),
        ("http://[::1]:5000", "http://[::1]:5001/token"),
    ],
)
def test_registry_on_the_same_network_may_name_an_address(home: str, text: str) -> None:
    assert realm.checked(text, origin.of(home), "registry") == text


@pytest.mark.parametrize(
    ("home", "text"),
    [
        ("http://localhost:5000", "http://127.0.0.1:5001/token"),
        ("http://10.0.0.5:5000", "http://127.0.0.1/token"),
        ("http://10.0.0.5:5000", "http://169.254.169.254/token"),
    ],
)
def test_registry_elsewhere_must_not_name_this_machine(home: str, text: str) -> None:
    with pytest.raises(RegistryError, match="of this machine"):
        realm.checked(text, origin.of(home), "registry")


@pytest.mark.parametrize(
    ("home", "text", "foreign"),
    [
        ("https://registry-1.docker.io", "https://auth.docker.io/token", False),
        ("https://registry.gitlab.com", "https://gitlab.com/jwt/auth", False),
        ("https://registry.corp.co.uk", "https://sso.corp.co.uk/t", False),
        ("https://registry.corp.co.uk", "https://sso.other.co.uk/t", True),
        ("https://mirror.example", "https://ghcr.example.org/t", True),
        ("http://10.0.0.5:5000", "http://10.0.0.7/t", True),
        ("http://10.0.0.5:5000", "http://10.0.0.5/t", False),
    ],
)
def test_domains(home: str, text: str, foreign: bool) -> None:
    assert realm.is_foreign(text, origin.of(home)) is foreign
