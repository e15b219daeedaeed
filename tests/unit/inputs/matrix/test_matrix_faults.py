"""Each fault of a matrix is reported with its line."""

from __future__ import annotations

import pytest

from tests.unit.inputs.matrix.conftest import SMALL, Reader, line_of


@pytest.mark.parametrize(
    ("old", "new", "at", "said"),
    [
        ("python:", "pyhton:", "pyhton", "key 'pyhton' in the file; did you mean 'python'?"),
        ("    cuda: 12.4", "    cudaa: 12.4", "cudaa", "did you mean 'cuda'?"),
        ("suite: bookworm", "siute: bookworm", "siute", "did you mean 'suite'?"),
        ("why: drifts", "wyh: drifts", "wyh", "did you mean 'why'?"),
        ("    torch: 2.6.0\n", "", "- id: torch260", "a target has no 'torch'"),
        (", why: drifts", "", "{pin: cuda-python", "a constraint has no 'why'"),
        ("why: drifts", "why: ' '", "why: ' '", "why: empty"),
        ("toolkit:", "locks: [a]\ntoolkit:", "locks", "locks: must be text, not a list"),
        ("requirements: [numpy]", "requirements: numpy", "requirements: n", "must be a list"),
        ("requirements: [numpy]", "requirements:", "requirements:\n    over", "not empty"),
        ("torch: 2.8.0", "torch: ~", "torch: ~", "torch: empty"),
        ("suite: bookworm", "suite: trixie", "suite", "not one of bookworm"),
        ("suite: bookworm", "image: reg.io/a:1", "image", "names no digest"),
        ("suite: bookworm", "image: ubuntu@sha256:1", "image", "is no digest"),
        ("suite: bookworm", "suite: bookworm\n  image: r.io/a@sha256:1", "image", "not both"),
        ("suite: bookworm", "imagee: r.io/a", "imagee", "did you mean 'image'?"),
        ("    torch: 2.8.0", "    base: {image: r.io/a}\n    torch: 2.8.0", "base: {", "no digest"),
        ("    torch: 2.8.0", "    base: r.io/a\n    torch: 2.8.0", "base: r.", "must be a mapping"),
        ('python: "3.11"', "python: 3.10", "python", "'3.10' is not supported: bookworm has 3.11"),
        ("id: torch280-sglang052", "id: torch28-sglang052", "id: torch28-", "'torch280-sglang052'"),
        ("torch: 2.8.0", "torch: 2.8.o", "torch: 2.8.o", "not a version"),
        ("torch: 2.8.0", "torch: v2.8.0", "torch: v", "write 2.8.0"),
        ("torch: 2.8.0", "torch: 2.8.0+cu128", "torch: 2.8.0+", "only builds of the index itself"),
        ('cuda: "12.8"', 'cuda: "12"', 'cuda: "12"', "write MAJOR.MINOR"),
        ('cuda: "12.8"', 'cuda: "12.6"', 'cuda: "12.6"', "torch 2.8.0 is built for CUDA 12.8"),
        ("sglang: 0.5.2\n", "sglang: 0.5.2.post1\n", "sglang: 0.5.2.post1", "nearest is 0.5.2"),
        ("2025-05-18", "2025-02-30", "2025-02-30", "not a date"),
        ("2025-05-18", "0001-01-01T00:00:00+23:00", "0001-", "not a date"),
        ("{date: 2025-05-18, why: drift}", "2025-05-18", "2025-05-18", "must be a mapping"),
        ('">=0.5.2"', '">==0.5.2"', ">==0.5.2", "not a version specifier"),
        ("=={sglang}", "=={sgland}", "{sgland}", "did you mean 'sglang'?"),
        ("[numpy]", "['numpy[']", "numpy[", "not a requirement"),
        ("[numpy]", "['n @ https://h/n.whl']", "https", "locks contain no URL"),
        ("setuptools==80.9.0", "setuptools>=80", "setuptools>", "must be exact"),
        ("build: [setuptools==80.9.0], ", "", "flashinfer-python:", "has no 'build'"),
        ("flashinfer-python:", "FlashInfer_python:", "FlashInfer", "write flashinfer-python"),
        ("defaults:", "defaults:\n  dependencies: no", "dependencies", "neither true nor false"),
        ("name: NEW", "name: ONE", "name: ONE, value: \"yes\"", "here twice for torch280"),
        ('  "12": "12.4"', '  "13": "13.0"', "    cuda: 12.4", "has none for CUDA 12.4"),
        ('toolkit:\n  "12": "12.4"', 'toolkit: "12.4"', "toolkit", "must be a mapping, not '12.4'"),
        ('"12": "12.4"', '"12": "12.44"', '"12.44"', "there is 12.4; did you mean '12.4'?"),
        ('"12": "12.4"', '"12": "13.0"', '"13.0"', "'13.0' is not a compiler for CUDA 12"),
        ('"12": "12.4"', '"12": 12', '"12"', "write MAJOR.MINOR"),
        ('"12": "12.4"', '"12": "12.4"\n  "112": x', '"112"', "in toolkit; did you mean '12'?"),
        ('"12": "12.4"', '"12": "12.4"\n  rocm: "6.2"', "rocm", "for NVIDIA CUDA only"),
        ('toolkit:\n  "12": "12.4"\n', "", "platform", "the file has no 'toolkit'"),
        ("platform: nvidia-cuda", "platform: cpu", "platform", "the only one is nvidia-cuda"),
        ("[numpy]", "[numpy]\n    budgt: {size: 1GB, why: x}", "budgt", "did you mean 'budget'?"),
        ("[numpy]", "[numpy]\n    budget: 4.3GB", "budget", "budget must be a mapping"),
        ("[numpy]", "[numpy]\n    budget: {size: 4GB}", "budget", "budget has no 'why'"),
        ("[numpy]", "[numpy]\n    budget: {why: x}", "budget", "budget has no 'size'"),
        ("[numpy]", "[numpy]\n    budget: {sise: 4GB, why: x}", "budget", "did you mean 'size'?"),
        ("[numpy]", "[numpy]\n    budget: {size: 43, why: x}", "budget", "unit, as in 4.3GB"),
        ("[numpy]", "[numpy]\n    budget: {size: 4GiBB, why: x}", "budget", "did you mean 'GiB'?"),
        ("[numpy]", "[numpy]\n    budget: {size: 0GB, why: x}", "budget", "'0GB' is not a size"),
        ("[numpy]", "[numpy]\n    budget: {size: big, why: x}", "budget", "'big' is not a size"),
        ("defaults:", "defaults:\n  budget: {size: -1GB, why: x}", "budget", "is not a size"),
        ("[numpy]", "[numpy]\n    kernels: {nrom: {why: x}}", "kernels", "did you mean 'norm'?"),
        ("[numpy]", "[numpy]\n    kernels: {norm: {}}", "kernels", "'norm' has no 'why'"),
        ("[numpy]", "[numpy]\n    kernels: [norm]", "kernels", "must be a mapping, not a list"),
        ("[numpy]", "[numpy]\n    kernels: {norm: {wyh: x}}", "kernels", "did you mean 'why'?"),
        ("[numpy]", "[numpy]\n    kernels: {norm: {why: x, gpus: ['9.0']}}", "kernels",
         "on every GPU"),
        ("[numpy]", "[numpy]\n    kernels: {sglang-dense: {why: x, gpus: [sm_90]}}", "kernels",
         "write 9.0"),
        ("[numpy]", "[numpy]\n    kernels:\n      sglang-dense: {why: x, gpus: ['10.0']}",
         "      sglang-dense", "torch280-sglang052: the compiler, CUDA 12.4, does not serve"),
    ],
)  # fmt: skip
def test_a_fault_is_reported_with_its_line(
    read: Reader, old: str, new: str, at: str, said: str
) -> None:
    text = SMALL.replace(old, new, 1)
    faults = read.faults(text)
    wanted = f"matrix.yaml:{line_of(text, at)}: "
    assert any(fault.startswith(wanted) and said in fault for fault in faults), faults


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("platform: nvidia-cuda", "platform: rocm", "ROCm"),
        ("platform: nvidia-cuda", "platform: npu", "Ascend NPU"),
        ("platform: nvidia-cuda", "platform: Ascend-NPU", "Ascend NPU"),
        ('cuda: "12.8"', "cuda: rocm6.2", "ROCm"),
        ('cuda: "12.8"', "cuda: cann8", "Ascend NPU"),
        ('cuda: "12.8"', "rocm: '6.2'\n    cuda: '12.8'", "ROCm"),
        ('cuda: "12.8"', "npu: 910b\n    cuda: '12.8'", "Ascend NPU"),
        ("torch: 2.8.0", "torch: 2.8.0+rocm6.2", "ROCm"),
        ("[numpy]", "[torch-npu]", "Ascend NPU"),
        ("[numpy]", "['sglang[all_hip]']", "ROCm"),
    ],
)
def test_other_platforms_are_refused_by_name(read: Reader, old: str, new: str, name: str) -> None:
    fault = read.fault(SMALL.replace(old, new, 1))
    assert f"{name}" in fault
    assert "for NVIDIA CUDA only" in fault


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PYTORCH_CUDA_ALLOC_CONF", "x", "torch-memory-saver"),
        ("PYTORCH_ALLOC_CONF", "x", "torch 2.9"),
        ("NCCL_CUMEM_ENABLE", "0", "at run time"),
        ("https_proxy", "x", "proxy"),
        ("NO_PROXY", "x", "proxy"),
        ("PIP_INDEX_URL", "x", "index"),
        ("UV_EXTRA_INDEX_URL", "x", "index"),
        ("HF_TOKEN", "x", "credential"),
        ("AWS_SECRET_ACCESS_KEY", "x", "credential"),
        ("PGPASSWORD", "x", "credential"),
        ("HOMEPAGE", "https://me:pw@host/", "credential"),
        ("WITH SPACE", "x", "not the name"),
        ("LINES", '"a\\nb"', "line break"),
    ],
)
def test_forbidden_environment(read: Reader, name: str, value: str, said: str) -> None:
    text = SMALL.replace("name: NEW, value: \"yes\"", f"name: {name}, value: {value}")  # fmt: skip
    fault = read.fault(text)
    assert fault.startswith(f"matrix.yaml:{line_of(text, name)}: ")
    assert said in fault


