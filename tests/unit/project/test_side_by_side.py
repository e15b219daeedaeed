"""What the benchmark side by side is made of; `--small` tries it whole, with real daemons."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest
import requests

from benchmarks.loopback import relay
from benchmarks.processes import timed
from benchmarks.rivals import wheels
from benchmarks.rivals.floor import Rates, Work
from benchmarks.rivals.results import Results, tables
from benchmarks.rivals.steps import Rounds, Step, sequence, variants

NAMES = ["first", "cold", "same-1", "runtime-1", "bump-1", "second"]
RATES = Rates(sha256=100, inflate=50, compress=25, decompress=200, write=10, start=0.5)


def keys(steps: list[Step]) -> list[str]:
    return [step.key for step in steps]


def test_variants_are_states_of_the_sources() -> None:
    made = variants("one", "two", Rounds(same=1, runtime=1, bump=1))
    assert list(made) == NAMES
    assert made["second"].target == "two"
    assert {name for name, variant in made.items() if variant.pin} == {"bump-1"}
    assert {name for name, variant in made.items() if variant.comment} == {"runtime-1"}


def test_all_that_changed_is_pushed_and_pulled_in_order() -> None:
    building, pulling = sequence(NAMES, cached=True)
    assert keys(building) == [
        "build first", "build cold", "push cold", "build same-1", "build runtime-1",
        "push runtime-1", "build bump-1", "push bump-1", "build second", "push second",
    ]  # fmt: skip
    assert keys(pulling) == ["pull cold", "pull runtime-1", "pull bump-1", "pull second"]


def test_without_a_cache_all_cold_builds_are_one() -> None:
    building, pulling = sequence(NAMES, cached=False)
    assert not {"build first", "build second", "push second"} & set(keys(building))
    assert keys(pulling)[-1] == "pull bump-1"


def test_results_are_kept_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    results = Results(path)
    results.of("ours")["build cold"] = {"seconds": 1.0}
    results.keep()
    assert Results(path).of("ours") == {"build cold": {"seconds": 1.0}}


def test_tables_show_medians_ratios_goals_and_floors() -> None:
    work = {"hashed": 0, "inflated": 0, "compressed": 0, "decompressed": 0, "written": 40}
    ours = {
        "build runtime-1": {"seconds": 1.0},
        "build runtime-2": {"seconds": 3.0},
        "build runtime-3": {"seconds": 2.0},
        "build bump-1": {"seconds": 5.0, "work": {**work, "starts": 2}},
        "push bump-1": {"seconds": 1.0, "sent": 1_000_000},
    }
    other = {
        "build runtime-1": {"seconds": 1.0},
        "build bump-1": {"seconds": 170.0},
        "push bump-1": {"seconds": 10.0, "sent": 49_000_000},
    }
    document = {
        "machine": {"cores": "2"},
        "versions": {"other": {"Docker": "1.0"}},
        "rates": vars(RATES),
        "readings": {"ours": ours, "other": other},
    }
    text = tables(document, {"ours": "ours", "other": "Other"})
    assert "Rivals: Docker 1.0." in text
    assert "| `roll_runtime` changed | 2.00 [1.00 to 3.00] | 1.00 (0.5x) |" in text
    assert "| pin bumped, build and push | 6.00 | 180 (30x) |" in text
    assert "| push, pin bumped | 1.00 | 49.00 (49x) |" in text
    assert "| pin bumped, build and push: 30 times | 30, reached |" in text
    assert "| pin bumped, bytes pushed: 50 times | 49, missed |" in text
    assert "| `roll_runtime` changed: 1 times | 0.5, missed |" in text
    assert "| one small pin bumped | 5.00 | 5.00 | 1.00 |" in text  # 40 / 10 + 2 * 0.5


def test_a_floor_fills_all_cores_while_the_disk_writes() -> None:
    cores = os.cpu_count() or 1
    work = Work(hashed=100, inflated=50, compressed=25, decompressed=200, written=1)
    assert work.floor(RATES) == pytest.approx(4 / cores)
    assert Work(hashed=100, written=100, starts=2).floor(RATES) == pytest.approx(11)


def test_memory_is_that_of_all_descendants() -> None:
    child = "import time; held = bytearray(80_000_000); held[::4096] = bytes(len(held[::4096])); "
    child += "time.sleep(1)"
    run, _ = timed("a shell and its child", ["sh", "-c", f'python3 -c "{child}"; true'], ())
    assert 80_000_000 < run.together < 160_000_000


def test_a_relay_passes_all_bytes_and_counts_them() -> None:
    sent = os.urandom(3_000_000)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def echo() -> None:
            connection, _ = server.accept()
            with connection, connection.makefile("rb") as stream:
                connection.sendall(stream.read()[:1_000_000])

        threading.Thread(target=echo, daemon=True).start()
        with relay(f"127.0.0.1:{server.getsockname()[1]}") as between:
            host, _, port = between.address.rpartition(":")
            with socket.create_connection((host, int(port))) as client:
                client.sendall(sent)
                client.shutdown(socket.SHUT_WR)
                with client.makefile("rb") as stream:
                    assert stream.read() == sent[:1_000_000]
            assert between.counted() == (1_000_000, 3_000_000)
            assert between.counted() == (0, 0)
        with relay("127.0.0.1:1", int(port)) as again:  # the port is free at once
            assert again.address == between.address


def test_wheels_are_a_page_with_files_and_their_parts(tmp_path: Path) -> None:
    wheel = tmp_path / "a-1-py3-none-any.whl"
    wheel.write_bytes(bytes(range(200)))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with wheels.index({wheel.name: wheel}, port) as page, requests.Session() as session:
        assert f'href="{wheel.name}"' in session.get(page, timeout=9).text
        assert session.get(page + wheel.name, timeout=9).content == wheel.read_bytes()
        part = session.get(page + wheel.name, headers={"Range": "bytes=10-19"}, timeout=9)
        assert (part.status_code, part.content) == (206, bytes(range(10, 20)))
        assert part.headers["Content-Range"] == "bytes 10-19/200"
        assert session.get(page + "b.whl", timeout=9).status_code == 404
