"""The interface that scripts rely on, as `interface.json` records it.

Of each command its options: names, metavars, choices and defaults, and in which groups they exclude
each other. Of each JSON document its keys, and what their values are. The wording of the help is
free.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import build
from images.attest import evidence, evidence_check
from images.attest.evidence import Evidence, Gpu, ImageId, Machine, Outcome, Proof, RollRun
from images.export import promote
from images.export.docker import daemon
from images.export.docker.daemon import Loaded
from images.export.promote import Candidate, Promoted
from images.export.push import push
from images.export.push.push import Pushed
from images.export.push.transfer import PushedBlob
from images.oci.reference import Repository
from images.oci.registry.referrers import Attached
from images.repository import ROOT
from tests.unit.small_matrix import SmallMatrix, wheel

RECORDED = Path(__file__).with_name("interface.json")
TARGET = "torch280-sglang052"
DIGEST = f"sha256:{'1' * 64}"
CPUS = 99
MAPS = ("env", "labels", "tests")
"""Keys whose objects have keys of the images' own."""


# -- options ---------------------------------------------------------------------------------------


def commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (found,) = (one for one in parser._actions if isinstance(one, argparse._SubParsersAction))
    return dict(found.choices)


def options_of(parser: argparse.ArgumentParser) -> dict[str, Any]:
    groups = parser._mutually_exclusive_groups
    return {
        "options": [option_of(action) for action in parser._actions],
        "exclusive": [
            {"options": [one.dest for one in group._group_actions], "required": group.required}
            for group in groups
        ],
    }


def option_of(action: argparse.Action) -> dict[str, Any]:
    """What an option has, without what most have not."""
    default = action.default
    if isinstance(default, Path):
        default = f"{default}".replace(f"{ROOT}/", "CHECKOUT/")
    found = {
        "names": list(action.option_strings) or [action.dest],
        "action": type(action).__name__.strip("_"),
        "metavar": action.metavar,
        "nargs": action.nargs,
        "choices": list(action.choices) if action.choices else None,
        # Of a positional `nargs` says so; what `required` is then depends on the release of Python.
        "required": bool(action.option_strings) and action.required,
        "default": "one per CPU" if default == CPUS else default,
    }
    return {name: value for name, value in found.items() if value not in (None, False)}


# -- documents -------------------------------------------------------------------------------------


def shape(value: Any, key: str = "") -> Any:
    """What a value of a document is; of an object each key, of a list all that its items are."""
    if isinstance(value, dict) and key not in MAPS:
        return {name: shape(item, name) for name, item in value.items()}
    if isinstance(value, list):
        shapes: list[Any] = []
        for item in map(shape, value):
            if item not in shapes:
                shapes.append(item)
        return shapes
    return type(value).__name__


@pytest.fixture
def work(tmp_path: Path) -> SmallMatrix:
    """A built target with its evidence, and one that is not built."""
    work = SmallMatrix(tmp_path)
    torch = wheel("torch", 9_000_000, "2.8.0")
    work.write({"052": [torch, wheel("scipy", 3_000_000)], "054": [torch, wheel("attrs", 10)]})
    digest = work.build("052").manifest_digest
    names = evidence_check.suite(evidence_check.GPU_SUITE)
    tests = dict.fromkeys(names, Outcome("passed"))
    machine = Machine((Gpu("NVIDIA H200", 139.0, "9.0"),), "580", "13.0", "6.1")
    proof = Proof(
        machine, "docker", "2026-11-26T10:00:00Z", tests, {},
        RollRun("c" * 40, False, "2026-11-26T10:00:00Z", tests),
    )  # fmt: skip
    image = ImageId(TARGET, digest, DIGEST, DIGEST, "1.0")
    evidence.write(evidence.path_of(work.matrix.path, TARGET), Evidence(image, (proof,)))
    return work