@pytest.mark.parametrize("name", ["TOKENIZERS_PARALLELISM", "MAX_TOKENS", "MONKEY", "AUTHOR"])
def test_harmless_names_pass(read: Reader, name: str) -> None:
    assert read(SMALL.replace("name: NEW", f"name: {name}")).targets[1].env[1].name == name


def test_braces_that_are_no_placeholder_stay(read: Reader) -> None:
    text = SMALL.replace('value: "yes"', """value: '{"a": {}}'""")
    assert read(text).targets[1].env[1].value == '{"a": {}}'


def test_an_empty_environment_value_must_be_meant(read: Reader) -> None:
    assert read(SMALL.replace('"yes"', '""')).targets[1].env[1].value == ""
    assert 'written ""' in read.fault(SMALL.replace('"yes"', "~"))


def test_a_duplicate_id_names_both_lines(read: Reader) -> None:
    row = SMALL[SMALL.index("  - id: torch280") :]
    fault = read.fault(SMALL + row)
    lines = SMALL.count("\n") + 1, line_of(SMALL, "- id: torch280")
    assert fault.startswith(f"matrix.yaml:{lines[0]}: ")
    assert fault.endswith(f"is here twice: first on line {lines[1]}")


POST1 = SMALL[SMALL.index("  - id: torch260") : SMALL.index("  - id: torch280")].replace(
    "post4", "post1"
)


