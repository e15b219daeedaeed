"""Remedies for SGLang's memory errors.

The scheduler process logs its traceback and dies; the text never reaches the process that started
the engine. So the remedy is appended where the error is logged (`RemedyFilter`), and
`diagnose` finds it in any log text afterwards.
"""

import logging
import re
from dataclasses import dataclass
from enum import Enum

from roll_runtime.marks import is_ours

SCHEDULER_LOGGER = "sglang.srt.managers.scheduler"
"""Logger of the scheduler process, and the record that carries its traceback."""

SCHEDULER_PREFIX = "Scheduler hit an exception:"


class Action(Enum):
    """What to do with `mem_fraction_static`."""

    RAISE = "raise mem_fraction_static"
    LOWER = "lower mem_fraction_static"
    OTHER = "leave mem_fraction_static"


@dataclass(frozen=True)
class Diagnosis:
    """What an error text means.

    Attributes:
        action: what to do with `mem_fraction_static`.
        cause: what happened.
        remedy: what to change, in ROLL's `strategy_config`.
    """

    action: Action
    cause: str
    remedy: str

    def __str__(self) -> str:
        return f"roll_runtime: {self.cause} {self.remedy}"


_RAISE = (
    "Raise mem_fraction_static in strategy_config (for example 0.7 -> 0.8), or free GPU memory "
    "before the engine starts: the fraction is of what is free at that moment. A smaller "
    "context_length or more GPUs per worker (num_gpus_per_worker) help as well."
)
_LOWER = (
    "Lower mem_fraction_static in strategy_config (for example 0.7 -> 0.6), so that more is left "
    "for activations and CUDA graphs; or lower max_running_requests and chunked_prefill_size. "
    "In a colocated job, check that the trainer has released its memory."
)

# In order: a graph capture that fails wraps torch's out-of-memory error, and SGLang's own texts
# are more precise than torch's, so the general rules follow; what is not fatal comes last.
RULES: tuple[tuple[str, Diagnosis], ...] = (
    (
        r"Capture cuda graph failed",
        Diagnosis(
            Action.LOWER,
            "CUDA graphs did not fit beside the weights and the KV cache.",
            _LOWER + " A smaller cuda_graph_max_bs (cuda_graph_max_bs_decode from SGLang 0.5.15) "
            "captures fewer graphs.",
        ),
    ),
    (
        r"Not enough memory\. Please try to increase --mem-fraction-static",
        Diagnosis(Action.RAISE, "The weights left no room for the KV cache.", _RAISE),
    ),
    (
        r"Loaded weights leave no GPU memory for the KV cache",
        Diagnosis(Action.RAISE, "The weights left no room for the KV cache.", _RAISE),
    ),
    (
        r"Not enough GPU memory for hybrid",
        Diagnosis(
            Action.RAISE,
            "The state cache of a hybrid (mamba, linear attention) model did not fit.",
            _RAISE + " Fewer max_running_requests need less state.",
        ),
    ),
    (
        r"alloc_req_slots runs out of memory",
        Diagnosis(
            Action.OTHER,
            "More requests ran at once than the engine has slots for.",
            "Lower max_running_requests in strategy_config.",
        ),
    ),
    (
        r"Out of memory even after retracting all other requests",
        Diagnosis(Action.RAISE, "One request alone does not fit the KV cache.", _RAISE),
    ),
    (
        r"(?:Prefill out|Decode out|Out) of memory\. Try to lower your batch size",
        Diagnosis(Action.RAISE, "The KV cache is too small for the running requests.", _RAISE),
    ),
    (
        r"TorchMemorySaver is disabled for the current process because expandable_segments",
        Diagnosis(
            Action.OTHER,
            "PYTORCH_CUDA_ALLOC_CONF or PYTORCH_ALLOC_CONF holds expandable_segments:True.",
            "roll_runtime removes both at engine start: check with `python -m roll_runtime doctor` "
            "that it is loaded, and that ROLL_RUNTIME_SET_PYTORCH_CUDA_ALLOC_CONF is not set.",
        ),
    ),
    (
        r"enable_memory_saver is enabled, but torch-memory-saver is not installed",
        Diagnosis(
            Action.OTHER,
            "ROLL turns enable_memory_saver on; SGLang up to 0.5.2 does not install what it needs.",
            "Install torch-memory-saver, or set enable_memory_saver: false in strategy_config.",
        ),
    ),
    (
        r"\[torch_memory_saver\.cpp\] CUresult error",
        Diagnosis(
            Action.LOWER,
            "The engine's memory could not be taken back: another process uses it.",
            _LOWER,
        ),
    ),
    (
        r"release_memory_occupation should be called only when",
        Diagnosis(
            Action.OTHER,
            "The memory was released while requests were running.",
            "Abort the running requests and wait for their results before offload_states.",
        ),
    ),
    (
        r"The memory capacity is unbalanced",
        Diagnosis(
            Action.OTHER,
            "One GPU of this engine has much less free memory than the others.",
            "Find the process that uses it (nvidia-smi) and check that device_mapping assigns no "
            "GPU to two engines. SGL_DISABLE_TP_MEMORY_INBALANCE_CHECK=1 (up to SGLang 0.5.6) or "
            "SGLANG_ENABLE_TP_MEMORY_INBALANCE_CHECK=0 (from 0.5.7) turns the check off.",
        ),
    ),
    (
        r"(?:torch\.OutOfMemoryError|OutOfMemoryError|CUDA out of memory)",
        Diagnosis(Action.LOWER, "A GPU ran out of memory outside the static pool.", _LOWER),
    ),
    (
        r"PyTorch 2\.9\.1 & CuDNN Compatibility Issue",
        Diagnosis(
            Action.OTHER,
            "This torch needs cuDNN 9.15 or later for multimodal models.",
            "Use an image with a newer nvidia-cudnn, or set SGLANG_DISABLE_CUDNN_CHECK=1.",
        ),
    ),
    (
        r"scheduler is dead\. Please check|scheduler died during initialization",
        Diagnosis(
            Action.OTHER,
            "A scheduler process ended before it was ready.",
            f"Its own log holds the cause: look above for `{SCHEDULER_PREFIX}`. Exit code -9 with "
            "no traceback is the host's out-of-memory killer.",
        ),
    ),
    (
        r"KV cache pool is full\. Retract requests|Decode out of memory happened"
        r"|KV pool holds \d+ tokens, fewer than --context-length",
        Diagnosis(
            Action.RAISE,
            "The KV cache is full, so requests are set back and computed again (slow, not fatal).",
            _RAISE,
        ),
    ),
)
_COMPILED = tuple((re.compile(pattern, re.IGNORECASE), found) for pattern, found in RULES)


def diagnose(text: str) -> Diagnosis | None:
    """Return what a log or traceback means and what helps, or `None` when nothing is known.

    Args:
        text: any text, for example the whole log of a worker.
    """
    return next((found for pattern, found in _COMPILED if pattern.search(text)), None)


class RemedyFilter(logging.Filter):
    """Appends the remedy to the scheduler's own error record."""

    __roll_runtime__ = True

    def filter(self, record: logging.LogRecord) -> bool:
        """Pass every record, with the remedy where there is one."""
        message = str(record.msg)
        if message.startswith(SCHEDULER_PREFIX):
            found = diagnose(record.getMessage())
            if found is not None:
                record.msg, record.args = f"{record.getMessage()}\n{found}", None
        return True


def install_filter() -> None:
    """Install the filter on the scheduler's logger, once."""
    logger = logging.getLogger(SCHEDULER_LOGGER)
    if not any(map(is_ours, logger.filters)):
        logger.addFilter(RemedyFilter())
