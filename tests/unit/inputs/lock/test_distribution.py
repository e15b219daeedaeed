from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from images.inputs.lock import distribution, sealed_text
from images.inputs.lock.artifact import Artifact
from images.inputs.lock.distribution import Distribution
from images.repository import ROOT

SHA = "ab" * 32
LINE = f"demo==1.0 --hash=sha256:{SHA}  # demo-1.0-py3-none-any.whl 12"


def test_line_and_distribution_stand_for_each_other() -> None:
    (found,) = distribution.parse_lines([LINE])
    assert found == Distribution("demo", "1.0", Artifact("demo-1.0-py3-none-any.whl", SHA, 12))
    assert distribution.line_of(found) == LINE
    assert found.is_wheel
    assert found.pin == "demo==1.0"


@pytest.mark.parametrize(
    "line",
    ["", "demo==1.0", LINE + " ", " " + LINE, LINE.replace("  #", " #"), LINE.replace(SHA, "ab"),
     LINE.replace(SHA, SHA.upper()), LINE.replace("==", ">="), LINE.replace("demo==", "Demo=="),
     LINE.replace("# demo", "# ../demo"), LINE.replace("# demo", "# /etc/demo"),
     LINE.replace(" 12", " -1"), LINE.replace(" 12", ""), "--index-url https://evil", LINE + "\n"],
)  # fmt: skip
def test_line_of_another_form_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="not a locked distribution"):
        distribution.parse_lines([line])


@pytest.mark.parametrize("path", sorted((ROOT / "images/locks").glob("torch*.txt")), ids=str)
def test_real_lock_is_read_by_pips_rules_and_names_no_index(path: Path) -> None:
    lines = sealed_text.read(path, remedy="").lines
    plain = [line for line in lines if not line.startswith("#")]
    for line, found in zip(plain, distribution.parse_lines(plain), strict=True):
        requirement, _, comment = line.partition(" --hash=sha256:")
        assert str(Requirement(requirement).specifier) == f"=={found.version}"
        assert comment
        assert distribution.line_of(found) == line
    assert plain == sorted(plain, key=lambda line: line.partition("==")[0])
    assert not re.search(r"https?:|file:|@", path.read_text())
