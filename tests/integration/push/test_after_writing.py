"""A registry that takes a manifest and shows it later, or shows something else."""

from __future__ import annotations

from typing import Any

import pytest

from images.errors import RegistryError
from images.export import promote
from images.export.promote import Candidate
from images.oci.reference import Repository
from images.oci.registry.client import Registry
from images.oci.store.store import Store
from tests.integration.push.conftest import QUICK, Make, digest_in, pushed
from tests.integration.registries import Proxy

OTHER = "sha256:" + "0" * 64


class Late:
    """Answers questions for manifests that were put with what it is given, some times each.

    Args:
        faulty: the proxy that it guards.
        shown: a digest; None for a 404.
        times: how often.
        where: in the paths of those that it concerns.
    """

    def __init__(
        self, faulty: Proxy, shown: str | None, times: int = 999, where: str = "/manifests/"
    ) -> None:
        self._proxy, self._shown, self._times, self._where = faulty, shown, times, where
        self._left: dict[str, int] = {}
        faulty.guard = self

    def __call__(self, request: Any) -> bool:
        if self._where not in request.path:
            return False
        if request.command == "PUT":
            self._left[request.path] = self._times
            return False
        if self._left.get(request.path, 0) <= 0:
            return False
        self._left[request.path] -= 1
        shown = {"Docker-Content-Digest": self._shown} if self._shown else {}
        request.answer(200 if self._shown else 404, shown, b"")
        return True


def without_digest(faulty: Proxy) -> None:
    """A registry whose answer to a manifest names no digest: the header is a SHOULD."""
    inner = faulty.guard

    def guard(request: Any) -> bool:
        if inner and inner(request):
            return True
        if request.command == "PUT" and "/manifests/" in request.path:
            connection, response = request._ask(None, int(request.headers["Content-Length"]))
            response.read()
            connection.close()
            request.answer(response.status, {"Location": "/x"}, b"")
            return True
        return False

    faulty.guard = guard


def test_manifest_that_shows_later_is_waited_for(layout: Store, make: Make, faulty: Proxy) -> None:
    Late(faulty, None, times=3)
    image = make()
    assert pushed(layout, image, faulty.address).notes == ()
    assert digest_in(faulty.upstream) == image.manifest_digest
    assert faulty.count("PUT", "/manifests/") == 2, "asked again, not put again"


def test_manifest_that_was_accepted_and_never_shows_counts(
    layout: Store, make: Make, faulty: Proxy
) -> None:
    Late(faulty, None)
    image = make()
    pushed(layout, image, faulty.address)
    assert digest_in(faulty.upstream) == image.manifest_digest


@pytest.mark.parametrize("times", [3, 999])
def test_stale_tag_is_waited_for_and_then_reported(
    layout: Store, make: Make, faulty: Proxy, times: int
) -> None:
    before = make()
    pushed(layout, before, faulty.address)
    image = make(top="2")
    Late(faulty, before.manifest_digest, times, where="/manifests/v1")
    done = pushed(layout, image, faulty.address)
    assert digest_in(faulty.upstream) == image.manifest_digest
    if times == 3:
        assert done.notes == ()
    else:
        assert before.manifest_digest in done.notes[0]


def test_promoted_tag_must_be_shown(layout: Store, make: Make, faulty: Proxy) -> None:
    """A tag that is moved after a proof is not left to the last of several clients."""
    before, image = make(), make(top="2")
    pushed(layout, image, faulty.address, tag="new")
    pushed(layout, before, faulty.address)
    Late(faulty, before.manifest_digest, where="/manifests/v1")
    repository = Repository(faulty.address, "team/app")
    with (
        Registry(repository, plain_http=True, policy=QUICK) as connected,
        pytest.raises(RegistryError, match=f"and names {before.manifest_digest}"),
    ):
        promote.promote(Candidate("t", image.manifest_digest, "proven"), connected, "v1")


def test_manifest_without_a_digest_is_read_back(layout: Store, make: Make, faulty: Proxy) -> None:
    Late(faulty, None, times=3)
    without_digest(faulty)
    image = make()
    pushed(layout, image, faulty.address)
    assert digest_in(faulty.upstream) == image.manifest_digest


@pytest.mark.parametrize("shown", [None, OTHER])
def test_manifest_without_a_digest_that_never_shows_is_an_error(
    layout: Store, make: Make, faulty: Proxy, shown: str | None
) -> None:
    Late(faulty, shown, where="/manifests/v1")
    without_digest(faulty)
    image = make()
    with pytest.raises(RegistryError, match=f"instead of {image.manifest_digest}"):
        pushed(layout, image, faulty.address)


def test_registry_that_reports_an_altered_manifest(
    layout: Store, make: Make, faulty: Proxy
) -> None:
    image = make()

    def alter(request: Any) -> bool:
        if request.command == "PUT" and "/manifests/sha256" in request.path:
            request.answer(201, {"Docker-Content-Digest": OTHER}, b"")
            return True
        return False

    faulty.guard = alter
    with pytest.raises(RegistryError, match=f"is {OTHER} after the push"):
        pushed(layout, image, faulty.address)
    assert digest_in(faulty.upstream) is None


def test_blobs_that_show_later_are_waited_for(layout: Store, make: Make, faulty: Proxy) -> None:
    """The manifest reached a node that has not heard of the blobs yet."""
    left = [4]
    unknown = b'{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown to registry"}]}'

    def guard(request: Any) -> bool:
        if request.command == "PUT" and "/manifests/" in request.path and left[0]:
            left[0] -= 1
            request.answer(404, {"Content-Type": "application/json"}, unknown)
            return True
        return False

    faulty.guard = guard
    image = make()
    pushed(layout, image, faulty.address)
    assert digest_in(faulty.upstream) == image.manifest_digest
    assert faulty.count("PUT", "/uploads/") == 4, "no blob was sent twice"
