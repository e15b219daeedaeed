"""Pushes that are broken off: no tag, nothing wrong, and they go on."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from images.errors import IntegrityError, LoginError
from images.oci.store.store import Store
from tests.damage import flipped
from tests.integration.push.conftest import Make, command_line, digest_in, pushed, states, whole_in
from tests.integration.registries import Fault, Proxy


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_interrupted_push_leaves_no_tag_and_resumes(
    layout: Store, make: Make, faulty: Proxy, tmp_path: Path, how: signal.Signals
) -> None:
    """The large layer hangs; the small ones are there when the process ends."""
    image = make()
    faulty.faults.append(Fault("stalled", "PATCH", times=1))
    with subprocess.Popen(command_line(layout, faulty.address), stderr=subprocess.PIPE) as child:
        assert faulty.stalled.wait(60)
        while sum(item.length > 0 for item in faulty.requests("PUT")) < 3:
            time.sleep(0.05)
        time.sleep(0.5)  # the answers
        child.send_signal(how)
        _, stderr = child.communicate(timeout=30)
    assert child.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    assert b"Traceback" not in stderr
    assert digest_in(faulty.address) is None
    faulty.seen.clear()
    done = pushed(layout, image, faulty.address)
    assert states(done) == ["sent", "present", "present", "present"]
    whole_in(faulty.address, tmp_path / "back")


def test_failure_of_one_blob_cancels_the_others(layout: Store, make: Make, faulty: Proxy) -> None:
    faulty.faults.append(Fault("stalled", "PATCH", times=1))
    faulty.faults.append(Fault("status", "PUT", "uploads", status=403, times=99))
    with pytest.raises(LoginError, match="HTTP 403"):
        pushed(layout, make(), faulty.address)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("registry")]


@pytest.mark.parametrize("number", [0, 1], ids=["large", "small"])
@pytest.mark.parametrize("damage", ["flipped", "cut off", "missing"])
def test_damaged_blob_is_reported_and_refused(
    layout: Store, make: Make, faulty: Proxy, number: int, damage: str
) -> None:
    image = make()
    blob = image.layers[number].blob
    path = layout.blobs.path(blob.digest)
    content = path.read_bytes()
    path.unlink()
    if damage == "flipped":
        path.write_bytes(flipped(content))
    elif damage == "cut off":
        path.write_bytes(content[:-1])
    with pytest.raises(IntegrityError) as error:
        pushed(layout, image, faulty.address)
    assert blob.digest in error.value.message
    assert "gc --damaged" in str(error.value.remedy)
    assert not faulty.requests("PUT", "manifests")
    assert digest_in(faulty.address) is None
