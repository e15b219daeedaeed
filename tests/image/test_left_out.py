"""Files that the matrix leaves out are not in the image, and nothing in it asks for them.

A library is asked for by DT_NEEDED or by a call of dlopen: in both cases its name is a text in a
library or a Python file.
"""

from __future__ import annotations

import re

import pytest

from images import image_paths
from images.formats import wheel_changes
from tests.image.box import Box
from tests.image.known import MENTIONS
from tests.image.subject import Subject

SITE = f"/{image_paths.SITE_PACKAGES}"

# Distribution to the files of it that are left out, from the notes in the image.
NOTES = f"""
import glob, json, re
found = {{}}
for path in glob.glob("{SITE}/*.dist-info/{wheel_changes.NOTE}"):
    name = re.sub(r"[-_.]+", "-", path.split("/")[-2].partition("-")[0]).lower()
    with open(path) as note:
        found[name] = sorted(json.load(note)["left_out"])
print(json.dumps(found))
"""

# File to the names that it has; all are looked for in one pass over the files.
NAMING = """
import json, mmap, os, sys
names = [name.encode() for name in sys.argv[1:]]
found = {}
for place in ("/opt/venv", "/usr/lib", "/usr/local"):
    for directory, _, files in os.walk(place):
        for file in files:
            path = os.path.join(directory, file)
            if not (file.endswith(".py") or ".so" in file) or os.path.islink(path):
                continue
            if not os.path.getsize(path):
                continue
            with open(path, "rb") as opened:
                content = mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ)
                here = [name.decode() for name in names if content.find(name) >= 0]
                content.close()
            if here:
                found[path] = here
print(json.dumps(found))
"""


def left_out(box: Box, subject: Subject) -> list[str]:
    """The files that rules of the matrix leave out; GPU code for other GPUs is another matter."""
    patterns = [wheel_changes.pattern(rule.path) for rule in subject.lock.left_out]
    files = [path for paths in box.ask(NOTES).values() for path in paths]
    return [path for path in files if any(one.fullmatch(path[1:]) for one in patterns)]


def test_each_rule_has_left_out_its_files(box: Box, subject: Subject) -> None:
    noted = box.ask(NOTES)
    for rule in subject.lock.left_out:
        pattern = wheel_changes.pattern(rule.path)
        gone = [path for path in noted[rule.distribution] if pattern.fullmatch(path[1:])]
        assert gone, f"{rule.location}: {rule.path}"
        assert box.run(f"ls {' '.join(gone)} 2>/dev/null || true") == ""


def test_nothing_asks_for_what_is_left_out(box: Box, subject: Subject) -> None:
    """The name without a version: `libx.so` finds `libx.so.12` as well."""
    files = left_out(box, subject)
    if not files:
        pytest.skip("nothing is left out by name")
    names = {re.sub(r"(\.so)[.\d]+$", r"\1", path.rpartition("/")[2]) for path in files}
    asked = box.ask(NAMING, *sorted(names))
    known = [re.compile(f"{SITE}/{one.path}") for one in MENTIONS]
    assert [path for path in asked if not any(one.fullmatch(path) for one in known)] == []


def test_notes_are_of_files_that_are_installed(box: Box) -> None:
    code = f"""
import glob, json, os
wrong = []
for path in glob.glob("{SITE}/*.dist-info/{wheel_changes.NOTE}"):
    note = json.load(open(path))
    wrong += [name for name in note["files"] if not os.path.isfile(name)]
    wrong += [name for name in note["left_out"] if os.path.lexists(name)]
print(json.dumps(wrong))
"""
    assert box.ask(code) == []
