"""matrix.yaml: the real file, every fault by its line, and no input that breaks the reader."""

from __future__ import annotations

import json
import os
import string
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from images import matrix_check, yaml_lines
from images.errors import MatrixError, UsageError
from images.lockfile import digest_of
from images.matrix import Budget, EnvDefault, Matrix, Pin, Sdist, load

ROOT = Path(__file__).resolve().parents[2]
REAL = ROOT / "matrix.yaml"

SMALL = """\
platform: nvidia-cuda
python: "3.11"
base:
  suite: bookworm
toolkit:
  "12": "12.4"
defaults:
  requirements:
    - "sglang=={sglang}"
    - {pin: "torch=={torch}", cuda: "<13", why: the engine}
  constraints:
    - {pin: cuda-python<13, why: drifts}
  sdists:
    flashinfer-python: {build: [setuptools==80.9.0], why: no wheel}
  misrecorded:
    decord: {sglang: "<0.5", why: published so}
  env:
    - {name: ONE, value: 1, why: first}
    - {name: NEW, value: "yes", sglang: ">=0.5.2", why: newer}
    - {name: MAJOR, value: "cuda>={cuda_major}.0", why: by major}
targets:
  - id: torch260-sglang046
    sglang: 0.4.6.post4
    torch: 2.6.0
    cuda: 12.4
    exclude_newer: {date: 2025-05-18, why: drift}
    env:
      - {name: ONE, value: "own", why: its own}
  - id: torch280-sglang052
    sglang: 0.5.2
    torch: 2.8.0
    cuda: "12.8"
    exclude_newer: {date: "2025-09-16T02:00:00+02:00", why: drift}
    requirements: [numpy]
    overrides:
      - {pin: numpy==2.0.0, why: because}
"""

RUNTIME = """\
SUPPORTED = ("0.4.6.post4", "0.5.2", "2.10")
def is_supported(version): return version in SUPPORTED
def nearest(version): return "0.5.2"
"""


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    path = tmp_path / "versions.py"
    path.write_text(RUNTIME)
    return path


