"""Documents name what exists: every command, link, path and environment variable in them."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import indent

import pytest

import build
from images.inputs.matrix import entries
from images.inputs.matrix.load import load
from images.inputs.matrix.records import Target
from images.repository import ROOT
from images.unbundle import cli
from images.unbundle.destinations import enter_script
from tests.unit import shell_commands

README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").rglob("*.md"))
DOCUMENTS = [README, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *PAGES]
INDEX = ROOT / "docs" / "README.md"
SOURCES = ("build.py", "images", "roll_runtime/src", "tests", "benchmarks", "matrix.yaml")
_LINK = re.compile(r"\]\(([^)#]+?)(?:#[^)]*)?\)")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
_VARIABLE = re.compile(r"\bROLL_[A-Z0-9_]+")
_FLAVOUR = re.compile(r"<!-- flavour -->\n```yaml\n(.*?)```", re.DOTALL)
_MARKED = re.compile(r"^<!-- (\w+) -->\n```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
_OWN_WHEELS = re.compile(r"^```yaml\n(    requirements:.*?)```", re.MULTILINE | re.DOTALL)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_commands_exist(path: Path) -> None:
    found = list(shell_commands.of_markdown(path.read_text(encoding="utf-8")))
    faults = {" ".join(command): shell_commands.fault(command) for command in found}
    assert {line: fault for line, fault in faults.items() if fault} == {}


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_links_lead_somewhere(path: Path) -> None:
    links = _LINK.findall(path.read_text(encoding="utf-8"))
    near = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in near if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_links_into_a_page_name_one_of_its_headings(path: Path) -> None:
    links = re.findall(r"\]\(([^):#]*)#([^)]+)\)", path.read_text(encoding="utf-8"))
    wrong = [
        f"{page}#{anchor}"
        for page, anchor in links
        if anchor not in anchors(path.parent / page if page else path)
    ]
    assert wrong == []


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_in_the_index() -> None:
    linked = {INDEX.parent / link for link in _LINK.findall(INDEX.read_text(encoding="utf-8"))}
    assert [named(page) for page in PAGES if page != INDEX and page not in linked] == []


def test_every_package_is_in_the_architecture() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    packages = {path.parent.name for path in (ROOT / "images").glob("*/__init__.py")}
    assert packages - set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == {"unbundle"}


@pytest.mark.parametrize("path", [README, ROOT / "CONTRIBUTING.md", *PAGES], ids=named)
def test_packages_and_modules_that_are_named_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    found = re.findall(r"`((?:images|tests|benchmarks|docs|evidence|\.github)/[\w./-]+)`", text)
    made = {"images/locks/debian-tools.txt"}  # by a flavour that a reader adds
    here = [name for name in found if "ID" not in name and "NAME" not in name]
    assert [name for name in here if name not in made and not (ROOT / name).exists()] == []


# -- README ----------------------------------------------------------------------------------------


def test_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


def test_marked_commands_are_read_by_ci() -> None:
    """As `.ci/run` and `.github/host.sh` read them: one command over lines that end in `&&`."""
    commands = dict(_MARKED.findall(README.read_text(encoding="utf-8")))
    assert set(commands) == {"build", "tests"}
    for command in commands.values():
        *lines, _ = command.splitlines()
        assert all(line.endswith(" &&") for line in lines)
        # host.sh runs the first part as root.
        packages, venv, rest = command.partition(" && python3 -m venv ")
        assert venv
        assert "apt-get" in packages
        assert "apt-get" not in rest


# -- what pages name -------------------------------------------------------------------------------


def test_options_of_bundles_exist(capsys: pytest.CaptureFixture[str]) -> None:
    for main, arguments in (
        (build.main, ["bundle", "--help"]),
        (cli.main, ["--help"]),
        (cli.main, ["check", "--help"]),
    ):
        with pytest.raises(SystemExit):
            main(arguments)
    known = {"--help", *_OPTION.findall(capsys.readouterr().out + enter_script.SCRIPT)}
    page = (ROOT / "docs" / "bundles.md").read_text(encoding="utf-8")
    assert set(_OPTION.findall(page)) - known == set()
    assert "--scratch" in page


def test_tests_that_are_named_exist() -> None:
    """In the table of what goes wrong on purpose, below tests/."""
    named = re.findall(r"`(\w+/[\w/]+\.py)`", (ROOT / "docs" / "reliability.md").read_text())
    inside = [name for name in named if not name.startswith(("images/", "tests/"))]
    assert len(inside) > 30
    assert [name for name in inside if not (ROOT / "tests" / name).is_file()] == []


def test_modules_that_are_trusted_exist() -> None:
    """In the tables of trust: each names where something is checked."""
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:images|tests|\.github)/[\w./-]+)`", text))
    assert len(named) > 25
    assert [name for name in named if not (ROOT / name).exists()] == []
    rows = [line for line in text.splitlines() if line.startswith("| ") and line.count("|") == 6]
    assert len([row for row in rows if "`" in row.split("|")[4]]) >= 15


def test_variables_of_the_project_are_read_somewhere() -> None:
    sources = [ROOT / name for name in SOURCES]
    files = [
        file for path in sources for file in ([path] if path.is_file() else path.rglob("*.py"))
    ]
    known = set(_VARIABLE.findall("".join(file.read_text(encoding="utf-8") for file in files)))
    documents = [*DOCUMENTS, *(ROOT / "docs" / "cluster").rglob("*.*")]
    used = set(_VARIABLE.findall("".join(path.read_text(encoding="utf-8") for path in documents)))
    prefixes = tuple(name for name in known if name.endswith("_"))
    assert {name for name in used - known if not name.startswith(prefixes)} == set()
    assert "ROLL_RUNTIME_MEM_FRACTION_STATIC" in used


# -- parts of matrix.yaml that users paste ---------------------------------------------------------


def pasted(folder: Path, flavours: str, *, named: str = "roll") -> dict[str, Target]:
    """Return the targets of matrix.yaml with more lines at the top of `flavours`."""
    text = (ROOT / "matrix.yaml").read_text(encoding="utf-8")
    text = text.replace("\nflavours:\n", f"\nflavours:\n{flavours}", 1)
    text = text.replace("\n  flavours: [roll]\n", f"\n  flavours: [{named}]\n", 1)
    path = folder / "matrix.yaml"
    path.write_text(text, encoding="utf-8")
    return {target.id: target for target in load(path).targets}


def test_every_key_is_in_matrix_md() -> None:
    page = (ROOT / "docs" / "matrix.md").read_text(encoding="utf-8")
    top = re.findall(r"^(\w+):", (ROOT / "matrix.yaml").read_text(encoding="utf-8"), re.MULTILINE)
    cells = " ".join(re.findall(r"^\| (`[^|]*) \|", page, re.MULTILINE))
    assert {*top, *entries.KEYS} - set(re.findall(r"`(\w+)`", cells)) == set()


def test_the_flavour_of_matrix_md_is_read(tmp_path: Path) -> None:
    (block,) = _FLAVOUR.findall((ROOT / "docs" / "matrix.md").read_text(encoding="utf-8"))
    flavours, defaults = block.removeprefix("flavours:\n").split("defaults:\n")
    assert "flavours: [roll, tools]" in defaults
    targets = pasted(tmp_path, flavours, named="roll, tools")
    real = load(ROOT / "matrix.yaml").targets
    assert len(targets) == len(real) + sum(bool(target.flavour) for target in real)
    added = targets["torch280-sglang052-tools"]
    assert added.debian == ("git", "nano")
    assert set(added.requirements) - set(targets["torch280-sglang052"].requirements) == {
        "jupyterlab"
    }


def test_the_lines_for_megatron_are_read(tmp_path: Path) -> None:
    """As a flavour of their own, since `roll` has keys of these names already."""
    page = (ROOT / "docs" / "roll.md").read_text(encoding="utf-8")
    (block,) = _OWN_WHEELS.findall(page)
    targets = pasted(tmp_path, indent("more:\n  why: a test\n", "  ") + block, named="more")
    wheels = [wheel.filename.split("-")[0] for wheel in targets["torch280-sglang052-more"].wheels]
    assert wheels == ["flash_attn", "mcore_adapter", "transformer_engine_torch"]
    assert targets["torch280-sglang054-more"].wheels == ()


# -- the search itself -----------------------------------------------------------------------------

README_LIKE = """
Run `python build.py lock --base`, then