def test_a_further_version_of_a_release_has_its_suffix_in_the_id(read: Reader) -> None:
    row = POST1.replace("sglang046", "sglang046post1")
    ids = {target.id: target.sglang for target in read(SMALL + row).targets}
    assert ids["torch260-sglang046"] == "0.4.6.post4"
    assert ids["torch260-sglang046post1"] == "0.4.6.post1"


def test_the_id_of_another_version_is_refused_with_the_one_to_take(read: Reader) -> None:
    fault = read.fault(SMALL + POST1)
    assert "is here twice: first on line" in fault
    assert fault.endswith("a row of sglang 0.4.6.post1 is 'torch260-sglang046post1'")


def test_a_suffix_without_another_version_of_the_release_is_refused(read: Reader) -> None:
    fault = read.fault(SMALL.replace("sglang046", "sglang046post4"))
    assert fault.endswith(
        "no other row is 'torch260-sglang046', so it must be 'torch260-sglang046'"
    )


def test_one_version_cannot_have_both_ids(read: Reader) -> None:
    row = POST1.replace("sglang046", "sglang046post4").replace("post1", "post4")
    assert read.fault(SMALL + row).endswith("'torch260-sglang046' is of sglang 0.4.6.post4 as well")


@pytest.mark.parametrize("wrong", ["sglang046post1", "sglang0464", "sglang046-post4"])
def test_an_id_that_does_not_follow_is_answered_with_those_that_do(
    read: Reader, wrong: str
) -> None:
    fault = read.fault(SMALL.replace("sglang046", wrong))
    assert "it must be 'torch260-sglang046', or 'torch260-sglang046post4' beside a row of" in fault


def test_all_faults_at_once_in_order_of_lines(read: Reader) -> None:
    text = SMALL.replace("platform:", "platfrom:").replace("2.8.0", "x").replace("drifts", "''")
    numbers = [int(fault.split(":")[1]) for fault in read.faults(text)]
    assert len(numbers) == 4
    assert numbers == sorted(numbers)
