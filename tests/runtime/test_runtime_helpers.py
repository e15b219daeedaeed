"""Helpers that ROLL's users meet: placement, arguments, remedies."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
from types import SimpleNamespace
from typing import Any

import pytest

import roll_runtime
from roll_runtime import args, engine, records, remedies


@pytest.mark.parametrize(
    ("devices", "size", "engines"),
    [
        (range(24), 2, 12),
        ("list(range(0,24))", 2, 12),
        ("[0, 1, 2, 3]", 4, 1),
        ("list(range(0, 4)) + list(range(8, 12))", 4, 2),
        ("range(8)", 1, 8),
    ],
)
def test_engine_count(devices: Any, size: int, engines: int) -> None:
    assert roll_runtime.engine_count(devices, size) == engines


@pytest.mark.parametrize(
    ("devices", "size", "text"),
    [
        (range(24), 5, "num_gpus_per_worker=5 does not divide: 4 would be left over"),
        (range(24), 5, "Set num_gpus_per_worker to one of 1, 2, 3, 4, 6, 8, 12, 24"),
        (range(24), 5, "1 more or 4 fewer GPUs"),
        ([], 1, "device_mapping is empty"),
        ([0, 1, 1], 1, "names GPU 1 more than once"),
        ([0, -1], 1, "names GPU -1"),
        (range(4), 0, "num_gpus_per_worker=0"),
        (range(2), 4, "does not divide"),
        ("all of them", 1, "is not a list of GPU numbers"),
        ("__import__('os').getpid()", 1, "is not a list of GPU numbers"),
        ("[0, 'a']", 1, "is not a list of GPU numbers"),
    ],
)
def test_engine_count_says_what_is_wrong(devices: Any, size: int, text: str) -> None:
    with pytest.raises(ValueError, match=r"device_mapping|num_gpus_per_worker") as caught:
        roll_runtime.engine_count(devices, size)
    assert text in str(caught.value)


def worker_config(**given: Any) -> Any:
    strategy = SimpleNamespace(strategy_config=given.pop("strategy_config", {}))
    defaults = {"device_mapping": [0, 1], "num_gpus_per_worker": 1, "infer_batch_size": 16}
    return SimpleNamespace(strategy_args=strategy, **{**defaults, **given})


def test_worker_config_gets_the_documented_default() -> None:
    config = worker_config()
    assert roll_runtime.check_worker_config(config) == []
    assert config.strategy_args.strategy_config == {"mem_fraction_static": 0.7}
    config = worker_config(strategy_config={"mem_fraction_static": 0.5})
    roll_runtime.check_worker_config(config)
    assert config.strategy_args.strategy_config["mem_fraction_static"] == 0.5


def test_worker_config_warns(caplog: pytest.LogCaptureFixture) -> None:
    config = worker_config(infer_batch_size=64, strategy_config={"pipeline_parallel_size": 2})
    warnings = roll_runtime.check_worker_config(config)
    assert len(warnings) == 2
    assert "infer_batch_size=64 is ignored: SGLang batches continuously" in warnings[0]
    assert "max_running_requests" in warnings[0]
    assert "pipeline_parallel_size=2" in warnings[1]
    for warning in warnings:
        assert warning in caplog.text


def test_worker_config_that_does_not_divide() -> None:
    with pytest.raises(ValueError, match="does not divide"):
        roll_runtime.check_worker_config(worker_config(num_gpus_per_worker=3))


KNOWN = {"model_path", "mem_fraction_static", "tp_size", "cuda_graph_max_bs_decode"}


@pytest.mark.parametrize("name", sorted(args.DROPPED_WHEN_FALSE))
@pytest.mark.parametrize("value", [False, None, []])
def test_false_extras_are_dropped(name: str, value: Any) -> None:
    assert args.adapt({"tp_size": 2, name: value}, KNOWN, "X") == {"tp_size": 2}


@pytest.mark.parametrize("name", sorted(args.DROPPED_WHEN_FALSE))
def test_true_extras_are_refused(name: str) -> None:
    with pytest.raises(TypeError, match=f"X has no {name}=True \\(needs SGLang 0"):
        args.adapt({name: True}, KNOWN, "X")


def test_false_values_of_other_names_are_refused() -> None:
    """Only what ROLL passes always is dropped: a misspelt `False` is still a mistake."""
    with pytest.raises(TypeError, match="disable_cuda_grph=False"):
        args.adapt({"disable_cuda_grph": False}, KNOWN, "X")


def test_all_refused_names_are_in_one_message() -> None:
    with pytest.raises(TypeError) as caught:
        args.adapt({"cuda_graph_max_bs": 8, "tensor_parallel_size": 2, "tp_sizes": 2}, KNOWN, "X")
    text = str(caught.value)
    assert "cuda_graph_max_bs=8 (gone from 0.5.15: use cuda_graph_max_bs_decode)" in text
    assert "tensor_parallel_size=2 (SGLang calls it tp_size)" in text
    assert "tp_sizes=2 (did you mean tp_size?)" in text


def test_callers_arguments_are_not_changed() -> None:
    given = {"tp_size": 1, "grpc_mode": False}
    args.adapt(given, KNOWN, "X")
    assert given == {"tp_size": 1, "grpc_mode": False}


def test_field_names_of_dataclass_and_struct() -> None:
    @dataclasses.dataclass
    class Old:
        one: int = 1
        made: int = dataclasses.field(default=0, init=False)

    class New:
        __struct_fields__ = ("one", "two")

    assert args.field_names(Old) == frozenset({"one"})
    assert args.field_names(New) == frozenset({"one", "two"})
    assert args.field_names(dict) is None


def test_requests_take_what_roll_sends() -> None:
    """GenerateReqInput below 0.5.7: the strategy passes return_routed_experts to each request."""

    @dataclasses.dataclass
    class GenerateReqInput:
        input_ids: Any = None

    module: Any = SimpleNamespace(GenerateReqInput=GenerateReqInput)
    records.patch_records(module, "0.5.2")
    records.patch_records(module, "0.5.2")
    make: Any = GenerateReqInput
    assert make(input_ids=[1], return_routed_experts=False, video_data=None).input_ids == [1]
    assert make([2]).input_ids == [2]
    with pytest.raises(TypeError, match="return_routed_experts=True"):
        make(return_routed_experts=True)
    with pytest.raises(TypeError, match="GenerateReqInput has no other=1"):
        make(other=1)
    wrapped: Any = GenerateReqInput.__init__
    assert not hasattr(wrapped.__wrapped__, "__wrapped__")


def test_engine_generates_with_what_roll_passes() -> None:
    """0.4.6 has no video_data: ROLL's judge of rewards passes it to the engine's own method."""

    class Engine:
        def __init__(self, **arguments: Any) -> None: ...

        async def async_generate(self, prompt: Any = None, input_ids: Any = None) -> Any:
            return prompt, input_ids

    module: Any = SimpleNamespace(Engine=Engine, signal=None, _set_envs_and_config=print)
    engine.patch_engine(module, "0.4.6.post1")
    once = Engine.async_generate
    engine.patch_engine(module, "0.4.6.post1")
    assert Engine.async_generate is once
    generate: Any = Engine().async_generate
    assert asyncio.run(generate(input_ids=[1], video_data=None)) == (None, [1])
    assert asyncio.run(generate("one")) == ("one", None)
    with pytest.raises(TypeError, match=r"video_data=\['film'\] \(needs SGLang 0.4.10"):
        asyncio.run(generate(video_data=["film"]))


def test_weight_updates_of_0_4_6_are_refused_by_name() -> None:
    """0.4.6 takes one tensor a call: ROLL's requests are no mistake, so say why."""

    @dataclasses.dataclass
    class UpdateWeightsFromDistributedReqInput:
        name: str = ""
        dtype: str = ""
        shape: Any = None

    module: Any = SimpleNamespace(
        UpdateWeightsFromDistributedReqInput=UpdateWeightsFromDistributedReqInput
    )
    records.patch_records(module, "0.4.6.post5")
    update: Any = module.UpdateWeightsFromDistributedReqInput
    with pytest.raises(TypeError, match=r"needs SGLang 0.4.10.post2 or later.* one tensor"):
        update(names=["w"], dtypes=["bf16"], shapes=[[1]])
    assert update(name="w").name == "w"


