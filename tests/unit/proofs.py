"""Evidence of small suites: proofs of two machines, and a run of ROLL's own code."""

from __future__ import annotations

from dataclasses import replace

from images.attest.evidence import Evidence, Gpu, ImageId, Machine, Outcome, Proof, RollRun, Run

TARGET = "torch280-sglang052"
DIGEST, OTHER = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
H100 = Gpu("NVIDIA H100 80GB HBM3", 79.2, "9.0")
H200 = Gpu("NVIDIA H200", 139.8, "9.0")
MACHINE = Machine((H100,), "580.159.04", "13.0", "6.18.44")
IMAGE = ImageId(TARGET, DIGEST, f"sha256:{'3' * 64}", f"sha256:{'4' * 64}", "0.1.0")
PASSED, FAILED = Outcome("passed", 1.5), Outcome("failed", 2.0)
SKIPPED = Outcome("skipped", 0.0, "two GPUs are needed")
NOT_RUN = Outcome("not run")
PROOF = Proof(
    MACHINE,
    "rootfs",
    "2026-11-24T21:36:58Z",
    {"test_a.py::test_one": PASSED, "test_a.py::test_two": SKIPPED},
    {
        "off the main thread": Run(
            {"import": 7.1, "start": 20.5},
            {"running": 3000},
            {"triton": {"count": 2, "names": ["a", "b"]}},
        )
    },
)
ELSEWHERE = replace(
    PROOF, machine=replace(MACHINE, gpus=(H200,)), date="2026-11-26T03:00:00Z", runs={}
)
WHOLE = Evidence(IMAGE, (PROOF,))


def outcomes(**found: Outcome) -> dict[str, Outcome]:
    return {f"test_a.py::test_{name}": outcome for name, outcome in found.items()}


def with_tests(**found: Outcome) -> Evidence:
    return Evidence(IMAGE, (replace(PROOF, tests=outcomes(**found)),))


COMMIT = "8eb27cc2" + "0" * 32
ROLL = RollRun(COMMIT, False, "2026-11-28T10:00:00Z", outcomes(one=PASSED, two=SKIPPED))


def with_roll(roll: RollRun) -> Evidence:
    return Evidence(IMAGE, (replace(PROOF, roll=roll),))
