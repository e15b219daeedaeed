"""The engine off the main thread, as a Ray actor starts it, and on it; its processes."""

from __future__ import annotations

from typing import Any

import pytest
from packaging.version import Version

from tests.gpu import engines
from tests.gpu.recorder import Recorder
from tests.image.box import Box
from tests.image.subject import Subject


@pytest.fixture(scope="module")
def on_main(gpu: Box, subject: Subject, recorder: Recorder) -> dict[str, Any]:
    """An engine as a script starts it, with nothing preset."""
    engines.need_engine(subject)
    return engines.start(gpu, recorder, "on the main thread", "--main-thread")


def test_starts_off_the_main_thread(off_main: dict[str, Any], subject: Subject) -> None:
    assert off_main["faults"] == []
    assert off_main["sglang"] == subject.target.sglang
    assert off_main["variant"]["main_thread"] is False


def test_signal_handler_is_untouched_off_the_main_thread(off_main: dict[str, Any]) -> None:
    handlers = engines.reported(off_main, "sigquit")
    print(handlers)
    # Whatever it was: a shell that starts a command in the background has it ignored.
    assert set(handlers.values()) == {handlers["before"]}
    assert set(handlers) == {"before", "started", "generated"}


def test_starts_on_the_main_thread(on_main: dict[str, Any]) -> None:
    assert on_main["faults"] == []
    assert on_main["variant"]["main_thread"] is True


def test_sglangs_signal_handler_is_there_on_the_main_thread(
    on_main: dict[str, Any], subject: Subject
) -> None:
    """With it, a child that fails takes the others along; later versions watch their children."""
    handlers = engines.reported(on_main, "sigquit")
    print(handlers)
    if Version(subject.target.sglang) < Version("0.5.10"):
        assert "sigquit_handler" in handlers.get("started", "")


def test_scheduler_has_the_images_environment_under_rolls_presets(
    off_main: dict[str, Any], subject: Subject
) -> None:
    for env in engines.scheduler_environments(off_main):
        check_environment(env, subject)


def test_scheduler_has_the_images_environment(on_main: dict[str, Any], subject: Subject) -> None:
    for env in engines.scheduler_environments(on_main):
        check_environment(env, subject)


def check_environment(env: dict[str, str], subject: Subject) -> None:
    """One environment for all versions, with ROLL's presets and without."""
    print(env)
    for name in ("CUDA_DEVICE_MAX_CONNECTIONS", "CUDA_MODULE_LOADING"):
        assert env[name] == subject.image.env[name]
    for name in ("TRTLLM_ENABLE_PDL", "SGLANG_BLOCK_NONZERO_RANK_CHILDREN"):
        assert env.get(name) == subject.image.env.get(name)
    assert env["NCCL_CUMEM_ENABLE"] == "0"
    assert env["NCCL_NVLS_ENABLE"] == "0"
    assert not {"PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"} & set(env)
