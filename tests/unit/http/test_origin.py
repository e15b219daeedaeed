"""Which addresses are of one server."""

from __future__ import annotations

import pytest

from images.http import origin


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://host.example/a", "https://host.example:443/b"),
        ("http://host.example", "http://HOST.Example:80/"),
        ("https://user:pass@host.example/", "https://host.example/"),
        ("https://[::1]:443/", "https://[0:0:0:0:0:0:0:1]/"),
    ],
)
def test_same_origin_in_other_spellings(one: str, other: str) -> None:
    assert origin.of(one) == origin.of(other)


@pytest.mark.parametrize(
    "other",
    [
        "http://host.example/",
        "https://host.example:444/",
        "https://sub.host.example/",
        "https://host.example.evil.example/",
        "https://host.example@evil.example/",
        "https://host.example:pass@evil.example:443/",
    ],
)
def test_other_origins(other: str) -> None:
    assert origin.of(other) != origin.of("https://host.example/")


@pytest.mark.parametrize(
    "text",
    ["", "/v2/", "host.example", "file:///etc/passwd", "ftp://host.example/", "https://", "http://:80",
     "https://host.example\\@evil.example/", "https://host.example:port/", "https://[::1/",
     "https://[host.example]/", "https://[fe80::1%25eth0]/", "https://[::1%x]/",
     "https://host.example:99999/", "https://host%2eexample/", "https://h\u00f6st.example/"],
)  # fmt: skip
def test_not_an_http_url(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        origin.of(text)


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/v2/x?a=1", "https://host.example/v2/x?a=1"),
        ("x", "https://host.example/v2/x"),
        ("//Storage.example:443/x#part", "https://storage.example/x"),
        ("https://me:s3cr3t@storage.example/x", "https://storage.example/x"),
        ("https://host.example@evil.example/x", "https://evil.example/x"),
    ],
)
def test_location_is_written_anew_without_a_login(location: str, url: str) -> None:
    assert origin.joined("https://host.example/v2/", location) == url


@pytest.mark.parametrize(
    ("one", "other", "beside"),
    [
        ("https://host.example", "http://host.example", True),
        ("https://host.example:5000", "http://host.example:5000", True),
        ("https://host.example:5000", "http://host.example", False),
        ("https://host.example", "http://other.example", False),
    ],
)
def test_servers_that_differ_by_tls_alone(one: str, other: str, beside: bool) -> None:
    assert origin.of(one).is_beside(origin.of(other)) is beside


def test_origin_of_a_registry() -> None:
    assert str(origin.of_registry("Host.example:80", plain_http=True)) == "http://host.example"
    assert str(origin.of_registry("host.example:80", plain_http=False)) == "https://host.example:80"
