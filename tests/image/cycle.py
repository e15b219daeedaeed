"""ROLL's calls to an engine, in ROLL's order: a script that runs inside the image.

    python cycle.py cpu|cuda PHASE...      each phase is a function below; they run as given

The engine is started and called as ROLL's strategy does (``roll/distributed/strategy/
sglang_strategy.py`` at 8eb27cc2): off the main thread, in one event loop, through the tokenizer
manager. On a CPU nothing is seen of what a release gives back; which tags are released, and what of
that stops the scheduler, is bookkeeping that SGLang does in Python on every device.

The last line of output is JSON: what each step gave. A scheduler's death is this process's death.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

TIMEOUT = 120.0
#: What one release needs besides to run on a CPU, by its version.
ALSO_ON_A_CPU: dict[str, dict[str, Any]] = {
    "0.5.10.post1": {"disable_piecewise_cuda_graph": True},
    "0.5.12.post1": {"disable_piecewise_cuda_graph": True},
    "0.5.13.post1": {"disable_piecewise_cuda_graph": True},
}
TAGS = ["weights", "kv_cache", "cuda_graph"]  # all that ROLL resumes after a release

FLUSHES, PROMPTS = 20, 16


def engine_arguments(model: Path, device: str) -> dict[str, Any]:
    """What ROLL passes, and what makes SGLang run on a device without nvcc."""
    return {
        "model_path": str(model),
        "load_format": "dummy",
        "dtype": "bfloat16",
        "random_seed": 42,
        "skip_tokenizer_init": True,
        "trust_remote_code": True,
        "mem_fraction_static": 0.3,
        "tp_size": 1,
        "nnodes": 1,
        "node_rank": 0,
        "port": free_port(),
        "log_level": "info",
        "disable_custom_all_reduce": True,
        "enable_return_routed_experts": False,
        "sampling_backend": "pytorch",
        "disable_cuda_graph": True,
        "max_total_tokens": 8192,
        "max_running_requests": 4,
        **(on_a_cpu() if device == "cpu" else {"attention_backend": "triton"}),
        # torch_memory_saver replaces CUDA's allocator and has nothing to do without CUDA: with
        # False, SGLang calls the adapter that does nothing, and all else is the same.
        "enable_memory_saver": device == "cuda",
    }


def on_a_cpu() -> dict[str, Any]:
    """What makes this SGLang run on a CPU."""
    from roll_runtime import dispatch

    also = ALSO_ON_A_CPU.get(dispatch.sglang_version(), {})
    return {"device": "cpu", "attention_backend": "torch_native", **also}


def free_port() -> int:
    """Return a port above 55535, as the kernel may give ROLL: see `roll_runtime.grpc_port`."""
    for port in range(60999, 55535, -1):
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")


class Worker:
    """The calls of ROLL's strategy, each by its name there."""

    def __init__(self, model: Path, device: str) -> None:
        from safetensors.torch import load_file
        from sglang.srt.entrypoints.engine import Engine
        from sglang.srt.managers import io_struct

        self.records: Any = io_struct
        self.weights: dict[str, Any] = load_file(str(model / "model.safetensors"))
        self.model, self.device = model, device
        self.engine: Any = Engine(**engine_arguments(model, device))
        self.manager: Any = self.engine.tokenizer_manager
        self.manager.auto_create_handle_loop()
        self.seen: dict[str, Any] = {}

    async def offload_states(self) -> None:
        request = self.records.ReleaseMemoryOccupationReqInput()
        await self.within(self.manager.release_memory_occupation(request, None))

    async def resume(self, tags: list[str]) -> None:
        request = self.records.ResumeMemoryOccupationReqInput(tags=tags)
        await self.within(self.manager.resume_memory_occupation(request))

    async def load_states(self, tags: list[str]) -> None:
        await self.within(self.manager.flush_cache())
        if tags:
            await self.resume(tags)

    async def update_parameter_in_bucket(self, other: bool = False) -> None:
        """One bucket of all weights, as ROLL's trainer serialises it."""
        import torch
        from sglang.srt.utils import MultiprocessingSerializer
        from sglang.srt.weight_sync.tensor_bucket import FlattenedTensorBucket

        # Trainer and engine are no family, so file descriptors cannot be handed over.
        torch.multiprocessing.set_sharing_strategy("file_system")
        bucket = FlattenedTensorBucket(self.named(other))
        data = {
            "flattened_tensor": bucket.get_flattened_tensor().to(self.device),
            "metadata": bucket.get_metadata(),
        }
        request = self.records.UpdateWeightsFromTensorReqInput(
            serialized_named_tensors=[MultiprocessingSerializer.serialize(data, output_str=True)],
            load_format="flattened_bucket",
            flush_cache=False,
        )
        done = await self.within(self.manager.update_weights_from_tensor(request, None))
        assert done[0], done

    async def broadcast_parameter(self) -> None:
        """setup_collective_group and one broadcast from a trainer, over gloo."""
        port = free_port()
        names = list(self.weights)
        context = multiprocessing.get_context("spawn")
        arrived = context.Event()
        trainer = context.Process(target=send, args=(str(self.model), self.device, port, arrived))
        trainer.start()
        joined = self.records.InitWeightsUpdateGroupReqInput(
            master_address="127.0.0.1",
            master_port=port,
            rank_offset=1,
            world_size=2,
            group_name="cycle",
            backend="gloo",
        )
        done = await self.within(self.manager.init_weights_update_group(joined, None))
        assert done[0], done
        request = self.records.UpdateWeightsFromDistributedReqInput(
            names=names,
            dtypes=[value.dtype for value in self.weights.values()],
            shapes=[list(value.shape) for value in self.weights.values()],
            group_name="cycle",
            flush_cache=False,
        )
        done = await self.within(self.manager.update_weights_from_distributed(request, None))
        assert done[0], done
        arrived.set()
        trainer.join(TIMEOUT)
        assert trainer.exitcode == 0, trainer.exitcode

    async def generate(self, **changes: Any) -> dict[str, Any]:
        from roll_runtime import smoke_model

        sampling = {"max_new_tokens": len(smoke_model.TOKENS), "temperature": 0.0, **changes}
        request = self.records.GenerateReqInput(
            input_ids=list(smoke_model.PROMPT),
            sampling_params=sampling,
            rid="cycle",
            return_logprob=True,
            return_routed_experts=False,
            image_data=None,
            video_data=None,
        )
        answer: dict[str, Any] = {}
        async for chunk in self.manager.generate_request(request, None):
            answer = chunk
        return answer

    async def several(self, prompt: list[int]) -> list[int]:
        """Two answers to a prompt, as ROLL asks for num_return_sequences; how long each is."""
        request = self.records.GenerateReqInput(
            input_ids=prompt,
            sampling_params={"max_new_tokens": 8, "temperature": 0.99, "ignore_eos": True, "n": 2},
            return_logprob=True,
        )
        answers: dict[int, Any] = {}
        async for chunk in self.manager.generate_request(request, None):
            for answer in chunk if isinstance(chunk, list) else [chunk]:
                answers[answer.get("index", len(answers))] = answer
        return [len(answer["meta_info"]["output_token_logprobs"]) for answer in answers.values()]

    async def tokens(self) -> list[int]:
        answer = await self.within(self.generate())
        return list(answer["output_ids"])

    def named(self, other: bool) -> list[tuple[str, Any]]:
        """The checkpoint's weights, or others that give other tokens."""
        pairs = self.weights.items()
        return [(name, value.flip(0).contiguous() if other else value) for name, value in pairs]

    async def within(self, awaitable: Any) -> Any:
        return await asyncio.wait_for(awaitable, TIMEOUT)


