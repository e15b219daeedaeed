"""Support of tests of stores: blobs, images, and other processes that work on a store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from images.oci.descriptor import Blob, digest_of
from images.oci.image import Image, Layer
from images.oci.store.store import Store
from images.repository import ROOT

PRELUDE = """
import hashlib, os, sys, time
from pathlib import Path
from images.oci.image import Image, Layer
from images.oci.descriptor import Blob
from images.oci.store.store import open_store

def put(store, content):
    name = "sha256:" + hashlib.sha256(content).hexdigest()
    with store.blobs.new_file() as (out, commit):
        for start in range(0, len(content), 65536):
            out.write(content[start:start + 65536])
        commit(name)
    return Blob(name, name, len(content), len(content), "t")

def image(ref, *blobs):
    return Image(ref, tuple(Layer(b.digest, b) for b in blobs), {}, {}, "2025-01-01T00:00:00Z")
"""


def blob_of(content: bytes) -> Blob:
    name = digest_of(content)
    return Blob(name, name, len(content), len(content), "application/t")


def add(store: Store, content: bytes) -> Blob:
    with store.blobs.new_file() as (out, commit):
        out.write(content)
        commit(digest_of(content))
    return blob_of(content)


def image_of(ref: str, *blobs: Blob) -> Image:
    layers = tuple(Layer(f"layer {number}", blob) for number, blob in enumerate(blobs))
    return Image(ref, layers, {"A": "x=y"}, {"l": "v"}, "2025-01-01T00:00:00Z")


def unfinished(store: Store) -> list[Path]:
    return list((store.path / ".roll/tmp").iterdir())


def files(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def process(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(child: subprocess.Popen[str]) -> str:
    out, err = child.communicate()
    assert child.returncode == 0, err
    return out


def wait_for_line(child: subprocess.Popen[str]) -> str:
    assert child.stdout
    line = child.stdout.readline().strip()
    assert line, child.communicate()[1]
    return line


HOLD_A_FILE = """
store = open_store(Path(sys.argv[1]))
with store.building(), store.blobs.new_file() as (out, commit):
    out.write(b"slow")
    out.flush()
    print("ready", flush=True)
    sys.stdin.readline()
    commit("sha256:" + hashlib.sha256(b"slow").hexdigest())
"""
