"""Refusals with the registry's own reason, and what helps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from images.errors import RegistryError, UsageError
from images.export.push import zstd_probe
from images.oci.store.store import Store
from tests.integration.conftest import Cli
from tests.integration.push.conftest import Make, command_line, digest_in, pushed, states
from tests.integration.registries import Fault, Proxy

ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"


def refuse(request: Any, status: int, code: str, text: str) -> bool:
    body = json.dumps({"errors": [{"code": code, "message": text}]}).encode()
    request.answer(status, {"Content-Type": "application/json"}, body)
    return True


def without_zstd(faulty: Proxy) -> None:
    """A registry that looks at a manifest's types first."""

    def guard(request: Any) -> bool:
        if request.command != "PUT" or "/manifests/" not in request.path:
            return False
        content = request.rfile.read(int(request.headers["Content-Length"]))
        if ZSTD.encode() in content:
            return refuse(request, 400, "MANIFEST_INVALID", f"mediaType {ZSTD} is not supported")
        connection, response = request._ask(content, len(content))
        body, headers = response.read(), dict(response.headers)
        connection.close()
        headers.pop("Content-Length", None)
        request.answer(response.status, headers, body)
        return True

    faulty.guard = guard


def test_refused_zstd_suggests_gzip(layout: Store, make: Make, faulty: Proxy) -> None:
    without_zstd(faulty)
    with pytest.raises(RegistryError, match="not supported") as error:
        pushed(layout, make(), faulty.address)
    assert "--compression gzip" in str(error.value.remedy)
    assert states(pushed(layout, make(compression="gzip"), faulty.address))


def test_refused_zstd_is_detected_before_much_is_sent(
    layout: Store, make: Make, faulty: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zstd_probe, "MIN_BYTES", 1000)
    without_zstd(faulty)
    with pytest.raises(RegistryError, match="zstd") as error:
        pushed(layout, make(), faulty.address)
    assert "--compression gzip" in str(error.value.remedy)
    assert not faulty.count("POST"), "nothing was sent"


@pytest.mark.parametrize("answer", ["the real one", "taken", "refused", "broken"])
def test_zstd_probe_is_made_once_and_never_stops_a_push(
    layout: Store,
    make: Make,
    faulty: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
) -> None:
    monkeypatch.setattr(zstd_probe, "MIN_BYTES", 1000)
    status = {"taken": 201, "refused": 403, "broken": 500}.get(answer)
    if status:
        faulty.faults.append(Fault("status", "PUT", "/manifests/", status=status, times=1))
    image = make()
    assert states(pushed(layout, image, faulty.address)) == ["sent"] * 4
    assert digest_in(faulty.address) == image.manifest_digest
    asked = 4 if answer == "broken" else 3  # tried again
    assert faulty.count("PUT", "/manifests/") == asked
    pushed(layout, make(top="2"), faulty.address, "team/other")
    assert faulty.count("PUT", "/manifests/") == asked + 2, "that registry has taken zstd before"


@pytest.mark.parametrize(
    ("status", "code", "text"),
    [
        (400, "TAG_INVALID", "The image tag 'v1' already exists and cannot be overwritten because "
         "the tag is immutable."),
        (412, "PRECONDITION", "Failed to process request due to 'app:v1' configured as immutable."),
        (409, "TAG_IMMUTABLE", "tag v1 is immutable"),
        (403, "DENIED", "protected tag: immutable"),
    ],
)  # fmt: skip
def test_immutable_tag_suggests_another(
    layout: Store, make: Make, faulty: Proxy, status: int, code: str, text: str
) -> None:
    before = make()
    pushed(layout, before, faulty.address)
    faulty.guard = lambda request: (
        request.command == "PUT"
        and request.path.endswith("/manifests/v1")
        and refuse(request, status, code, text)
    )
    with pytest.raises(RegistryError, match="immutable") as error:
        pushed(layout, make(top="2"), faulty.address)
    assert f"{faulty.address}/team/app:ANOTHER-TAG" in str(error.value.remedy)
    assert faulty.count("PUT", "/manifests/v1") == 2, "tried once: nothing of it passes"
    assert digest_in(faulty.upstream) == before.manifest_digest


def test_tag_is_not_moved_with_never_move(layout: Store, make: Make, faulty: Proxy) -> None:
    before = make()
    done = pushed(layout, before, faulty.address, never_move=True)
    assert done.before is None
    assert pushed(layout, before, faulty.address, never_move=True).unchanged
    faulty.seen.clear()
    make(top="2")
    line = command_line(layout, faulty.address, "--never-move")
    refused = Cli(layout.path).run(*line[2:])
    assert refused.returncode == UsageError.exit_code
    assert before.manifest_digest in refused.stderr
    assert not faulty.count("POST"), "nothing was sent"
    assert digest_in(faulty.upstream) == before.manifest_digest


def test_tag_that_another_client_sets_meanwhile_is_not_moved(
    layout: Store, make: Make, faulty: Proxy
) -> None:
    """The second look: just before the tag is set."""
    theirs, image = make(), make(top="2")

    def meanwhile(request: Any) -> bool:
        if request.command == "PUT" and "/manifests/sha256" in request.path:
            faulty.guard = None
            pushed(layout, theirs, faulty.upstream)
        return False

    faulty.guard = meanwhile
    with pytest.raises(UsageError, match=f"names {theirs.manifest_digest} already"):
        pushed(layout, image, faulty.address, never_move=True)
    assert digest_in(faulty.upstream) == theirs.manifest_digest


def test_moved_tag_is_reported(layout: Store, make: Make, server: str) -> None:
    before = make()
    pushed(layout, before, server)
    make(top="2")
    done = Cli(layout.path).run(*command_line(layout, server)[2:])
    assert f"(moved; it named {before.manifest_digest})" in done.stdout