@pytest.fixture
def read(tmp_path: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    monkeypatch.chdir(tmp_path)
    return Reader(tmp_path, runtime)


class Reader:
    """Loads a text as a matrix file."""

    def __init__(self, home: Path, runtime: Path) -> None:
        self.path = home / "matrix.yaml"
        self.runtime = runtime

    def __call__(self, text: str | bytes = SMALL) -> Matrix:
        self.path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load(self.path, self.runtime)

    def faults(self, text: str | bytes) -> list[str]:
        with pytest.raises(MatrixError) as caught:
            self(text)
        return caught.value.message.splitlines()

    def fault(self, text: str | bytes) -> str:
        faults = self.faults(text)
        assert len(faults) == 1, faults
        return faults[0]


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


# The real file


def test_the_targets() -> None:
    rows = [(t.id, t.sglang, t.torch, t.cuda) for t in load(REAL).targets]
    assert rows == [
        ("torch260-sglang046", "0.4.6.post4", "2.6.0", "12.4"),
        ("torch271-sglang0410", "0.4.10.post2", "2.7.1", "12.6"),
        ("torch280-sglang052", "0.5.2", "2.8.0", "12.8"),
        ("torch280-sglang054", "0.5.4.post2", "2.8.0", "12.8"),
        ("torch280-sglang055", "0.5.5.post3", "2.8.0", "12.8"),
        ("torch291-sglang056", "0.5.6.post2", "2.9.1", "12.8"),
        ("torch291-sglang057", "0.5.7", "2.9.1", "12.8"),
        ("torch2110-sglang0512", "0.5.12.post1", "2.11.0", "13.0"),
    ]


def test_the_real_pins() -> None:
    matrix = load(REAL)
    old = matrix.target("torch260-sglang046")
    assert {"transformers==4.51.1", "cuda-bindings==12.9.0"} <= set(old.requirements)
    assert "sglang[srt,torch-memory-saver]==0.4.6.post4" in old.requirements
    assert [sdist.name for sdist in old.sdists] == ["flashinfer-python"]
    new = matrix.target("torch280-sglang054")
    assert [pin.requirement for pin in new.overrides] == ["flashinfer-python==0.5.0"]
    assert "sglang==0.5.4.post2" in new.requirements
    assert new.sdists == ()


def test_every_real_target_holds_the_contract() -> None:
    for target in load(REAL).targets:
        cuda_12 = target.cuda.startswith("12.")
        assert target.toolkit == ("12.4" if cuda_12 else "13.0")
        env = {default.name: default.value for default in target.env}
        late = Version(target.sglang) >= Version("0.5.2")
        assert env.pop("TRTLLM_ENABLE_PDL", None) == ("1" if late else None)
        assert env == {
            "PATH": "/opt/venv/bin:/usr/local/cuda/bin:/usr/local/sbin:/usr/local/bin:"
            "/usr/sbin:/usr/bin:/sbin:/bin",
            "CUDA_HOME": "/usr/local/cuda",
            "LIBRARY_PATH": "/usr/local/cuda/lib64/stubs",
            "CUDA_DEVICE_MAX_CONNECTIONS": "4",
            "CUDA_MODULE_LOADING": "AUTO",
            "SGLANG_BLOCK_NONZERO_RANK_CHILDREN": "0",
            "NVIDIA_VISIBLE_DEVICES": "all",
            "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
            "NVIDIA_REQUIRE_CUDA": "cuda>=12.0" if cuda_12 else "cuda>=13.0",
        }
        assert f"torch=={target.torch}" in target.requirements
        assert any(text.startswith("pip==") for text in target.requirements)
        assert ("cuda-python<13" in [pin.requirement for pin in target.constraints]) == cuda_12
        pins = (*target.constraints, *target.overrides)
        assert all(pin.why for pin in pins)
        assert all(sdist.why for sdist in target.sdists)
        assert all(default.why for default in target.env)
        assert target.exclude_newer_why
        assert target.budget
        assert 3e9 < target.budget.size < 5e9
        assert target.budget.why


def test_loading_imports_no_slow_parser() -> None:
    slow = "{'packaging', 'difflib', 'requests', 'rich', 'docker', 'subprocess'}"
    code = (
        "import sys; from pathlib import Path; from images.matrix import load;"
        f"load(Path('matrix.yaml')); sys.exit(', '.join({slow} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# Reading


def test_defaults_and_row_are_joined(read: Reader) -> None:
    first, second = read().targets
    assert first.requirements == ("sglang==0.4.6.post4", "torch==2.6.0")
    assert first.env == (
        EnvDefault("ONE", "own", "its own"),
        EnvDefault("MAJOR", "cuda>=12.0", "by major"),
    )
    assert second.requirements == ("sglang==0.5.2", "torch==2.8.0", "numpy")
    assert [default.name for default in second.env] == ["ONE", "NEW", "MAJOR"]
    assert second.constraints == (Pin("cuda-python<13", "drifts"),)
    assert second.overrides == (Pin("numpy==2.0.0", "because"),)
    assert second.sdists == (Sdist("flashinfer-python", ("setuptools==80.9.0",), "no wheel"),)
    assert first.misrecorded == {"decord"}
    assert second.misrecorded == frozenset()
    assert second.exclude_newer == "2025-09-16T00:00:00Z"
    assert second.line == line_of(SMALL, "- id: torch280")


def test_records_are_frozen(read: Reader) -> None:
    with pytest.raises(FrozenInstanceError):
        read().targets[0].cuda = "13.0"  # type: ignore[misc]


def test_resolve_inputs_follow_the_lock_alone(read: Reader) -> None:
    inputs = read().targets[1].resolve_inputs()
    assert json.loads(json.dumps(inputs)) == inputs
    other_words = SMALL.replace("drifts", "changed").replace("value: 1", "value: 2")
    assert digest_of(read(other_words).targets[1].resolve_inputs()) == digest_of(inputs)
    for change in (
        SMALL.replace("cuda-python<13", "cuda-python<12"),
        SMALL.replace("+02:00", "+01:00"),
        SMALL.replace("80.9.0", "80.9.1"),
        SMALL.replace("numpy==2.0.0", "numpy==2.0.1"),
        SMALL.replace("[numpy]", "[scipy]"),
        SMALL.replace("defaults:\n", "defaults:\n  dependencies: false\n"),
    ):
        assert digest_of(read(change).targets[1].resolve_inputs()) != digest_of(inputs)


def test_a_budget_is_the_rows_own_or_the_defaults_or_none(read: Reader) -> None:
    assert [target.budget for target in read().targets] == [None, None]
    shared = SMALL.replace("defaults:\n", "defaults:\n  budget: {size: 4.3GB, why: pulls}\n")
    assert [target.budget for target in read(shared).targets] == [
        Budget(4_300_000_000, "pulls")
    ] * 2
    own = shared.replace("    requirements: [numpy]", "    budget: {size: 512 MiB, why: tiny}")
    assert [target.budget for target in read(own).targets] == [
        Budget(4_300_000_000, "pulls"),
        Budget(512 << 20, "tiny"),
    ]


def test_a_budget_makes_no_lock_stale(read: Reader) -> None:
    inputs = [target.resolve_inputs() for target in read().targets]
    text = SMALL.replace("defaults:\n", "defaults:\n  budget: {size: 4.3GB, why: pulls}\n")
    assert [target.resolve_inputs() for target in read(text).targets] == inputs


def test_locks_are_relative_to_the_file(read: Reader, tmp_path: Path) -> None:
    assert read().locks == tmp_path / "images/locks"
    assert read(f"locks: ./pins\n{SMALL}").lock_path("x") == tmp_path / "pins/x.txt"
    assert "must be relative" in read.fault(f"locks: /etc\n{SMALL}")


def test_versions_are_text_and_never_numbers(read: Reader) -> None:
    text = SMALL.replace("torch: 2.8.0", "torch: 2.10").replace("torch280-", "torch2100-")
    assert read(text).targets[1].torch == "2.10"


@pytest.mark.parametrize(("word", "hint"), [("torch280-sglang051", "did you mean"), ("zzz", "no")])
def test_an_unknown_target_is_answered_with_the_list(read: Reader, word: str, hint: str) -> None:
    with pytest.raises(UsageError, match=hint) as caught:
        read().target(word)
    assert caught.value.remedy == "targets: torch260-sglang046, torch280-sglang052"


OWN = f"reg.example.com/base@sha256:{'a' * 64}"


def test_own_base_of_all_or_of_one_row(read: Reader) -> None:
    every = read(SMALL.replace("suite: bookworm", f"image: {OWN}"))
    assert (every.base.suite, every.base.image) == ("", OWN)
    assert [target.base for target in every.targets] == [OWN, OWN]
    row = "    torch: 2.8.0"
    one = read(SMALL.replace(row, f"    base: {{image: {OWN!r}}}\n{row}"))
    assert [target.base for target in one.targets] == ["", OWN]
    back = SMALL.replace("suite: bookworm", f"image: {OWN}")
    back = back.replace(row, f"    base: {{suite: bookworm}}\n{row}")
    assert [target.base for target in read(back).targets] == [OWN, ""]


def test_own_base_makes_no_lock_stale(read: Reader) -> None:
    before = [target.resolve_inputs() for target in read().targets]
    after = read(SMALL.replace("suite: bookworm", f"image: {OWN}")).targets
    assert [target.resolve_inputs() for target in after] == before


# Faults


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
        ("[numpy]", "['n @ https://h/n.whl']", "https", "locks name no index"),
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
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_line(
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


def test_all_faults_at_once_in_order_of_lines(read: Reader) -> None:
    text = SMALL.replace("platform:", "platfrom:").replace("2.8.0", "x").replace("drifts", "''")
    numbers = [int(fault.split(":")[1]) for fault in read.faults(text)]
    assert len(numbers) == 4
    assert numbers == sorted(numbers)


CUDA_13 = SMALL.replace('"12": "12.4"', '"12": "12.4"\n  "13": "13.0"')


def test_each_row_gets_the_compiler_of_its_major_version(read: Reader) -> None:
    text = CUDA_13.replace("torch280-", "torch2110-").replace("2.8.0", "2.11.0")
    matrix = read(text.replace('cuda: "12.8"', 'cuda: "13.0"'))
    assert [target.toolkit for target in matrix.targets] == ["12.4", "13.0"]
    assert matrix.toolkits == ("12.4", "13.0")


def test_a_compiler_with_the_rows_own_headers_serves_its_minor_version_alone(read: Reader) -> None:
    text = CUDA_13.replace("torch280-", "torch2120-").replace("2.8.0", "2.12.0")
    text = text.replace('cuda: "12.8"', 'cuda: "13.2"')
    fault = read.fault(text)
    line = line_of(text, 'cuda: "13.2"')
    assert fault.startswith(f"matrix.yaml:{line}: ")
    assert fault.endswith("the compiler of toolkit 13.0 cannot serve CUDA 13.2, only 13.0")


def test_the_compiler_does_not_make_a_lock_stale(read: Reader) -> None:
    assert "12.4" not in json.dumps(read().targets[1].resolve_inputs())


def test_a_missing_cut_off_and_no_targets(read: Reader) -> None:
    without = SMALL.replace("    exclude_newer: {date: 2025-05-18, why: drift}\n", "")
    assert "has no 'exclude_newer'" in read.fault(without)
    shared = without.replace(
        "defaults:\n", "defaults:\n  exclude_newer: {date: 2025-01-01, why: y}\n"
    )
    assert [t.exclude_newer[:10] for t in read(shared).targets] == ["2025-01-01", "2025-09-16"]
    assert "there are none" in read.fault(SMALL[: SMALL.index("targets:")] + "targets: []\n")


# What the lock and roll_runtime say


def write_lock(matrix: Matrix, *lines: str) -> None:
    path = matrix.lock_path("torch280-sglang052")
    path.parent.mkdir(parents=True)
    hashed = [f"{line} --hash=sha256:{'0' * 64}  # x.whl 1\n" for line in lines]
    path.write_text("# head\n" + "".join(hashed))


def test_the_locked_torch_decides_its_cuda(read: Reader) -> None:
    write_lock(read(), "nvidia-cuda-runtime-cu12==12.9.79", "torch==2.8.0")
    assert "CUDA 12.9 (as torch280-sglang052.txt has it), not 12.8" in read.fault(SMALL)
    assert read(SMALL.replace('"12.8"', '"12.9"')).targets[1].cuda == "12.9"


def test_a_lock_of_another_torch_does_not_count(read: Reader) -> None:
    write_lock(read(), "nvidia-cuda-runtime==13.0.96", "torch==2.11.0")
    assert read().targets[1].cuda == "12.8"


def test_a_lock_that_is_no_text_does_not_count(read: Reader) -> None:
    write_lock(read())
    read().lock_path("torch280-sglang052").write_bytes(b"\xff\0torch")
    assert read().targets[1].cuda == "12.8"


@pytest.mark.parametrize("code", ["1/0", "SUPPORTED = 3", "raise Exception", "def", ""])
def test_a_broken_runtime_table_is_a_fault(read: Reader, runtime: Path, code: str) -> None:
    runtime.write_text(code)
    assert "roll_runtime's table of SGLang versions cannot be read" in read.fault(SMALL)


def test_a_missing_runtime_table_is_a_fault(read: Reader, runtime: Path) -> None:
    runtime.unlink()
    assert "cannot be read" in read.fault(SMALL)


def test_the_runtime_table_is_not_left_importable(read: Reader) -> None:
    before = set(sys.modules), list(sys.path)
    read()
    assert {name for name in set(sys.modules) - before[0] if "versions" in name} == set()
    assert sys.path == before[1]


# YAML that is not a matrix


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "matrix.yaml: is empty"),
        ("# only a comment\n", "matrix.yaml: is empty"),
        ("---\n", "must be a mapping, not empty"),
        ("[1]\n", "must be a mapping, not a list"),
        ("a: b\n\tc: d\n", "spaces, not tabs"),
        ("a: 1\na: 2\n", "matrix.yaml:2: 'a' is here twice: first on line 1"),
        ("a: &x 1\n", "matrix.yaml:1: anchors and aliases"),
        ("a: 1\nb: *x\n", "matrix.yaml:2: anchors and aliases"),
        ("a: !!python/object/apply:os.system [id]\n", "the tag"),
        ("a: !mine 1\n", "the tag"),
        ("a: 1\n---\nb: 2\n", "matrix.yaml:2: a second document"),
        ("[" * 5000, "nest"),  # our limit's words, or those of PyYAML 6.0.4 and later
        ("? [a]\n: b\n", "a key must be text"),
        ('a: "\\0"\n', "control character"),
        ('a: "\\UFFFFFFFF"\n', "not valid YAML"),
        ("a: b\0c\n", "not valid YAML"),
        ("a: [b\n", "not valid YAML"),
        (b"a: b\nc: \xff\n", "matrix.yaml:2: not valid UTF-8"),
        (b"#" * (yaml_lines.MAX_BYTES + 1), "larger than"),
    ],
)
def test_hostile_yaml_is_refused_cleanly(read: Reader, text: str | bytes, said: str) -> None:
    assert any(said in fault for fault in read.faults(text))