```sh
python build.py push --target torch280-sglang052 \\
    --to REGISTRY/repo && python3 build.py list > list.json   # and so on
docker run image python -m roll_runtime smoke --tp-size 2
```

    $ python -m roll_runtime doctor --json
"""


def test_commands_are_found_in_every_form() -> None:
    assert list(shell_commands.of_markdown(README_LIKE)) == [
        ["build.py", "push", "--target", "torch280-sglang052", "--to", "REGISTRY/repo"],
        ["build.py", "list"],
        ["roll_runtime", "smoke", "--tp-size", "2"],
        ["roll_runtime", "doctor", "--json"],
        ["build.py", "lock", "--base"],
    ]
    assert [shell_commands.fault(found) for found in shell_commands.of_markdown(README_LIKE)] == [
        None
    ] * 5


@pytest.mark.parametrize(
    ("line", "reported"),
    [
        ("python build.py puhs --target ID --to R", "invalid choice: 'puhs'"),
        ("python build.py push --target ID --ot R", "--to"),
        ("python build.py --target torch280-sglang052 --compresion gzip", "--compresion"),
        ("python build.py load --target torch280-sglang52", "no such target"),
        ("python build.py bundle --out DIR --target ID --part-size 60XB", "not a size"),
        ("python -m roll_runtime smoke --tp-sise 2", "--tp-sise"),
        ("python -m roll_runtime smoke [--tp-sise N] [--json]", "smoke has no --tp-sise"),
    ],
)
def test_typos_are_found(line: str, reported: str) -> None:
    (command,) = shell_commands.of_shell(line)
    assert reported in (shell_commands.fault(command) or "")


def test_documents_are_looked_at() -> None:
    found = [
        list(shell_commands.of_markdown(path.read_text(encoding="utf-8"))) for path in DOCUMENTS
    ]
    assert sum(map(len, found)) > 15
