"""Challenges of WWW-Authenticate, as RFC 9110 has them and as registries send them."""

from __future__ import annotations

import pytest

from images.oci.registry import challenge
from images.oci.registry.challenge import Challenge


@pytest.mark.parametrize(
    ("header", "scheme", "parameters"),
    [
        ('Basic realm="a b"', "basic", {"realm": "a b"}),
        ("Basic", "basic", {}),
        ("BASIC ", "basic", {}),
        ("Basic, Negotiate", "basic", {}),
        ("Negotiate,Basic", "basic", {}),
        ("Negotiate abc==, Basic", "basic", {}),
        ("Negotiate YWJj=, Bearer realm=\"https://a/t\"", "bearer", {"realm": "https://a/t"}),
        ('bearer realm="https://a/t",service="s"', "bearer",
         {"realm": "https://a/t", "service": "s"}),
        ('Bearer Realm = "https://a/t" , scope="repository:a:pull,push"', "bearer",
         {"realm": "https://a/t", "scope": "repository:a:pull,push"}),
        ("Bearer realm=https://a/t?x=1,service=s", "bearer",
         {"realm": "https://a/t?x=1", "service": "s"}),
        ('Basic realm="x", Bearer realm="y",service="z"', "bearer",
         {"realm": "y", "service": "z"}),
        ('Bearer realm="y", Basic realm="x"', "bearer", {"realm": "y"}),
        ('Bearer error="invalid_token", Basic realm="x"', "basic", {"realm": "x"}),
        ('Basic realm="not one: , Bearer realm=\\"evil\\""', "basic",
         {"realm": 'not one: , Bearer realm="evil"'}),
        ('Bearer realm="y",realm="evil"', "bearer", {"realm": "y"}),
        (',, Basic ,realm="x"', "basic", {"realm": "x"}),
    ],
)  # fmt: skip
def test_the_challenge_to_answer(header: str, scheme: str, parameters: dict[str, str]) -> None:
    assert challenge.best(header) == Challenge(scheme, parameters)


@pytest.mark.parametrize(
    "header", ["", "Negotiate", "Bearer", 'Bearer service="s"', "realm=x", '"', "=", "Digest a=b"]
)
def test_headers_without_a_usable_challenge(header: str) -> None:
    assert challenge.best(header) is None


@pytest.mark.timeout(10)
@pytest.mark.parametrize("piece", ["a,", 'a="', "a=\\", " ,", "a b", '"\\"', "a="])
def test_long_headers_are_parsed_fast(piece: str) -> None:
    challenge.parse(f"Basic {piece * 20_000}")