def send(model: str, device: str, port: int, arrived: Any) -> None:
    """A trainer that broadcasts its weights to the engine: by gloo, since NCCL needs two GPUs."""
    import torch
    from safetensors.torch import load_file
    from sglang.srt.utils import init_custom_process_group

    group = init_custom_process_group(
        backend="gloo",
        init_method=f"tcp://127.0.0.1:{port}",
        world_size=2,
        rank=0,
        group_name="cycle",
    )
    for value in load_file(f"{model}/model.safetensors").values():
        torch.distributed.broadcast(value.to(device), src=0, group=group)
    arrived.wait(TIMEOUT)
    os._exit(0)  # gloo's threads, which nobody joins, would abort the interpreter's end at times


async def colocated(worker: Worker) -> None:
    """Two steps of a colocated job; weights arrive after the first load, before the second."""
    await worker.offload_states()  # InferWorker.initialize does
    await worker.load_states(TAGS)
    await worker.update_parameter_in_bucket()
    await worker.load_states([])
    worker.seen["first step"] = await worker.tokens()
    await worker.offload_states()
    await worker.resume(["weights"])  # _reload_model, before the first bucket
    await worker.update_parameter_in_bucket()
    await worker.load_states(TAGS[1:])
    worker.seen["second step"] = await worker.tokens()


