"""Pushes of one image at the same time, and the responses of registries to them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from images.errors import RegistryError
from images.export.push.push import Pushed
from images.export.push.reuse import MountSources
from images.http.retry import Policy
from images.oci.store.store import Store
from tests.integration.push.conftest import Make, digest_in, pushed, states, whole_in
from tests.integration.registries import Proxy

PATIENT = Policy(base_delay=0.05, max_delay=1.0)
INVALID, UNKNOWN = "DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN"


@pytest.mark.parametrize("tags", [["v1"] * 8, [f"v{number}" for number in range(8)]])
def test_eight_pushes_of_one_image_end_well(
    layout: Store, make: Make, server: str, tmp_path: Path, tags: list[str]
) -> None:
    image = make()

    def one(tag: str) -> Pushed:
        return pushed(
            layout, image, server, tag=tag, policy=PATIENT, mount_sources=MountSources(known=False)
        )

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(one, tags))
    assert {done.manifest_digest for done in found} == {image.manifest_digest}
    for tag in set(tags):
        assert digest_in(server, f"team/app:{tag}") == image.manifest_digest
    whole_in(server, tmp_path / "back", f"team/app:{tags[0]}")


def refusing(
    faulty: Proxy, method: str, path: str, times: int, status: int, codes: Sequence[str]
) -> None:
    """Refuse some requests with several codes at once; the registry sees none of them."""
    left = [times]
    document = {"errors": [{"code": code, "message": code.lower()} for code in codes]}

    def guard(request: Any) -> bool:
        if request.command != method or path not in request.path or left[0] <= 0:
            return False
        left[0] -= 1
        headers = {"Content-Type": "application/json"}
        request.answer(status, headers, json.dumps(document).encode())
        return True

    faulty.guard = guard


@pytest.mark.parametrize(
    ("status", "codes", "path"),
    [
        (400, [INVALID, UNKNOWN], "/manifests/sha256"),
        (400, [INVALID, UNKNOWN], "/manifests/v1"),
        (400, [UNKNOWN, INVALID] * 20, "/manifests/sha256"),
        (404, [UNKNOWN], "/manifests/sha256"),
        (409, [UNKNOWN], "/manifests/v1"),
        (416, [INVALID, UNKNOWN], "/manifests/sha256"),
    ],
)
def test_manifest_whose_blobs_are_unknown_for_a_moment(
    layout: Store, make: Make, faulty: Proxy, status: int, codes: list[str], path: str
) -> None:
    """Distribution returns that while another client writes the same one."""
    refusing(faulty, "PUT", path, 3, status, codes)
    image = make()
    done = pushed(layout, image, faulty.address)
    assert states(done) == ["sent"] * 4
    assert digest_in(faulty.upstream) == image.manifest_digest
    assert faulty.count("PUT", "/uploads/") == 4, "no blob was sent twice"


@pytest.mark.parametrize("status", [404, 409])
def test_manifest_refused_while_another_client_writes_it(
    layout: Store, make: Make, faulty: Proxy, status: int
) -> None:
    refusing(faulty, "PUT", "/manifests/", 3, status, ["CONFLICT"])
    image = make()
    pushed(layout, image, faulty.address)
    assert digest_in(faulty.upstream) == image.manifest_digest


@pytest.mark.parametrize(
    ("method", "status"), [("PATCH", 409), ("PATCH", 400), ("PUT", 404), ("PUT", 409), ("PUT", 416)]
)
def test_upload_refused_while_another_client_writes_begins_anew(
    layout: Store, make: Make, faulty: Proxy, tmp_path: Path, status: int, method: str
) -> None:
    refusing(faulty, method, "/uploads/", 3, status, ["BLOB_UPLOAD_UNKNOWN", INVALID])
    pushed(layout, make(), faulty.address)
    whole_in(faulty.upstream, tmp_path / "back")


def test_repository_that_two_pushes_create_at_once(
    layout: Store, make: Make, faulty: Proxy
) -> None:
    refusing(faulty, "POST", "/uploads/", 5, 409, ["CONFLICT"])
    assert states(pushed(layout, make(), faulty.address)) == ["sent"] * 4


def test_blob_that_stays_unknown_is_sent_once_more_only(
    layout: Store, make: Make, faulty: Proxy
) -> None:
    refusing(faulty, "PUT", "/manifests/", 999, 400, [INVALID, UNKNOWN])
    with pytest.raises(RegistryError, match=UNKNOWN):
        pushed(layout, make(), faulty.address)
    assert digest_in(faulty.upstream) is None
    assert faulty.count("PUT", "/uploads/") <= 8


@pytest.mark.parametrize("status", [400])
def test_only_the_named_blobs_are_sent_again(
    layout: Store, make: Make, faulty: Proxy, status: int
) -> None:
    """The registry reports one blob as present, and the same one as unknown."""
    pushed(layout, make(), faulty.address)
    image = make(top="2")
    lost = image.layers[1].blob.digest
    detail = {"code": UNKNOWN, "message": "blob unknown", "detail": {"digest": lost}}
    seen: list[str] = []

    def guard(request: Any) -> bool:
        if request.command == "PUT" and "/uploads/" in request.path:
            seen.append(request.path)
        again = any(lost.partition(":")[2] in path for path in seen)
        if request.command == "PUT" and "/manifests/sha256" in request.path and not again:
            body = json.dumps({"errors": [detail]}).encode()
            request.answer(status, {"Content-Type": "application/json"}, body)
            return True
        return False

    faulty.guard = guard
    assert states(pushed(layout, image, faulty.address)) == ["present", "sent", "sent", "sent"]
