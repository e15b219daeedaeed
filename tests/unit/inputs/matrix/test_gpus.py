"""Which GPUs an image serves: of the compiler, a row, a flavour, or the end of an id."""

from __future__ import annotations

import pytest

from images.errors import UsageError
from images.inputs.matrix import gpus
from images.inputs.matrix.load import load
from images.inputs.matrix.records import Target
from tests.unit.inputs.matrix.conftest import CUDA_13, REAL, SMALL, Reader, line_of

CUDA_12_GPUS = ("8.0", "8.6", "8.9", "9.0")
PLAIN = "torch280-sglang052"
ROW = "    torch: 2.8.0\n"
ROLL = SMALL.replace("targets:", "flavours:\n  roll: {why: tools%s}\ntargets:").replace(
    ROW, f"{ROW}    flavours: [roll]\n"
)
OUTSIDE = f"base: {{image: r.io/a@sha256:{'a' * 64}}}"


def with_gpus(value: str) -> str:
    return SMALL.replace(ROW, f"{ROW}    gpus: {value}\n")


def served(target: Target) -> str:
    """What the image says; it is one with the record."""
    assert target.environment()[gpus.ENV] == " ".join(target.gpus)
    return target.environment()[gpus.ENV]


# -- a row -----------------------------------------------------------------------------------------


def test_an_image_serves_what_its_compiler_serves(read: Reader) -> None:
    assert [target.gpus for target in read().targets] == [CUDA_12_GPUS] * 2
    text = CUDA_13.replace("torch: 2.8.0", "torch: '2.10'").replace('cuda: "12.8"', 'cuda: "13.0"')
    text = text.replace(PLAIN, "torch2100-sglang052")
    assert read(text).targets[1].gpus == (*CUDA_12_GPUS, "10.0", "10.3", "12.0", "12.1")


@pytest.mark.parametrize(
    ("value", "gpu"),
    [
        ("[9.0]", "9.0"),
        ('["9.0"]', "9.0"),
        ("9.0", "9.0"),
        ('"9.0"', "9.0"),
        ("[9.0, 8.0]", "8.0 9.0"),
        ("9.0, 8.6", "8.6 9.0"),
        ("8.6 9.0", "8.6 9.0"),
        ("[8.0, 8.6, 8.9, 9.0]", "8.0 8.6 8.9 9.0"),
    ],
)
def test_a_row_names_fewer(read: Reader, value: str, gpu: str) -> None:
    other, target = read(with_gpus(value)).targets
    assert served(target) == gpu
    assert other.gpus == CUDA_12_GPUS
    assert target.resolve_inputs() == read().targets[1].resolve_inputs()


def test_order_is_that_of_numbers() -> None:
    assert gpus.in_order(["10.0", "9.0", "12.1", "9.0"]) == ("9.0", "10.0", "12.1")
    assert gpus.architectures(("9.0", "10.3")) == "sm_90 sm_103"


def test_the_nearest_entry_is_used(read: Reader) -> None:
    shared = ROLL.replace("defaults:", "defaults:\n  gpus: [8.0]")
    assert [t.gpus for t in read(shared % "").targets] == [("8.0",)] * 3
    row = shared.replace(ROW, f"{ROW}    gpus: [8.9]\n")
    assert [t.gpus for t in read(row % "").targets] == [("8.0",), ("8.9",), ("8.9",)]
    assert [t.gpus for t in read(row % ", gpus: 9.0").targets] == [("8.0",), ("8.9",), ("9.0",)]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("[9.0, 9.0]", "gpus: '9.0' is here twice"),
        ("[9]", "gpus: '9' is not a compute capability: write MAJOR.MINOR, as in 9.0"),
        ("[sm_90]", "gpus: 'sm_90' is not a compute capability: write 9.0"),
        ("[sm103a]", "gpus: 'sm103a' is not a compute capability: write 10.3"),
        ("[9.1]", "gpus: no compiler serves compute capability 9.1: there is 8.0, 8.6, 8.9, 9.0, "),
        ("[7.5]", "gpus: no compiler serves compute capability 7.5"),
        ("[{a: b}]", "gpus: must be text, not a mapping"),
        (
            "[10.0]",
            "gpus: torch280-sglang052: the compiler, CUDA 12.4, does not serve compute capability "
            "10.0: it serves 8.0, 8.6, 8.9, 9.0",
        ),
        ("[]", "gpus: there are none: without the key the image serves all"),
        ("", "gpus: there are none"),
        ('" "', "gpus: there are none"),
        ("{a: b}", "gpus: must be a list, not a mapping"),
    ],
)
def test_faults_have_their_lines(read: Reader, value: str, said: str) -> None:
    text = with_gpus(value)
    faults = read.faults(text)
    assert any(said in fault for fault in faults), faults
    assert all(f"matrix.yaml:{line_of(text, 'gpus:')}: gpus" in fault for fault in faults)


