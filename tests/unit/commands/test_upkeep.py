"""`verify` and `gc`."""

from __future__ import annotations

import json

from images.oci.store.store import Store
from tests.unit.command_line import TARGET, cli, failed


def test_verify_of_a_good_store_finds_no_fault(store: Store) -> None:
    done = cli("verify", "--store", store.path)
    assert (done.returncode, "no fault" in done.stdout) == (0, True)
    assert json.loads(cli("verify", "--json", "--store", store.path).stdout)["faults"] == []


def test_verify_lists_all_faults_and_its_remedy_works(store: Store) -> None:
    (layer,) = store.load(TARGET).layers
    store.blobs.path(layer.blob.digest).write_bytes(b"damaged")
    done = cli("verify", "--json", "--store", store.path)
    assert done.returncode == 6
    assert len(json.loads(done.stdout)["faults"]) == 2
    assert layer.blob.digest in done.stderr
    assert "gc --damaged" in done.stderr
    assert cli("gc", "--damaged", "--store", store.path).returncode == 0
    assert not store.blobs.path(layer.blob.digest).exists()


def test_broken_index_is_a_fault_and_no_traceback(store: Store) -> None:
    (store.path / "index.json").write_text("broken")
    assert "index.json" in failed(6, "verify", "--store", store.path)
    assert "index.json" in failed(7, "inspect", "--store", store.path)
    assert "index.json" in failed(7, "gc", "--store", store.path)
