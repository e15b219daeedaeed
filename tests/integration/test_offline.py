"""Builds without a network, from a download cache that was filled and carried."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from images.inputs.fetch import download_cache
from images.inputs.lock import base_lock
from tests.integration.conftest import CACHE, TARGET, Cli, SmallImage, other_cache
from tests.integration.test_build import HEAVY

NO_NETWORK = ("unshare", "--net")

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root to have no network")


def test_same_bytes_elsewhere(small: SmallImage, tmp_path: Path) -> None:
    """Another place, cache, umask, time zone, locale, working directory, jobs, and no network.

    What `fetch --list` names is all that travels: no interpreter, nothing of other targets.
    """
    carried = tmp_path / "another place ü" / "carried"
    carried.mkdir(parents=True)
    source = Cli(tmp_path / "no store")
    listed = source.run("fetch", "--target", TARGET, "--list")
    assert listed.returncode == 0, listed.stderr
    pack = subprocess.Popen(
        ["tar", "-C", CACHE, "-cf", "-", "-T", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    unpack = subprocess.Popen(["tar", "-C", carried, "-xf", "-"], stdin=pack.stdout)
    assert pack.stdin
    pack.stdin.write(listed.stdout.encode())
    pack.stdin.close()
    assert (pack.wait(), unpack.wait()) == (0, 0)
    assert not (carried / "interpreters").exists()

    cli = Cli(carried.parent / "store", carried)
    checked = cli.run("fetch", "--target", TARGET, "--check", "--json", prefix=NO_NETWORK)
    assert checked.returncode == 0, checked.stderr
    document = json.loads(checked.stdout)
    assert document["missing"] == []
    assert document["present"]["files"] == len(listed.stdout.splitlines())
    env = {"TZ": "Pacific/Kiritimati", "LC_ALL": "C", "LANG": "C", "PYTHONHASHSEED": "77"}
    again = cli.build(
        *("--offline", "--jobs", "1"), prefix=NO_NETWORK, env=env, umask=0o077, cwd=tmp_path
    )
    assert not any(layer["reused"] for layer in again["layers"])
    first = [(layer["title"], layer["digest"]) for layer in small.document["layers"]]
    assert [(layer["title"], layer["digest"]) for layer in again["layers"]] == first
    assert again["manifest_digest"] == small.document["manifest_digest"]
    sboms = [made.run("sbom", "--target", TARGET).stdout for made in (small.cli, cli)]
    assert sboms[0] == sboms[1]


def test_what_is_missing_is_named_with_the_command_that_fetches_it(
    small: SmallImage, tmp_path: Path
) -> None:
    cache = other_cache(tmp_path)
    cli = Cli(small.copy_to(tmp_path, keep=HEAVY).store, cache)
    (wheel,) = cache.glob("*/PyYAML-6.0.2-*")
    (need,) = cache.glob("*/wheel-0.45.1-*")
    deb = download_cache.cached(base_lock.read()[0].artifact, cache)
    for path in (wheel, need, deb):
        path.unlink()

    failed = cli.run("build", "--target", TARGET, "--offline", prefix=NO_NETWORK)
    assert failed.returncode == 5
    assert f"pyyaml==6.0.2: {wheel.name}" in failed.stderr
    assert f"wheel==0.45.1: {need.name}" in failed.stderr
    command = f"python build.py fetch --target {TARGET} --cache {cache} --matrix {cli.matrix}"
    assert command in failed.stderr
    checked = cli.run("fetch", "--target", TARGET, "--check", prefix=NO_NETWORK)
    assert checked.returncode == 5
    assert all(path.name in checked.stderr for path in (wheel, need, deb))
    assert not wheel.exists()

    fetched = cli.run("fetch", "--target", TARGET, "--json")
    assert fetched.returncode == 0, fetched.stderr
    assert json.loads(fetched.stdout)["fetched"]["files"] == 3
    again = cli.build("--offline", prefix=NO_NETWORK)
    assert again["manifest_digest"] == small.document["manifest_digest"]