def test_the_pure_parser_reads_the_same(read: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml

    fast = read()
    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    assert read() == fast
    for text in ('a: "\\UFFFFFFFF"\n', 'a: "\\ud800"\n', "a: \x01\n", "[" * 5000):
        assert read.faults(text)


def test_a_byte_order_mark_and_crlf_are_read(read: Reader) -> None:
    assert read(b"\xef\xbb\xbf" + SMALL.replace("\n", "\r\n").encode()) == read()


def test_a_file_that_is_not_there(read: Reader, tmp_path: Path) -> None:
    for path, said in (
        (tmp_path / "none.yaml", "none.yaml: no such file"),
        (tmp_path, "directory"),
    ):
        with pytest.raises(MatrixError, match=said):
            load(path, read.runtime)
    with pytest.raises(MatrixError, match="cannot be read"):
        load(Path("a\0b"), read.runtime)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_may_not_be_read(read: Reader) -> None:
    read()
    read.path.chmod(0)
    with pytest.raises(MatrixError, match="cannot be read"):
        load(read.path, read.runtime)


# Fuzz: nothing but MatrixError leaves `load`

FUZZ = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
PIECES = st.sampled_from(
    ["{", "}", "[", "]", ":", "- ", "\n", "\t", "&a", "*a", "!!x", '"', "'", "\\", "#", "|", ">",
     "? ", "<<: ", "~", "9" * 5000, "\u2028", "\U0001f600", "==", "{sglang}", ",", "((((", "%", "@",
     "1e999", "0x1", ">=", "-", "\x85", "\ufeff", "٣", "../../x"]
)  # fmt: skip


def survives(read: Reader, text: str | bytes) -> None:
    try:
        message = str(read(text).path)
    except MatrixError as error:
        message = error.message
    assert message.encode()


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "replace")


