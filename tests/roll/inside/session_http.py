"""ROLL's HTTP mode (`grpc_mode: false`): the engine is a server in a process of the actor."""

from __future__ import annotations

import kit_processes
from kit_cluster import Infer
from kit_reference import Reference
from kit_settings import prepare
from kit_start import check_imports, start_ray
from kit_steps import Steps, leave

from roll_runtime import smoke_model


class Session:
    """An engine behind HTTP, with the checkpoint's weights from its start.

    Args:
        infer: the cluster.
        reference: what a CPU computes of the same weights.
    """

    def __init__(self, infer: Infer, reference: Reference) -> None:
        self._infer, self._reference = infer, reference

    def answer(self) -> str:
        """`/generate` at the address that the worker gives."""
        import httpx
        from kit_cluster import get

        url = get(self._infer.worker.get_url.remote())
        body = {**self._infer.request("http"), "stream": False}
        reply = httpx.post(f"{url}/generate", json=body, timeout=120).raise_for_status().json()
        logprobs = [item[0] for item in reply["meta_info"]["output_token_logprobs"]]
        found = self._reference.compare(smoke_model.PROMPT, reply["output_ids"], logprobs)
        assert found.close, f"the server has other weights: {found}"
        return f"{reply['output_ids']}: {found}"


def main() -> int:
    """Run the session and return the exit code."""
    where = prepare("http")
    steps = Steps(where.out)
    steps.run("http_modules_are_imported", check_imports, limit=240, vital=True)
    steps.run("http_ray_starts", start_ray, limit=240, vital=True)
    if not steps.stopped:
        infer = Infer(where, grpc_mode=False, load_format="auto")
        session = Session(infer, Reference(where.model))
        infer.config.actor_train.device_mapping = None  # not colocated: nothing is released
        infer.config.reference.device_mapping = None
        steps.run("http_cluster_is_made", infer.make, limit=180, vital=True)
        # ROLL asks for the server's health for ever, even when it has ended.
        steps.run("http_server_starts", infer.start, limit=300, vital=True)
        steps.run("http_server_answers", session.answer)
        steps.run("http_actor_ends", infer.close, watched=False)
    steps.run("http_leaves_no_process", kit_processes.need_no_engine, always=True, watched=False)
    steps.run("http_ray_stops", kit_processes.stop_ray, always=True, watched=False)
    return int(steps.failed > 0)


if __name__ == "__main__":
    leave(main())
