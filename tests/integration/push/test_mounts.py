"""Blobs that another repository of the registry has are mounted, not sent."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from images.export.push.reuse import MountSources
from images.oci.store.store import Store
from tests.integration.push.conftest import Make, log_in, pushed, states, whole_in
from tests.integration.registries import Fault, Proxy, TokenServer


def test_blobs_of_a_repository_pushed_to_before_are_mounted(
    layout: Store, make: Make, faulty: Proxy, tmp_path: Path
) -> None:
    pushed(layout, make(), faulty.address, "team/first")
    faulty.seen.clear()
    image = make(top="2")
    done = pushed(layout, image, faulty.address)
    assert states(done) == ["mounted", "mounted", "sent", "sent"]
    assert faulty.count("POST", "mount=") == 2
    whole_in(faulty.address, tmp_path / "back")


def test_blobs_of_a_named_repository_are_mounted(
    layout: Store, make: Make, server: str, tmp_path: Path
) -> None:
    image = make()
    pushed(layout, image, server, "team/first")
    shutil.rmtree(layout.path / ".roll" / "pushed")
    done = pushed(
        layout, image, server, mount_sources=MountSources(["no/such", "team/app", "team/first"])
    )
    assert states(done) == ["mounted"] * 4
    whole_in(server, tmp_path / "back")


def test_registry_in_another_spelling_is_the_same_registry(
    layout: Store, make: Make, server: str
) -> None:
    port = server.rpartition(":")[2]
    image = make()
    assert states(pushed(layout, image, f"localhost:{port}", "team/first")) == ["sent"] * 4
    assert states(pushed(layout, image, f"LocalHost:{port}")) == ["mounted"] * 4


@pytest.mark.parametrize("refusal", ["repository gone", "not supported", "denied"])
def test_refused_mount_is_sent_instead(
    layout: Store, make: Make, faulty: Proxy, tmp_path: Path, refusal: str
) -> None:
    image = make()
    pushed(layout, image, faulty.address, "team/first")
    if refusal == "repository gone":
        data = tmp_path / "registry" / "docker" / "registry" / "v2"
        shutil.rmtree(data / "repositories" / "team" / "first")
        shutil.rmtree(data / "blobs")
    else:
        status = {"not supported": 400, "denied": 403}[refusal]
        faulty.faults.append(Fault("status", "POST", "mount=", status=status, times=99))
    done = pushed(layout, image, faulty.address)
    assert states(done) == ["sent"] * 4
    whole_in(faulty.address, tmp_path / "back")


def test_repository_that_may_not_be_read_is_not_mounted_from(
    layout: Store, make: Make, faulty: Proxy, own_config: Path
) -> None:
    log_in(own_config, faulty.address)
    tokens = TokenServer(faulty, readable="team/app")
    image = make()
    pushed(layout, image, faulty.address, "secret/first")
    done = pushed(layout, image, faulty.address)
    assert states(done) == ["sent"] * 4
    assert ["repository:team/app:pull,push"] in tokens.issued


def test_readable_repository_is_mounted_with_a_token_for_both(
    layout: Store, make: Make, faulty: Proxy, own_config: Path
) -> None:
    log_in(own_config, faulty.address)
    tokens = TokenServer(faulty)
    image = make()
    pushed(layout, image, faulty.address, "team/first")
    assert states(pushed(layout, image, faulty.address)) == ["mounted"] * 4
    assert ["repository:team/app:pull,push", "repository:team/first:pull"] in tokens.issued