def cli(work: SmallMatrix, *arguments: str, code: int = 0) -> Any:
    command = [sys.executable, str(ROOT / "build.py"), *arguments, "--json"]
    given = ["--matrix", str(work.matrix.path), "--store", str(work.place / "store")]
    done = subprocess.run([*command, *given], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def without_network(work: SmallMatrix) -> Iterator[tuple[str, Any]]:
    cache = ("--cache", str(work.place / "cache"))
    one, other = ("--target", TARGET), ("--target", "torch280-sglang054")
    yield "list", cli(work, "list")
    yield "build", cli(work, "build", *one, *cache)
    yield "fetch --check", cli(work, "fetch", *other, *cache, "--check", code=5)
    yield "fetch --check, several", cli(work, "fetch", *one, *other, *cache, "--check", code=5)
    yield "inspect", cli(work, "inspect", *one)
    yield "inspect, all", cli(work, "inspect")
    yield "pull", cli(work, "pull", *one)
    yield "plan", cli(work, "plan", *other)
    yield "plan, several", cli(work, "plan", "--all")
    yield "diff", cli(work, "diff", TARGET, "torch280-sglang054")
    yield "sizes", cli(work, "sizes")
    yield "verify", cli(work, "verify")
    yield "bundle", cli(work, "bundle", *one, "--out", str(work.place / "out"))


def with_a_server(
    work: SmallMatrix, patch: pytest.MonkeyPatch, printed: Callable[[], str]
) -> Iterator[tuple[str, Any]]:
    """Those of commands that speak to a registry or to Docker, which is left out."""
    repository = Repository("localhost:5000", "team/app")
    pushed = Pushed(
        TARGET, repository, "v1", DIGEST, (PushedBlob(DIGEST, 1, "sent"),), 1, DIGEST,
        (Attached("a/b", DIGEST, "sent"),), ("a note",),
    )  # fmt: skip
    promoted = Promoted(Candidate(TARGET, DIGEST, "H200"), repository, "v1", DIGEST)
    patch.setattr(daemon, "load", lambda *_, **__: Loaded(DIGEST, True, 1))
    patch.setattr(push, "push", lambda *_, **__: pushed)
    patch.setattr(promote, "promote", lambda *_, **__: promoted)

    def run(*arguments: str) -> Any:
        given = ["--matrix", str(work.matrix.path), "--store", str(work.place / "store")]
        options = build.parser().read([*arguments, "--target", TARGET, "--json", *given])
        assert options.run(options) == 0
        return json.loads(printed())

    yield "load", run("load")
    yield "push", run("push", "--to", "localhost:5000/team/app")
    yield "promote", run("promote", "--to", "localhost:5000/team/app", "--unproven")


# -- the record ------------------------------------------------------------------------------------


def compare(part: str, found: dict[str, Any], place: Path) -> None:
    """Compare a part of the interface with the record, and write what was found beside it."""
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    renewed = place / "interface.json"
    renewed.write_text(json.dumps({**recorded, part: found}, indent=1) + "\n", encoding="utf-8")
    as_read = json.loads(json.dumps(found))
    assert list(as_read) == list(recorded[part]), f"if that is meant: cp {renewed} {RECORDED}"
    for name, value in as_read.items():
        assert value == recorded[part][name], f"{name}; if that is meant: cp {renewed} {RECORDED}"


def test_options_are_those_of_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: CPUS)
    monkeypatch.setenv("HOME", "/home/user")
    for name in ("ROLL_IMAGES_CACHE", "ROLL_IMAGES_DEBIAN_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    parser = build.parser()
    found = {"": options_of(parser)}
    found |= {name: options_of(one) for name, one in commands(parser).items()}
    compare("commands", found, tmp_path)


def test_documents_have_the_keys_of_the_record(
    work: SmallMatrix,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = dict(without_network(work))
    found |= with_a_server(work, monkeypatch, lambda: capsys.readouterr().out)
    compare("documents", {name: shape(value) for name, value in found.items()}, tmp_path)


def test_every_command_that_prints_a_document_is_in_the_record() -> None:
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    with_document = {
        name for name, one in recorded["commands"].items() if ["--json"] in names(one["options"])
    }
    assert with_document == {name.split(" ")[0].strip(",") for name in recorded["documents"]}


def names(options: Sequence[dict[str, Any]]) -> list[list[str]]:
    return [option["names"] for option in options]