@FUZZ
@given(st.binary(max_size=200) | st.text(max_size=200).map(encoded))
def test_any_bytes(read: Reader, data: bytes) -> None:
    survives(read, data)


@FUZZ
@given(st.data())
def test_any_edit_of_a_good_file(read: Reader, data: st.DataObject) -> None:
    text = SMALL
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        gone = data.draw(st.integers(0, 12))
        text = text[:at] + data.draw(PIECES | st.text(max_size=4)) + text[at + gone :]
    survives(read, encoded(text))


LEAVES = st.none() | st.booleans() | st.floats() | st.text(max_size=8) | st.integers()
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@FUZZ
@given(st.data())
def test_any_value_in_any_place(read: Reader, data: st.DataObject) -> None:
    import yaml

    document = yaml.load(SMALL, Loader=yaml.BaseLoader)
    place, keys = document, []
    while isinstance(place, (dict, list)) and place:
        keys.append((place, data.draw(st.sampled_from([*range(len(place))]))))
        holder, index = keys[-1]
        key = list(holder)[index] if isinstance(holder, dict) else index
        place = holder[key]
        if data.draw(st.booleans()):
            holder[key] = data.draw(TREES)
            break
    survives(read, json.dumps(document))


# The rules agree with packaging

NUMBERS = st.integers(0, 12)