async def stopped_between(worker: Worker) -> None:
    """Released again when the weights alone were back: ROLL's is_model_in_gpu allows it."""
    await worker.offload_states()
    await worker.resume(["weights"])
    await worker.offload_states()
    await worker.load_states(TAGS)
    await worker.update_parameter_in_bucket()
    worker.seen["released twice"] = await worker.tokens()


async def never_released(worker: Worker) -> None:
    """All is resumed that is not released, then all once more by no tags."""
    await worker.resume(TAGS)
    await worker.resume([])
    await worker.update_parameter_in_bucket()
    await worker.load_states([])
    worker.seen["never released"] = await worker.tokens()


async def broadcast(worker: Worker) -> None:
    """Weights arrive by a collective group, as from a trainer on other GPUs."""
    await worker.update_parameter_in_bucket(other=True)
    await worker.broadcast_parameter()
    await worker.load_states([])
    worker.seen["broadcast"] = await worker.tokens()


async def dummy_generation(worker: Worker) -> None:
    """An engine with dummy weights generates before its first update; first phase only."""
    worker.seen["dummy"] = await worker.tokens()
    await worker.update_parameter_in_bucket()
    worker.seen["after dummy"] = await worker.tokens()
    await worker.load_states([])
    worker.seen["dummy flushed"] = await worker.tokens()


async def prefix_cache(worker: Worker) -> None:
    """What an update without a flush leaves: the prompt's keys and values of the weights before."""
    await worker.load_states([])
    await worker.update_parameter_in_bucket(other=True)
    worker.seen["other weights"] = await worker.tokens()
    await worker.update_parameter_in_bucket()
    answer = await worker.within(worker.generate())
    worker.seen["not flushed"] = list(answer["output_ids"])
    worker.seen["reused"] = answer["meta_info"]["cached_tokens"]
    await worker.load_states([])
    worker.seen["flushed"] = await worker.tokens()


async def straight_after(worker: Worker) -> None:
    """Flushed as soon as the last token is there, again and again: each flush must happen."""
    await worker.load_states([])
    worker.seen["straight after"] = []
    for _ in range(FLUSHES):
        await worker.tokens()
        done = await worker.within(worker.manager.flush_cache())
        worker.seen["straight after"].append(bool(done.success))


async def several_answers(worker: Worker) -> None:
    """More prompts than run at once: SGLang computes some alone, beside others' answers."""
    await worker.load_states([])
    prompts = [[11 + number, 7, 5, 3] for number in range(PROMPTS)]
    asked = asyncio.gather(*(worker.several(prompt) for prompt in prompts))
    worker.seen["several answers"] = await worker.within(asked)


async def abort(worker: Worker) -> None:
    running = asyncio.ensure_future(worker.generate(max_new_tokens=8000, ignore_eos=True))
    await asyncio.sleep(2)
    worker.manager.abort_request("cycle")
    answer = await worker.within(running)
    worker.seen["abort"] = answer["meta_info"]["finish_reason"]["type"]


PHASES: dict[str, Callable[[Worker], Any]] = {
    phase.__name__: phase
    for phase in (
        dummy_generation,
        colocated,
        stopped_between,
        never_released,
        broadcast,
        prefix_cache,
        straight_after,
        several_answers,
        abort,
    )
}


async def cycle(device: str, names: list[str]) -> dict[str, Any]:
    """Start an engine on a device and run the phases of these names; return what they saw."""
    from roll_runtime import smoke_model

    with tempfile.TemporaryDirectory() as folder:
        smoke_model.write(Path(folder))
        worker = Worker(Path(folder), device)
        for name in names:
            print(f"--- {name}", file=sys.stderr, flush=True)
            await PHASES[name](worker)
        worker.engine.shutdown()
        return worker.seen


def main() -> None:
    seen: dict[str, Any] = {}
    # A Ray async actor's event loop is not in the main thread.
    device, *names = sys.argv[1:]
    thread = threading.Thread(target=lambda: seen.update(asyncio.run(cycle(device, names))))
    thread.start()
    thread.join()
    if not seen:
        sys.exit("the calls ended early: the cause is above")
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
