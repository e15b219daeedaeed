"""`propose`, with an index on the loopback interface: what is found, made and refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from images.errors import FetchError, LockError, UsageError
from images.inputs.lock import target_lock
from images.inputs.matrix.load import load
from images.inputs.release import needs, proposal, published
from images.inputs.release.row import CutOff, Row
from images.repository import ROOT, SGLANG_VERSIONS
from tests.faults.index import Index, serving
from tests.unit.wheels import write_wheel

TAG = "py3-none-any"
HEAD = """\
# a comment
platform: nvidia-cuda
python: "3.11"
base: {suite: bookworm}
toolkit: {"12": "12.4"}
locks: locks
defaults:
  requirements: ["sglang=={sglang}", "torch=={torch}"]
targets:
"""
OLD = """\
  # the old one
  - id: torch280-sglang052
    sglang: 0.5.2
    torch: 2.8.0
    cuda: "12.8"
    exclude_newer: {date: 2025-09-16, why: a test}
    overrides:
      - pin: helper==1.0
        why: the stub cannot be installed
"""


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    for name in ("UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_INDEX", "UV_FIND_LINKS", "UV_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with serving() as found:
        monkeypatch.setenv("UV_DEFAULT_INDEX", found.url())
        yield found


def publish(index: Index, place: Path, name: str, version: str, *requires: str) -> Path:
    place.mkdir(exist_ok=True)
    metadata = "".join(f"Requires-Dist: {one}\n" for one in requires)
    path = write_wheel(place, {f"{name}.py": b""}, name=name, version=version, metadata=metadata)
    index.add(path)
    return path


@pytest.fixture
def release(index: Index, tmp_path: Path) -> Path:
    """sglang 0.5.3 and what it needs; returns its wheel."""
    place = tmp_path / "published"
    publish(index, place, "nvidia_cuda_runtime_cu12", "12.8.90")
    publish(index, place, "torch", "2.8.0", "nvidia-cuda-runtime-cu12==12.8.90")
    publish(index, place, "helper", "1.0")
    return publish(index, place, "sglang", "0.5.3", "torch==2.8.0", "helper")


# -- the index -------------------------------------------------------------------------------------


def test_release_torch_and_cuda_are_found(release: Path, tmp_path: Path) -> None:
    found = published.find("0.5.3")
    assert found == published.newest()
    wheel = published.download(found, tmp_path / "cache", lambda _: None)
    assert wheel.read_bytes() == release.read_bytes()
    assert needs.torch_of(wheel) == "2.8.0"
    assert needs.cuda_of("2.8.0", "2025-01-01T00:00:00Z") == "12.8"


def test_torch_of_an_extra_counts(tmp_path: Path) -> None:
    marked = (
        'Requires-Dist: torch==2.6.0 ; extra == "srt"\nRequires-Dist: torch==1 ; extra == "x"\n'
    )
    wheel = write_wheel(tmp_path, {}, name="sglang", version="0.4.6", metadata=marked)
    assert needs.torch_of(wheel) == "2.6.0"
    bare = write_wheel(tmp_path, {}, name="sglang", version="0.4.7")
    with pytest.raises(LockError, match="no single version of torch"):
        needs.torch_of(bare)


def test_unknown_and_yanked_releases_are_refused(index: Index, release: Path) -> None:
    with pytest.raises(UsageError, match=r"no release sglang==9\.9"):
        published.find("9.9")
    page = json.loads(index.page("sglang") or b"")
    page["files"][0]["yanked"] = "broken"
    index.pages["sglang"] = json.dumps(page).encode()
    with pytest.raises(UsageError, match="is yanked"):
        published.find("0.5.3")


def test_index_that_does_not_answer_is_no_unknown_release(index: Index, release: Path) -> None:
    index.status = 500
    with pytest.raises(FetchError):
        published.find("0.5.3")


@pytest.mark.parametrize("text", ["0.5.3", "torch==1", "sglang>=1", "sglang==x", "sglang==1rc1"])
def test_what_names_no_final_release_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        published.version_of(text)
    assert published.version_of("sglang==1rc1", pre_releases=True) == "1rc1"


# -- the proposal ----------------------------------------------------------------------------------


def made(place: Path) -> proposal.Proposal:
    (place / "matrix.yaml").write_text(HEAD + OLD)
    row = Row("torch280-sglang053", "0.5.3", "2.8.0", "12.8", CutOff("2025-01-01", "a test"))
    table = SGLANG_VERSIONS.read_text() + '\nSUPPORTED = (*SUPPORTED, "0.5.3")\n'
    table = table.replace("release.version == base", "release.version in (base, '0.5.2')")
    runtime = proposal.Supported({SGLANG_VERSIONS: table}, ())
    return proposal.make(load(place / "matrix.yaml"), row, runtime, place / "cache")


def test_row_is_locked_and_nothing_is_written(release: Path, tmp_path: Path) -> None:
    found = made(tmp_path)
    text = found.files[tmp_path / "matrix.yaml"]
    assert text.startswith(HEAD + OLD + "\n  - id: torch280-sglang053\n")
    assert "overrides" not in text.removeprefix(HEAD + OLD)
    assert [item.name for item in found.lock.distributions] == [
        "helper", "nvidia-cuda-runtime-cu12", "sglang", "torch"]  # fmt: skip
    assert (tmp_path / "matrix.yaml").read_text() == HEAD + OLD
    assert not (tmp_path / "locks").exists()
    assert list(found.files)[-1] == tmp_path / "matrix.yaml"


def test_neighbours_entries_are_copied_where_it_does_not_lock_without(
    index: Index, release: Path, tmp_path: Path
) -> None:
    publish(index, tmp_path / "published", "sglang", "0.5.3", "torch==2.8.0", "helper==2.0rc5")
    found = made(tmp_path)
    row = found.files[tmp_path / "matrix.yaml"].removeprefix(HEAD + OLD)
    assert "    overrides:\n      - pin: helper==1.0\n        why: the stub" in row
    assert "copied from torch280-sglang052" in found.questions[0]


def test_entry_that_a_build_would_refuse_is_reported(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = "  gpu_code:\n    gone: {licence: MIT, why: a test}\ntargets:\n"
    monkeypatch.setattr(sys.modules[__name__], "HEAD", HEAD.replace("targets:\n", entry))
    assert "matrix.yaml:10: gpu_code: gone is not in the lock" in " ".join(made(tmp_path).questions)


def test_release_that_does_not_lock_is_refused(index: Index, release: Path, tmp_path: Path) -> None:
    publish(index, tmp_path / "published", "sglang", "0.5.3", "torch==2.8.0", "absent")
    with pytest.raises(LockError, match="absent") as error:
        made(tmp_path)
    assert "--exclude-newer DATE" in (error.value.remedy or "")


def test_lock_that_is_written_is_current(release: Path, tmp_path: Path) -> None:
    found = made(tmp_path)
    for path, text in found.files.items():
        path = tmp_path / "versions.py" if path == SGLANG_VERSIONS else path
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    matrix = load(tmp_path / "matrix.yaml", tmp_path / "versions.py")
    target = matrix.target("torch280-sglang053")
    assert target_lock.read(matrix, target) == dataclasses.replace(found.lock, gpus=target.gpus)


# -- the command -----------------------------------------------------------------------------------


def propose(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "build.py", "propose", *arguments, "--cache", str(checkout / "cache")],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the command reads and writes."""
    place = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("images", "roll_runtime"):
        shutil.copytree(ROOT / name, place / name, ignore=ignored)
    for name in ("build.py", "matrix.yaml", "docs/roll-runtime.md", "tests/runtime/wheels.lock"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, place / name)
    return place


def contents(checkout: Path) -> dict[Path, bytes]:
    names = ("matrix.yaml", "images/locks", "roll_runtime/src", "tests")
    files = [one for name in names for one in [checkout / name, *(checkout / name).rglob("*")]]
    return {one: one.read_bytes() for one in files if one.is_file() and one.suffix != ".pyc"}


def test_contract_that_fails_writes_nothing_and_names_the_files(
    release: Path, checkout: Path
) -> None:
    before = contents(checkout)
    done = propose(checkout, "sglang==0.5.3")
    assert done.returncode == 1, done.stderr
    assert "sglang/srt/entrypoints/engine.py: there is no such file" in done.stderr
    assert contents(checkout) == before


def test_known_release_is_refused_before_the_index_is_asked(index: Index, checkout: Path) -> None:
    done = propose(checkout, "sglang==0.5.2")
    assert done.returncode == 2, done.stderr
    assert "is a target already" in done.stderr
    assert index.seen == []


def test_newest_that_is_older_than_the_targets_is_nothing_to_propose(
    release: Path, checkout: Path
) -> None:
    done = propose(checkout, "--newest")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("nothing to propose")
