"""Byte code for every module, used by every user, until its source is edited."""

from __future__ import annotations

import pytest

from images import image_paths
from tests.image.box import Box
from tests.image.subject import Subject

# Prints what is wrong with each source in the given directory. The head of a .pyc: PEP 552.
CHECK = """
import importlib.util, json, os, struct, sys, warnings
warnings.simplefilter("ignore")
faults = {"missing": [], "not of this source's time and size": [], "without a source": []}
count = 0
for place, folders, files in os.walk(sys.argv[1]):
    cached = os.path.basename(place) == "__pycache__"
    for name in files:
        path = os.path.join(place, name)
        if cached and name.endswith(".pyc"):
            if not os.path.exists(importlib.util.source_from_cache(path)):
                faults["without a source"].append(path)
        elif name.endswith(".py"):
            count += 1
            code = importlib.util.cache_from_source(path)
            if os.path.exists(code):
                source = os.stat(path)
                fits = struct.pack("<III", 0, int(source.st_mtime), source.st_size)
                with open(code, "rb") as stream:
                    head = stream.read(16)
                if head != importlib.util.MAGIC_NUMBER + fits:
                    faults["not of this source's time and size"].append(path)
                continue
            try:
                with open(path, "rb") as stream:
                    compile(stream.read(), path, "exec", dont_inherit=True)
            except (SyntaxError, ValueError):
                continue
            faults["missing"].append(path)
print(json.dumps([count, faults]))
"""
NEWER = (
    "find / -xdev \\( -path /tmp -o -path /proc -o -path /sys \\) -prune -o "
    "-newer %s -type f -print"
)


def test_every_source_has_its_byte_code(box: Box, subject: Subject) -> None:
    count, faults = box.ask(CHECK, f"/{image_paths.SITE_PACKAGES}")
    assert count > 10 * len(subject.versions), "sources were found at all"
    assert faults == {name: [] for name in faults}


def test_standard_library_has_its_byte_code(box: Box, subject: Subject) -> None:
    count, faults = box.ask(CHECK, f"/usr/lib/python{subject.target.python}")
    assert count > 500
    assert faults == {name: [] for name in faults}


def test_starting_python_writes_nothing(new_box: Box, subject: Subject) -> None:
    """In a box where no Python has run yet."""
    modules = [name for name in ("torch", "transformers") if name in subject.versions]
    with new_box.started() as fresh:
        fresh.run("touch /tmp/before && sleep 1")
        fresh.python(f"import roll_runtime, json, {', '.join(modules or ['sys'])}")
        assert fresh.run(NEWER, "/tmp/before").split() == []


# Whether a Python that imports the given modules compiles any of the image's sources, by its own
# word (`python -v`); the paths that it compiled, and how much byte code it took.
COMPILES = """
import json, re, subprocess, sys
code = "import " + ", ".join(sys.argv[1:])
done = subprocess.run([sys.executable, "-v", "-c", code], capture_output=True, text=True)
assert done.returncode == 0, done.stderr[-3000:]
compiled = re.findall("^# code object from '?(/[^'\\n]*[.]py)'?$", done.stderr, re.MULTILINE)
taken = re.findall("^# code object from '?(/[^'\\n]*[.]pyc)'?$", done.stderr, re.MULTILINE)
print(json.dumps([compiled, len(taken)]))
"""


@pytest.mark.parametrize("user", ["root", "roll", "12345:0"])
def test_every_user_gets_the_images_byte_code(new_box: Box, subject: Subject, user: str) -> None:
    modules = ["torch", "sglang"] if {"torch", "sglang"} <= set(subject.versions) else []
    with new_box.started(user=user, env={"HOME": "/tmp"}) as started:
        compiled, taken = started.ask(COMPILES, "json", "roll_runtime", *modules)
    assert compiled == []
    assert taken > (500 if modules else 5)


EDITS = {
    "in place": "sed -i '1s/^# Copyright/EDITED = 1#/' {path}",
    "a copy over it": "sed '1s/^# Copyright/EDITED = 1#/' {path} > /tmp/edited.py; "
    "cp /tmp/edited.py {path}",
    "a copy with an older date": "sed '1s/^# Copyright/EDITED = 1#/' {path} > /tmp/edited.py; "
    "touch -d 1980-01-01T00:00:00Z /tmp/edited.py; cp -p /tmp/edited.py {path}",
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_module_of_sglang_is_what_runs(new_box: Box, subject: Subject, edit: str) -> None:
    """Its length stays the same. Users who cannot write byte code get the edit as well."""
    subject.need_engine()
    path = f"/{image_paths.SITE_PACKAGES}/sglang/srt/sampling/sampling_params.py"
    ask = "from sglang.srt.sampling import sampling_params as m; print(m.EDITED)"
    with new_box.started() as fresh:
        size = fresh.run("stat -c %%s %s", path)
        fresh.run(EDITS[edit].format(path=path))
        assert fresh.run("stat -c %%s %s", path) == size
        as_user = "cd /; HOME=/tmp setpriv --reuid 12345 --regid 0 --clear-groups"
        assert fresh.run(f"{as_user} python -c %s", ask).splitlines()[-1] == "1"
        assert fresh.run("python -c %s", ask).splitlines()[-1] == "1"