def test_a_custom_base_may_have_a_compiler_for_others(read: Reader) -> None:
    text = with_gpus("[9.0, 10.0]").replace(ROW, f"{ROW}    {OUTSIDE}\n")
    assert read(text).targets[1].gpus == ("9.0", "10.0")


def test_the_variable_and_the_ends_of_ids_are_not_for_others(read: Reader) -> None:
    env = SMALL.replace("{name: ONE, value: 1", "{name: ROLL_RUNTIME_GPUS, value: 9.0")
    assert "must not be set in an image: it follows from `gpus`" in read.fault(env)
    flavour = (ROLL % "").replace("roll:", "sm90:").replace("[roll]", "[sm90]")
    assert "'sm90' is not a flavour's name: in an id it names GPUs" in read.fault(flavour)


# -- a target for some of its GPUs -----------------------------------------------------------------


@pytest.mark.parametrize("plain", [PLAIN, f"{PLAIN}-roll"])
def test_an_id_names_gpus(plain: str) -> None:
    matrix = load(REAL)
    whole, target = matrix.target(plain), matrix.target(f"{plain}-sm90")
    assert target.id == f"{plain}-sm90"
    assert served(target) == "9.0"
    assert [item.name for item in target.env] == [item.name for item in whole.env]
    assert (target.flavour, target.budget) == (whole.flavour, whole.budget)
    assert target.lock_id == whole.lock_id == plain
    assert target.resolve_inputs() == whole.resolve_inputs()
    assert served(matrix.target(f"{plain}-sm80-sm90")) == "8.0 9.0"
    assert served(matrix.target("torch2110-sglang0512-sm90-sm103")) == "9.0 10.3"


def test_narrowing_the_narrowed_is_narrowing_the_target() -> None:
    matrix = load(REAL)
    target = matrix.target(f"{PLAIN}-sm80-sm90").narrowed(("9.0",))
    assert target == matrix.target(f"{PLAIN}-sm90")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("-sm100", f"{PLAIN} does not serve compute capability 10.0: it serves 8.0, 8.6, 8.9, 9.0"),
        ("-sm75-sm90", "does not serve compute capability 7.5"),
        ("-sm80-sm86-sm89-sm90", "itself serves compute capability 8.0, 8.6, 8.9, 9.0, and no"),
        ("-sm90-sm80", f"{PLAIN}-sm90-sm80: GPUs are named in order, each once"),
        ("-sm90-sm90", "GPUs are named in order, each once"),
        ("-sm9", f"no target '{PLAIN}-sm9' in matrix.yaml; did you mean '{PLAIN}'?"),
        ("-sm90-roll", f"no target '{PLAIN}-sm90-roll' in matrix.yaml"),
    ],
)
def test_what_no_id_may_name(target: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(REAL).target(f"{PLAIN}{target}")
    assert said in caught.value.message
    assert caught.value.remedy


def test_a_row_that_serves_one_cannot_be_narrowed(read: Reader) -> None:
    matrix = read(with_gpus("9.0"))
    with pytest.raises(UsageError, match=r"itself serves .* 9\.0, and no other"):
        matrix.target(f"{PLAIN}-sm90")
    assert matrix.find("torch260-sglang046-sm90") is not None
    assert matrix.find("torch999-sglang052-sm90") is None