@st.composite
def versions(draw: st.DrawFn, *, final: bool = False) -> str:
    text = ".".join(str(draw(NUMBERS)) for _ in range(draw(st.integers(1, 4))))
    if not final:
        for part in ("a", "rc", ".post", ".dev"):
            if draw(st.integers(0, 3)) == 0 and not (part == "rc" and "a" in text):
                text += f"{part}{draw(NUMBERS)}"
    return text


CLAUSES = st.tuples(st.sampled_from([">=", "<", "<=", "==", ">", "!="]), versions(final=True))


@given(st.lists(CLAUSES, min_size=1, max_size=3), versions())
def test_matches_is_what_packaging_says(parts: list[tuple[str, str]], version: str) -> None:
    spec = ",".join(operator + bound for operator, bound in parts)
    wanted = SpecifierSet(spec).contains(version, prereleases=True)
    assert matrix_check.specifier(spec) is None
    assert matrix_check.matches(spec, version) == wanted


@given(versions())
def test_a_plain_version_is_one_of_packaging(version: str) -> None:
    assert matrix_check.version(version) is None
    assert str(Version(version)) == version


@given(
    st.text(alphabet=string.ascii_letters + string.digits + "-_.[],<>=! @;()'\"+*~", max_size=24)
)
def test_an_accepted_requirement_is_one_of_packaging(text: str) -> None:
    if matrix_check.requirement(text) is None:
        Requirement(text)
