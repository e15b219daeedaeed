"""Environment defaults: there, overridable, and none that the engine must decide itself."""

from __future__ import annotations

import re

from tests.image.box import Box
from tests.image.subject import Subject

FORBIDDEN = re.compile(r"PYTORCH_(CUDA_)?ALLOC_CONF|NCCL_.*|LD_LIBRARY_PATH|LD_PRELOAD|PYTHON.*")


def environment(box: Box) -> dict[str, str]:
    lines = box.run("env -0").split("\0")
    return dict(line.split("=", 1) for line in lines if line)


def test_every_default_is_there(box: Box, subject: Subject) -> None:
    found = environment(box)
    assert {name: found.get(name) for name in subject.image.env} == subject.image.env


def test_no_other_default_is_in_the_config(subject: Subject) -> None:
    """A custom base may have others; its PATH comes after the matrix's."""
    wanted = {item.name: item.value for item in subject.target.env}
    found = dict(subject.image.env)
    if subject.image.inherited:
        assert f"{found['PATH']}:".startswith(f"{wanted['PATH']}:")
        found = {name: found[name] for name in wanted} | {"PATH": wanted["PATH"]}
    assert found == wanted


def test_every_default_can_be_overridden(new_box: Box, subject: Subject) -> None:
    other = {default.name: f"{default.value}0" for default in subject.target.env}
    other["PATH"] = f"/nowhere:{subject.image.env['PATH']}"
    with new_box.started(env=other) as changed:
        found = environment(changed)
    assert {name: found.get(name) for name in other} == other


def test_forbidden_variables_are_absent(box: Box) -> None:
    assert [name for name in environment(box) if FORBIDDEN.fullmatch(name)] == []


def test_no_entrypoint_is_needed(subject: Subject) -> None:
    """Kubernetes, Slurm and Ray replace it."""
    assert b"Entrypoint" not in subject.image.config
