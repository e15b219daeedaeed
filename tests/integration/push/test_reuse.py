"""Requests that only save work: where they fail, the blob is sent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from images.errors import LoginError
from images.export.push.reuse import NO_MOUNTS
from images.oci.store.store import Store
from tests.integration.conftest import TARGET, Cli
from tests.integration.push.conftest import (
    Make,
    Shown,
    command_line,
    digest_in,
    log_in,
    pushed,
    states,
    whole_in,
)
from tests.integration.registries import Fault, Proxy, TokenServer

Guard = Callable[[Any], bool]


def answering(
    when: Callable[[Any], bool], status: int, headers: dict[str, str], body: bytes = b""
) -> Guard:
    """A registry that has one answer to some requests."""

    def guard(request: Any) -> bool:
        if when(request):
            request.answer(status, headers, body)
            return True
        return False

    return guard


def mounts(request: Any) -> bool:
    return "mount=" in request.path


def heads(request: Any) -> bool:
    return request.command == "HEAD" and "/blobs/" in request.path


def reads(request: Any) -> bool:
    return request.command in ("HEAD", "GET")


ODD: dict[str, tuple[int, dict[str, str]]] = {
    "500": (500, {}),
    "429": (429, {"Retry-After": "0"}),
    "200": (200, {}),
    "an upload without an address": (202, {}),
    "an upload elsewhere, without an address": (202, {"Location": "//"}),
    "an upload at no address": (202, {"Location": "http://[::1"}),
    "an upload that is nowhere": (202, {"Location": "/v2/team/app/blobs/uploads/none"}),
    "elsewhere": (307, {"Location": "/nowhere"}),
    "mounted, and it is not": (201, {"Location": "/v2/team/app/blobs/sha256:0"}),
}


@pytest.mark.parametrize("answer", ODD.values(), ids=ODD.keys())
def test_mounts_with_unexpected_responses_are_sent(
    layout: Store, make: Make, faulty: Proxy, tmp_path: Path, answer: tuple[int, dict[str, str]]
) -> None:
    image = make()
    pushed(layout, image, faulty.address, "team/first")
    faulty.guard = answering(mounts, *answer)
    done = pushed(layout, image, faulty.address)
    assert states(done) == ["sent"] * 4
    whole_in(faulty.upstream, tmp_path / "back")


@pytest.mark.parametrize("kind", ["deaf", "cut"])
def test_mounts_that_break_are_sent(
    layout: Store, make: Make, faulty: Proxy, tmp_path: Path, kind: str
) -> None:
    image = make()
    pushed(layout, image, faulty.address, "team/first")
    faulty.faults.append(Fault(kind, "POST", "mount=", times=999))
    done = pushed(layout, image, faulty.address)
    assert states(done) == ["sent"] * 4
    assert "mounting blobs was given up" in done.notes[0]
    whole_in(faulty.address, tmp_path / "back")


def test_failing_mounts_are_soon_given_up(layout: Store, make: Make, faulty: Proxy) -> None:
    image = make()
    for name in ("one", "two", "three", "four"):
        pushed(layout, image, faulty.address, f"team/{name}", mount_sources=NO_MOUNTS)
    faulty.seen.clear()
    faulty.guard = answering(mounts, 500, {})
    pushed(layout, image, faulty.address)
    assert faulty.count("POST", "mount=") < 4 * 4 * 3, "not each blob of each, three times"


def test_no_mounts_where_they_are_turned_off(layout: Store, make: Make, faulty: Proxy) -> None:
    image = make()
    pushed(layout, image, faulty.address, "team/first")
    pushed(layout, image, faulty.address, "team/second")
    faulty.seen.clear()
    line = command_line(
        layout, faulty.address, "--no-mount", "--mount-from", "team/second", "--json"
    )
    done = Cli(layout.path).run(*line[2:])
    assert [blob["state"] for blob in json.loads(done.stdout)["blobs"]] == ["mounted"] * 4
    assert not faulty.count("POST", "from=team/first|from=team%2Ffirst")
    assert faulty.count("POST", "second") == 4


@pytest.mark.parametrize("status", [200, 400, 403, 503])
def test_blobs_without_existence_check_are_sent(
    layout: Store, make: Make, faulty: Proxy, tmp_path: Path, status: int
) -> None:
    """Also where the registry reports each as present, and it is not."""
    faulty.guard = answering(heads, status, {})
    done = pushed(layout, make(), faulty.address)
    assert states(done) == ["sent"] * 4
    whole_in(faulty.upstream, tmp_path / "back")


def test_blobs_falsely_reported_as_present_are_sent_once(
    layout: Store, make: Make, faulty: Proxy, tmp_path: Path
) -> None:
    image = make()
    sizes = {image.config_digest: len(image.config)}
    sizes |= {item.blob.digest: item.blob.size for item in image.layers}

    def falsify(request: Any) -> bool:
        if heads(request):
            size = sizes[request.path.rpartition("/")[2]]
            request.send_response(200)
            request.send_header("Content-Length", str(size))
            request.end_headers()
            return True
        return False

    faulty.guard = falsify
    assert states(pushed(layout, image, faulty.address)) == ["sent"] * 4
    assert faulty.count("PUT", "/uploads/") == 4
    whole_in(faulty.upstream, tmp_path / "back")


@pytest.mark.parametrize("status", [403, 405, 500])
def test_unreadable_tag_is_set(layout: Store, make: Make, faulty: Proxy, status: int) -> None:
    image = make()
    faulty.guard = answering(lambda it: reads(it) and "/manifests/" in it.path, status, {})
    pushed(layout, image, faulty.address)
    assert digest_in(faulty.upstream) == image.manifest_digest


def test_login_that_may_push_and_not_read(
    layout: Store, make: Make, faulty: Proxy, tmp_path: Path
) -> None:
    """The registry's reason is in a body, which the answer to a HEAD has none of."""
    reason = b'{"errors":[{"code":"DENIED","message":"not authorized: BatchGetImage"}]}'
    faulty.guard = answering(reads, 403, {"Content-Type": "application/json"}, reason)
    done = pushed(layout, make(), faulty.address)
    assert states(done) == ["sent"] * 4
    assert "not authorized: BatchGetImage" in done.notes[0]
    assert not faulty.count("HEAD", "/blobs/"), "nor is anything else asked"
    whole_in(faulty.upstream, tmp_path / "back")


