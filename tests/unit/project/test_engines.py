"""What the benchmark of pulls is made of; `--small` tries it whole, with all engines."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.checkout import Checkout
from benchmarks.engines.containerd import Containerd, Programs
from benchmarks.engines.kinds import ENGINES
from benchmarks.engines.node import Ticks
from benchmarks.engines.tables import tables
from benchmarks.processes import cpu_seconds
from benchmarks.pull import variants
from benchmarks.removal import remove
from benchmarks.rivals.results import Reading

IMAGES = {"ours": "ours", "buildkit-zstd": "BuildKit", "buildah": "buildah"}
TITLES = {name: kind.title for name, kind in ENGINES.items()}


def reading(seconds: float) -> Reading:
    return {
        "seconds": seconds,
        "written": seconds + 1,
        "fetched": 2_000_000,
        "disk": 12_000_000,
        "cpu": 30.0,
        "busy": 1.5,
        "waiting": 0.25,
        "load": 2.0,
    }


def test_tables_have_a_row_for_each_engine_and_a_column_for_each_measured_image() -> None:
    readings = {
        "podman ours": {"cold-1": reading(40), "cold-2": reading(44), "bump-1": reading(1)},
        "podman buildkit-zstd": {"cold-1": reading(84)},
        "containerd ours": {"cold-1": reading(50)},
        "containerd buildkit-zstd": {"cold-1": reading(60)},
    }
    document = {"machine": {"cores": "2"}, "versions": {}, "readings": readings}
    text = tables(document, TITLES, IMAGES)
    assert "| seconds (times ours) | engine | ours | BuildKit |\n" in text  # none of buildah
    assert "| an empty node | podman | 42.0 [40.0 to 44.0] | 84.0 (2x) |" in text
    assert "| one small pin bumped | podman | 1.00 | - |" in text
    assert "| podman | 2, reached |" in text
    assert f"| {TITLES['containerd']} | 1.2, missed |" in text
    assert "| podman | BuildKit | 85.00 | 30.00 | 1.50 | 0.25 | 2.00 |" in text


def test_busy_processors_are_those_that_neither_idle_nor_wait() -> None:
    line = "cpu  100 20 30 4000 500 6 7 8 9 9"
    assert Ticks.of(line) == Ticks(busy=100 + 20 + 30 + 6 + 7 + 8, waiting=500)


def test_a_flavour_is_built_from_the_matrix_as_it_is(tmp_path: Path) -> None:
    matrix = Path("benchmarks", "rivals", "small", "matrix.yaml")
    checkout = Checkout(tmp_path, matrix, tmp_path / "store", tmp_path / "cache")
    made = variants("torch280-sglang054")
    plain = checkout.lock(made["cold"].target)
    checkout.matrix.write_text("of a bumped pin")
    plain.write_text("of a bumped pin, which the flavour's lock is not made for")
    checkout.at(made["flavour"])
    assert checkout.matrix.read_text() == matrix.read_text()
    assert plain.read_text() == (matrix.parent / plain.name).read_text()


def test_a_checkout_has_all_packages_and_none_of_what_is_not_built(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, Path("matrix.yaml"), tmp_path / "store", tmp_path / "cache")
    assert (checkout.path / "images" / "oci" / "store" / "store.py").exists()
    assert not {"store", "tests", "evidence", ".git"} & {p.name for p in checkout.path.iterdir()}


def test_containerd_runs_with_the_named_settings_and_its_storage_is_removed(tmp_path: Path) -> None:
    if shutil.which("containerd") is None or os.geteuid():
        pytest.skip("needs containerd and root")
    programs = Programs(Path(shutil.which("containerd") or "").parent)
    engine = Containerd(tmp_path / "node", programs, {"max_concurrent_downloads": 9})
    with engine.running() as daemons:
        assert cpu_seconds(daemons) > 0
        config = (tmp_path / "node" / "config.toml").read_text()
        assert config.endswith('transfer.v1.local"]\nmax_concurrent_downloads = 9\n')
        assert engine.used() > 0
    assert not (tmp_path / "node").exists()


def test_nothing_is_left_of_a_daemon_whose_benchmark_was_killed(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("needs root")
    script = f"""
import sys; sys.path.insert(0, {str(Path.cwd())!r})
from pathlib import Path
from benchmarks import daemons
place = Path({str(tmp_path)!r})
mounted = "mkdir -p $0/m; mount -t tmpfs tmpfs $0/m; touch $0/socket $0/m/there; exec sleep 600"
command = ["sh", "-c", mounted, str(place)]
with daemons.running(None, place, command, place / "socket", lambda _: True) as pid:
    print(pid, flush=True)
    __import__("time").sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout
        daemon = Path("/proc", run.stdout.readline().strip())
        assert daemon.exists()
        run.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while daemon.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not daemon.exists()
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    assert not (tmp_path / "m" / "there").exists()


def test_a_removal_leaves_nothing_and_follows_no_link(tmp_path: Path) -> None:
    kept, tree = tmp_path / "kept", tmp_path / "a tree"
    (tree / "b" / "c").mkdir(parents=True)
    kept.write_text("kept")
    (tree / "b" / "c" / "a\nname").write_text("")
    (tree / "b" / "link").symlink_to(kept)
    remove(tree)
    remove(tree)
    assert not tree.exists()
    assert kept.exists()
