"""A registry behind a proxy with which everything goes wrong."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from images.errors import RegistryError
from images.http.retry import Policy
from images.oci.store.store import Store
from tests.integration.push.conftest import BULK, MIB, Make, Shown, digest_in, pushed, whole_in
from tests.integration.registries import Fault, Proxy


@pytest.mark.parametrize("kind", ["torn", "deaf", "lost", "cut"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("HEAD", "manifests"),
        ("HEAD", "blobs"),
        ("POST", "uploads"),
        ("PATCH", ""),
        ("PUT", "uploads"),
        ("PUT", "manifests/sha256"),
        ("PUT", "manifests/v1"),
    ],
)
def test_any_request_may_break_in_any_way(
    layout: Store, make: Make, faulty: Proxy, tmp_path: Path, kind: str, method: str, path: str
) -> None:
    image = make()
    shown = Shown()
    faulty.faults.append(Fault(kind, method, path, after=700))
    done = pushed(layout, image, faulty.address, progress=shown)
    assert not faulty.faults, "it happened"
    assert (shown.done, shown.most) == (shown.total, shown.total)
    assert done.bytes_sent >= image.size
    assert whole_in(faulty.address, tmp_path / "back").images() == {"back": image.manifest_digest}


def test_connections_that_break_at_random_bytes(
    layout: Store, make: Make, faulty: Proxy, tmp_path: Path
) -> None:
    chance = random.Random(11)
    for _ in range(4):
        faulty.faults.append(Fault("torn", "PATCH", after=chance.randrange(BULK)))
        faulty.faults.append(Fault("torn", "PUT", "uploads", after=chance.randrange(MIB)))
        faulty.faults.append(Fault("cut", skip=chance.randrange(8)))
    image = make()
    shown = Shown()
    pushed(layout, image, faulty.address, progress=shown)
    assert shown.done == shown.total
    whole_in(faulty.address, tmp_path / "back")


def test_interrupted_upload_resumes_where_the_registry_got_to(
    layout: Store, make: Make, faulty: Proxy, tmp_path: Path
) -> None:
    chance = random.Random(5)
    faulty.faults += [Fault("kept", "PATCH", after=chance.randrange(2 * MIB)) for _ in range(5)]
    image = make()
    shown = Shown()
    pushed(layout, image, faulty.address, progress=shown)
    parts = faulty.requests("PATCH")
    assert len(parts) == 6
    assert parts[0].range is None
    begins = [int((part.range or "").split("-")[0]) for part in parts[1:]]
    assert begins == sorted(set(begins))
    ends = {int((part.range or "").split("-")[1]) for part in parts[1:]}
    assert ends == {image.layers[0].blob.size - 1}
    assert faulty.count("POST", "uploads") == 4, "no upload was begun twice"
    assert (shown.done, shown.most) == (shown.total, shown.total)
    whole_in(faulty.address, tmp_path / "back")


def test_progress_resets_the_attempts(layout: Store, make: Make, faulty: Proxy) -> None:
    """More failures than the policy allows, but each attempt made progress."""
    faulty.faults += [Fault("kept", "PATCH", after=MIB) for _ in range(9)]
    pushed(
        layout,
        make(),
        faulty.address,
        policy=Policy(max_attempts=3, base_delay=0.01, max_delay=0.02),
    )


def test_interrupted_upload_begins_anew_where_the_registry_forgot_it(
    layout: Store, make: Make, faulty: Proxy, tmp_path: Path
) -> None:
    """What Distribution 2.8 does with an upload whose PATCH was torn."""
    faulty.faults.append(Fault("torn", "PATCH", after=5 * MIB))
    image = make()
    pushed(layout, image, faulty.address)
    assert faulty.count("GET", "uploads") == 1
    assert [part.range for part in faulty.requests("PATCH")] == [None, None]
    whole_in(faulty.address, tmp_path / "back")


@pytest.mark.parametrize(
    "answer",
    [
        (413, b"<html>413 Request Entity Too Large</html>"),
        (416, b'{"errors":[{"code":"X","message":"the request body is too large"}]}'),
    ],
)
def test_small_body_limit_leads_to_chunks(
    layout: Store, make: Make, faulty: Proxy, tmp_path: Path, answer: tuple[int, bytes]
) -> None:
    faulty.largest, faulty.too_large = 5 * MIB, answer
    image = make()
    pushed(layout, image, faulty.address)
    parts = [part for part in faulty.requests("PATCH") if part.range]
    assert [part.length for part in parts[:2]] == [4 * MIB, 4 * MIB]
    assert sum(part.length for part in parts) == image.layers[0].blob.size
    whole_in(faulty.address, tmp_path / "back")


def test_only_the_lost_chunk_is_sent_again(
    layout: Store, make: Make, faulty: Proxy, tmp_path: Path
) -> None:
    """A proxy that gathers a request before it passes it on: the chunks before stay."""
    faulty.largest = 5 * MIB
    faulty.faults.append(Fault("deaf", "PATCH", skip=1))
    image = make()
    pushed(layout, image, faulty.address)
    ranges = [part.range for part in faulty.requests("PATCH") if part.range]
    assert len(ranges) == 5
    assert len(set(ranges)) == 4
    whole_in(faulty.address, tmp_path / "back")


def test_limit_below_every_chunk_is_reported(layout: Store, make: Make, faulty: Proxy) -> None:
    faulty.largest = 2 * MIB
    with pytest.raises(RegistryError, match="413"):
        pushed(layout, make(), faulty.address)
    assert digest_in(faulty.address) is None


@pytest.mark.parametrize("status", [404, 416])
def test_expired_upload_begins_anew(
    layout: Store, make: Make, faulty: Proxy, tmp_path: Path, status: int
) -> None:
    faulty.faults.append(Fault("status", "PATCH", status=status, times=2))
    pushed(layout, make(), faulty.address)
    assert [part.range for part in faulty.requests("PATCH")] == [None] * 3
    whole_in(faulty.address, tmp_path / "back")


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("method", ["HEAD", "POST", "PATCH", "PUT"])
def test_retryable_statuses_are_retried(
    layout: Store, make: Make, faulty: Proxy, status: int, method: str
) -> None:
    image = make()
    faulty.faults.append(Fault("status", method, status=status, times=2))
    pushed(layout, image, faulty.address)
    assert digest_in(faulty.address) == image.manifest_digest


@pytest.mark.parametrize("method", ["HEAD", "POST", "PATCH", "PUT"])
def test_retry_after_is_respected(layout: Store, make: Make, faulty: Proxy, method: str) -> None:
    headers = {"Retry-After": "1"}
    faulty.faults.append(Fault("status", method, status=429, headers=headers))
    pushed(layout, make(), faulty.address, jobs=1)
    number = [item.method for item in faulty.seen].index(method)
    refused, following = faulty.seen[number : number + 2]
    assert following.when - refused.when >= 1


def test_slow_answers_are_waited_for(layout: Store, make: Make, faulty: Proxy) -> None:
    faulty.faults.append(Fault("slow", times=10))
    pushed(layout, make(), faulty.address)


def test_registry_that_stays_down_ends_the_push(layout: Store, make: Make, faulty: Proxy) -> None:
    faulty.faults.append(Fault("status", "PATCH", status=503, times=99))
    shown = Shown()
    with pytest.raises(RegistryError, match="6 attempts failed, the last one: HTTP 503") as error:
        pushed(layout, make(), faulty.address, progress=shown)
    assert "same command" in str(error.value.remedy)
    assert faulty.count("PATCH") == 6
    assert digest_in(faulty.address) is None


def test_refused_manifest_leaves_the_tag(layout: Store, make: Make, faulty: Proxy) -> None:
    before = make()
    pushed(layout, before, faulty.address)
    faulty.faults.append(Fault("status", "PUT", "manifests/sha256", status=400, times=99))
    with pytest.raises(RegistryError, match="HTTP 400"):
        pushed(layout, make(top="2"), faulty.address)
    assert digest_in(faulty.address) == before.manifest_digest


def test_registry_that_alters_the_manifest_is_detected(
    layout: Store, make: Make, faulty: Proxy
) -> None:
    image = make()

    def falsify(request: Any) -> bool:
        if request.command == "HEAD" and "manifests/sha256" in request.path:
            request.answer(200, {"Docker-Content-Digest": "sha256:" + "0" * 64}, b"")
            return True
        return False

    faulty.guard = falsify
    with pytest.raises(RegistryError, match=f"instead of {image.manifest_digest}"):
        pushed(layout, image, faulty.address)
    faulty.guard = None
    assert digest_in(faulty.address) is None