def test_token_for_pushing_only(
    layout: Store, make: Make, faulty: Proxy, own_config: Path, tmp_path: Path
) -> None:
    log_in(own_config, faulty.address)
    tokens = TokenServer(faulty)

    def guard(request: Any) -> bool:
        if reads(request) and not request.path.startswith("/token"):
            realm = f'Bearer realm="http://{faulty.address}/token",service="test, one"'
            request.answer(401, {"WWW-Authenticate": realm + ',error="insufficient_scope"'}, b"{}")
            return True
        return tokens(request)

    faulty.guard = guard
    assert states(pushed(layout, make(), faulty.address)) == ["sent"] * 4
    whole_in(faulty.upstream, tmp_path / "back")


def test_wrong_password_is_sent_only_a_few_times(
    layout: Store, make: Make, faulty: Proxy, own_config: Path
) -> None:
    """Who types it wrong must not be locked out by a push."""
    log_in(own_config, faulty.address, "wrong")
    faulty.guard = answering(lambda _: True, 401, {"WWW-Authenticate": 'Basic realm="x"'})
    with pytest.raises(LoginError):
        pushed(layout, make(), faulty.address)
    assert len(faulty.seen) <= 4


def test_history_that_cannot_be_read_or_written_does_not_stop_a_push(
    layout: Store, make: Make, server: str
) -> None:
    place = layout.path / ".roll" / "pushed"
    pushed(layout, make(), server)
    for path in place.iterdir():
        path.write_text(path.read_text().replace('"last": "sha256:', '"last": "../../x?'))
    assert states(pushed(layout, make(top="2"), server, tag="v2"))[:2] == ["present"] * 2
    shutil.rmtree(place)
    place.write_text("not a directory")
    image = make(top="3")
    pushed(layout, image, server, tag="v3")
    assert digest_in(server, "team/app:v3") == image.manifest_digest
    assert (
        Cli(layout.path)
        .run("push", "--target", TARGET, "--to", f"{server}/x/y", "--plain-http")
        .returncode
        == 0
    )


class Gone(Shown):
    """Progress whose terminal went away."""

    def advance(self, amount: int) -> None:
        raise BrokenPipeError(32, "Broken pipe")


def test_closed_terminal_is_no_broken_connection(layout: Store, make: Make, faulty: Proxy) -> None:
    image = make()
    assert states(pushed(layout, image, faulty.address, progress=Gone())) == ["sent"] * 4
    assert faulty.count("PATCH") == 1