def test_tags_are_dropped_where_all_memory_is_one() -> None:
    @dataclasses.dataclass
    class ResumeMemoryOccupationReqInput:
        pass

    module: Any = SimpleNamespace(ResumeMemoryOccupationReqInput=ResumeMemoryOccupationReqInput)
    records.patch_records(module, "0.4.6.post5")
    resume: Any = module.ResumeMemoryOccupationReqInput
    assert resume(tags=["weights"]) == resume()


def grpc_module() -> Any:
    """ServerArgs with the check of SGLang 0.5.12 to 0.5.15."""

    @dataclasses.dataclass
    class ServerArgs:
        port: int = 30000

        def __post_init__(self) -> None:
            self.grpc_port = int(os.environ.get("SGLANG_GRPC_PORT") or self.port + 10000)
            if not 1 <= self.grpc_port <= 65535:
                raise ValueError(f"SGLANG_GRPC_PORT ({self.grpc_port}) must be between 1 and 65535")

    return SimpleNamespace(ServerArgs=ServerArgs)


@pytest.mark.parametrize("release", ["0.5.12.post1", "0.5.13.post1", "0.5.15.post1"])
def test_an_engine_may_have_any_port(release: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SGLANG_GRPC_PORT", raising=False)
    module = grpc_module()
    records.patch_records(module, release)
    records.patch_records(module, release)
    ports = {
        port: module.ServerArgs(port=port).grpc_port for port in (1, 30000, 55535, 55536, 65535)
    }
    assert ports == {1: 10001, 30000: 40000, 55535: 65535, 55536: 45536, 65535: 55535}
    assert "SGLANG_GRPC_PORT" not in os.environ

    monkeypatch.setenv("SGLANG_GRPC_PORT", "50051")
    assert module.ServerArgs(port=60000).grpc_port == 50051
    assert os.environ["SGLANG_GRPC_PORT"] == "50051"
    monkeypatch.setenv("SGLANG_GRPC_PORT", "70000")  # the operator's own mistake is reported
    with pytest.raises(ValueError, match="must be between"):
        module.ServerArgs(port=60000)


@pytest.mark.parametrize("release", ["0.5.10.post1", "0.5.17"])
def test_where_the_variable_enables_grpc_it_is_not_set(
    release: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SGLANG_GRPC_PORT", raising=False)
    module = grpc_module()
    records.patch_records(module, release)
    with pytest.raises(ValueError, match="70000"):
        module.ServerArgs(port=60000)


#: Texts as SGLang logs them, and what to do with mem_fraction_static.
ERRORS = {
    "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static.": "RAISE",
    "Not enough memory. Please try to increase --mem-fraction-static. Current value: "
    "self.server_args.mem_fraction_static=0.3": "RAISE",
    "ValueError: Loaded weights leave no GPU memory for the KV cache under "
    "--mem-fraction-static=0.3": "RAISE",
    "Not enough GPU memory for hybrid (mamba/linear-attention) state cache.": "RAISE",
    "RuntimeError: Prefill out of memory. Try to lower your batch size.": "RAISE",
    "Decode out of memory. Try to lower your batch size.": "RAISE",
    "Out of memory. Try to lower your batch size.": "RAISE",
    "ValueError: Out of memory even after retracting all other requests in the decode "
    "batch.": "RAISE",
    "KV cache pool is full. Retract requests. #retracted_reqs: 1": "RAISE",
    "Decode out of memory happened. #retracted_reqs: 1": "RAISE",
    "KV pool holds 100 tokens, fewer than --context-length": "RAISE",
    "RuntimeError: alloc_req_slots runs out of memory.": "OTHER",
    "AssertionError: release_memory_occupation should be called only when server is idle.": "OTHER",
    "Exception: Capture CUDA graph failed: CUDA out of memory. Tried to allocate 2 GiB": "LOWER",
    "Capture cuda graph failed: x\n1. set --mem-fraction-static to a smaller value": "LOWER",
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB.": "LOWER",
    "[torch_memory_saver.cpp] CUresult error: 2 (out of memory)": "LOWER",
    "RuntimeError: TorchMemorySaver is disabled for the current process because "
    "expandable_segments is not supported yet.": "OTHER",
    "ValueError: The memory capacity is unbalanced. Some GPUs may be occupied": "OTHER",
    "RuntimeError: Rank 0 scheduler died during initialization (exit code: -9).": "OTHER",
    "Rank 0 scheduler is dead. Please check if there are relevant logs.": "OTHER",
    "enable_memory_saver is enabled, but torch-memory-saver is not installed.": "OTHER",
    "CRITICAL WARNING: PyTorch 2.9.1 & CuDNN Compatibility Issue Detected": "OTHER",
}


@pytest.mark.parametrize(("text", "action"), ERRORS.items(), ids=range(len(ERRORS)))
def test_diagnose(text: str, action: str) -> None:
    found = roll_runtime.diagnose(f"[2026-01-01 TP0] Scheduler hit an exception: …\n{text}\nmore")
    assert found is not None
    assert found.action is remedies.Action[action]
    assert found.cause
    assert found.remedy


def test_every_rule_is_reached() -> None:
    reached = {roll_runtime.diagnose(text) for text in ERRORS}
    assert reached == {found for _, found in remedies.RULES}


def test_fatal_error_comes_before_a_warning_above_it() -> None:
    log = "KV cache pool is full. Retract requests.\ntorch.OutOfMemoryError: CUDA out of memory."
    found = roll_runtime.diagnose(log)
    assert found is not None
    assert found.action is remedies.Action.LOWER


def test_unknown_text() -> None:
    assert roll_runtime.diagnose("everything is fine") is None


def test_remedy_is_appended_where_the_error_is_logged() -> None:
    logger = logging.getLogger(remedies.SCHEDULER_LOGGER)
    seen: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    handler = Handler()
    logger.addHandler(handler)
    try:
        remedies.install_filter()
        remedies.install_filter()
        logger.error("Scheduler hit an exception: torch.OutOfMemoryError: 100% of %s")
        logger.error("Scheduler hit an exception: ValueError: something else")
        logger.error("CUDA out of memory, in a record of another kind")
    finally:
        logger.removeHandler(handler)
        logger.filters.clear()
    assert seen[0].count("roll_runtime: ") == 1
    assert "Lower mem_fraction_static" in seen[0]
    assert seen[0].startswith("Scheduler hit an exception: torch.OutOfMemoryError: 100% of %s\n")
    assert seen[1] == "Scheduler hit an exception: ValueError: something else"
    assert "roll_runtime" not in seen[2]


def test_modules_do_not_hide_the_functions() -> None:
    for name in roll_runtime.__all__:
        if name != "__version__":
            assert callable(getattr(roll_runtime, name)), name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = roll_runtime.nothing
