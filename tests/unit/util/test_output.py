"""Results and messages on streams that are full, closed, gone or of another encoding."""

from __future__ import annotations

import ast
import contextlib
import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from images.attest import attach
from images.errors import OutputError
from images.oci.image import Image, Layer
from images.oci.layer.entry import of_bytes
from images.oci.layer.writer import write
from images.oci.referrer import Referrer
from images.oci.store.store import Store
from images.repository import ROOT
from images.util import output

TARGET = "torch280-sglang052"
SBOM = '{"a": "é"}'.encode()
SHOWING = (
    ["list"],
    ["inspect", "--json"],
    ["sizes"],
    ["diff", TARGET, TARGET],
    ["plan", "--target", TARGET],
    ["sbom", "--target", TARGET],
    ["verify"],
    ["--help"],
)


@pytest.fixture
def filled(store: Store) -> Store:
    """A store of one small image with an SBOM."""
    with store.blobs.new_file() as (out, commit):
        blob = write([of_bytes("a", b"1")], out, "gzip")
        commit(blob.digest)
    image = Image(TARGET, (Layer("only", blob),), {"A": "1"}, {"roll.target": TARGET}, "t")
    store.save(image)
    store.attach([Referrer(attach.SBOM, "sbom.json", SBOM, image.descriptor, {})])
    return store


def command(arguments: Sequence[str], store: Store) -> list[str]:
    places = [] if "--help" in arguments else ["--store", str(store.path)]
    return [sys.executable, str(ROOT / "build.py"), *arguments, *places]


def buffered(**more: str) -> dict[str, str]:
    """The environment of a user: with PYTHONUNBUFFERED a lost buffer would not be seen."""
    return {**{k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}, **more}


def messages(said: str) -> list[str]:
    """Return the messages, without the progress of `verify`."""
    return [line for line in said.splitlines() if not line.startswith("verify: ")]


@pytest.mark.parametrize("arguments", SHOWING, ids=" ".join)
def test_result_that_a_full_disk_takes_in_part_is_an_error(
    arguments: list[str], filled: Store
) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command(arguments, filled),
            env=buffered(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 7
    error, remedy = messages(done.stderr)
    assert error == "error: standard output: not written in full: No space left on device"
    assert remedy.startswith("fix: ")


def test_closed_standard_output_is_an_error(filled: Store) -> None:
    line = " ".join(f"'{word}'" for word in command(["inspect"], filled))
    done = subprocess.run(
        ["sh", "-c", f"{line} >&-"], stderr=subprocess.PIPE, text=True, check=False
    )
    assert (done.returncode, done.stderr.splitlines()[0]) == (7, "error: standard output is closed")


@pytest.mark.parametrize("arguments", [["list"], ["inspect", "--target", "none"], ["nonsense"]])
def test_message_that_cannot_be_written_changes_no_exit_code(
    arguments: list[str], filled: Store
) -> None:
    whole = subprocess.run(command(arguments, filled), capture_output=True, check=False)
    line = " ".join(f"'{word}'" for word in command(arguments, filled))
    for where in ("2>/dev/full", "2>&-"):
        done = subprocess.run(
            ["sh", "-c", f"{line} {where}"], env=buffered(), stdout=subprocess.PIPE, check=False
        )
        assert (done.returncode, done.stdout) == (whole.returncode, whole.stdout), where


def test_reader_that_goes_away_ends_the_command_without_a_word(filled: Store) -> None:
    for arguments in SHOWING:
        with subprocess.Popen(
            command(arguments, filled),
            env=buffered(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as child:
            assert child.stdout
            assert child.stderr
            child.stdout.close()
            assert (messages(child.stderr.read().decode()), child.wait()) == ([], 1), arguments


def test_document_has_the_same_bytes_in_a_file_and_on_standard_output(
    filled: Store, tmp_path: Path
) -> None:
    out = tmp_path / "sbom.json"
    given = command(["sbom", "--target", TARGET], filled)
    for env in ({}, {"PYTHONIOENCODING": "ascii"}):
        shown = subprocess.run(given, env=buffered(**env), stdout=subprocess.PIPE, check=True)
        assert shown.stdout == SBOM
    subprocess.run([*given, "--out", out], check=True)
    assert out.read_bytes() == SBOM
    done = subprocess.run(
        [*given, "--out", tmp_path / "none" / "x"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 7
    assert f"error: {tmp_path}/none/x: not written in full: No such file" in done.stderr


@pytest.mark.parametrize("arguments", SHOWING, ids=" ".join)
def test_every_command_writes_to_a_terminal_of_any_encoding(
    arguments: list[str], filled: Store
) -> None:
    for env in (
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ):
        done = subprocess.run(
            command(arguments, filled),
            env=buffered(**env),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, messages(done.stderr)) == (0, []), env


def test_character_that_a_terminal_lacks_is_shown_as_its_code_point(filled: Store) -> None:
    done = subprocess.run(
        command(["inspect", "--target", "…\udcff"], filled),
        env=buffered(PYTHONIOENCODING="ascii"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert r"\u2026" in done.stderr


def test_control_characters_of_others_move_no_cursor(filled: Store) -> None:
    name = "x\x1b]0;owned\x07\x1b[2J\r\x9b1m\u202e\ny"
    done = subprocess.run(
        command(["inspect", "--target", name], filled), capture_output=True, text=True, check=False
    )
    assert r"\x1b]0;owned" in done.stderr
    assert not set(done.stderr) & set("\x1b\x07\r\x9b\u202e")


def test_document_on_a_terminal_leaves_the_prompt_a_line_of_its_own(filled: Store) -> None:
    master, slave = pty.openpty()
    given = command(["sbom", "--target", TARGET], filled)
    subprocess.run(given, stdout=slave, check=True, env=buffered(PYTHONIOENCODING="utf-8"))
    os.close(slave)
    written = b""
    with contextlib.suppress(OSError):
        while piece := os.read(master, 1000):
            written += piece
    os.close(master)
    assert written == SBOM + b"\r\n"


def test_result_of_a_stream_in_this_process_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    output.result("a")
    output.content(b"b")
    assert capsys.readouterr().out == "a\nb"


def test_no_stream_is_no_place_for_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with pytest.raises(OutputError, match="is closed"):
        output.result("a")
    output.message("a")
    output.finish()


def test_output_has_one_place() -> None:
    """Code of other processes and of a bundle's destination has streams of its own."""
    own = {"unbundle", "bytecode_worker.py", "output.py", "progress.py", "interrupts.py"}
    own.add("requirements.py")  # it speaks before any other module is loaded
    own.add("ray_cluster.py")  # it leads what Ray itself prints to standard error
    found = [
        path.relative_to(ROOT)
        for path in (ROOT / "images").rglob("*.py")
        if not set(path.relative_to(ROOT / "images").parts) & own
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Name) and node.id == "print")
        or (
            isinstance(node, ast.Attribute)
            and node.attr in ("stdout", "stderr")
            and isinstance(node.value, ast.Name)
            and node.value.id == "sys"
        )
    ]
    assert found == []
