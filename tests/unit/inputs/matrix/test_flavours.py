"""Flavours of matrix.yaml: their targets, and each fault with its line."""

from __future__ import annotations

import pytest

from tests.unit.inputs.matrix.conftest import SMALL, Reader, line_of

WHEEL = "flash_attn-2.8.3+cu12-cp311-cp311-linux_x86_64.whl"
FLAVOURED = SMALL.replace(
    "defaults:\n",
    f"""\
flavours:
  roll:
    why: all that ROLL needs
    exclude_newer: {{date: 2026-08-20, why: of ROLL}}
    requirements: ["ray==2.48.0", {{pin: gem, sglang: ">=0.5", why: agentic}}]
    overrides:
      - {{pin: "numpy=={{locked}}", why: runs with it}}
    exclude_newer_package:
      ray: {{date: 2026-09-01, why: later}}
    sdists:
      pycosat: {{build: [setuptools==80.9.0], compiled: "true", why: C}}
    wheels:
      - {{file: {WHEEL}, sha256: {"a" * 64}, why: not on the index}}
    debian: [rsync, git]
    env:
      - {{name: ONE, value: flavour, why: it}}
    budget: {{size: 0.6GB, why: ROLL}}
defaults:
  budget: {{size: 4GB, why: engine}}
""",
).replace("    requirements: [numpy]\n", "    requirements: [numpy]\n    flavours: [roll]\n")


def test_a_row_that_names_a_flavour_is_two_targets(read: Reader) -> None:
    matrix = read(FLAVOURED)
    assert [target.id for target in matrix.targets] == [
        "torch260-sglang046",
        "torch280-sglang052",
        "torch280-sglang052-roll",
    ]
    plain, roll = matrix.targets[1:]
    assert (roll.flavour, roll.engine) == ("roll", "torch280-sglang052")
    assert (plain.flavour, plain.engine, plain.debian) == ("", "", ())
    assert roll.requirements == (*plain.requirements, "ray==2.48.0", "gem")
    assert [pin.requirement for pin in roll.overrides] == ["numpy==2.0.0", "numpy=={locked}"]
    assert roll.debian == ("git", "rsync")
    assert [(sdist.name, sdist.compiled) for sdist in roll.sdists] == [
        ("flashinfer-python", False),
        ("pycosat", True),
    ]


def test_a_flavour_has_a_date_an_environment_and_a_budget_of_its_own(read: Reader) -> None:
    plain, roll = read(FLAVOURED).targets[1:]
    assert (plain.exclude_newer, roll.exclude_newer) == (
        "2025-09-16T00:00:00Z",
        "2026-08-20T00:00:00Z",
    )
    assert {env.name: env.value for env in roll.env}["ONE"] == "flavour"
    assert roll.budget
    assert plain.budget
    assert (plain.budget.size, roll.budget.size) == (4_000_000_000, 4_600_000_000)


def test_dates_of_packages_and_custom_wheels_change_what_is_locked_of_their_target_alone(
    read: Reader,
) -> None:
    plain, roll = read(FLAVOURED).targets[1:]
    assert plain.resolve_inputs() == read(SMALL).targets[1].resolve_inputs()
    inputs = roll.resolve_inputs()
    assert inputs["exclude_newer_package"] == {"ray": "2026-09-01T00:00:00Z"}
    assert inputs["wheels"] == {WHEEL: "a" * 64}
    assert roll.wheels[0].location == f"matrix.yaml:{line_of(FLAVOURED, '- {file:')}"


def test_defaults_name_flavours_for_all_rows_and_a_row_may_refuse_them(read: Reader) -> None:
    text = FLAVOURED.replace("defaults:\n", "defaults:\n  flavours: [roll]\n")
    assert len(read(text).targets) == 4
    text = text.replace("    flavours: [roll]\n", "    flavours: []\n")
    assert [target.id for target in read(text).targets if target.flavour] == [
        "torch260-sglang046-roll"
    ]


@pytest.mark.parametrize(
    ("old", "new", "at", "said"),
    [
        ("flavours: [roll]", "flavours: [roll, roll]", "flavours: [roll, ", "'roll' is here twice"),
        ("  roll:\n", "  roll: {why: x}\n  roll:\n", "  roll:\n", "twice"),
        ("flavours: [roll]", "flavours: [rol]", "flavours: [rol]", "did you mean 'roll'?"),
        (
            "flavours:\n  roll:",
            "flavours:\n  Roll: {why: x}\n  roll:",
            "  Roll:",
            "not a flavour's name",
        ),
        ("    why: all that ROLL needs\n", "", "exclude_newer: {date: 2026", "has no 'why'"),
        (", why: runs with it", "", '{pin: "numpy=={locked}"', "an override has no 'why'"),
        ("debian: [rsync, git]", "debian: [RSYNC]", "debian:", "name of a Debian package"),
        ("debian:", "debain:", "debain", "did you mean 'debian'?"),
        ("a" * 64, "abc", "sha256: abc", "is not a SHA-256"),
        (WHEEL, WHEEL.replace("311", "312"), "- {file", "is not for CPython 3.11"),
        (WHEEL, "flash_attn.whl", "- {file", "is not the file name of a wheel"),
        (WHEEL, f"dir/{WHEEL}", "- {file", "is not the file name of a wheel"),
        (", why: not on the index", "", "- {file", "a custom wheel has no 'why'"),
        ('compiled: "true"', 'compiled: "yes"', "pycosat", "neither true nor false"),
        ("date: 2026-09-01", "date: soon", "ray: {date", "is not a date"),
        ("      ray: {", "      Ray_x: {", "Ray_x", "write ray-x"),
    ],
)
def test_each_fault_is_reported_with_its_line(
    read: Reader, old: str, new: str, at: str, said: str
) -> None:
    text = FLAVOURED.replace(old, new, 1)
    fault = read.fault(text)
    assert said in fault
    assert fault.startswith(f"matrix.yaml:{line_of(text, at)}: ")


def test_the_engines_version_can_be_named_in_a_flavours_override_alone(read: Reader) -> None:
    text = FLAVOURED.replace("pin: numpy==2.0.0", 'pin: "numpy=={locked}"')
    assert "unknown placeholder '{locked}'" in read.fault(text)
