"""Requests for several answers to one prompt, many of them at once.

For n answers SGLang's tokenizer manager first sends a request for no new token, whose only purpose
is that the prompt's keys and values are cached. ROLL asks for n answers by default
(`is_num_return_sequences_expand: false`). SGLang has two faults with batches of such requests, by
which an engine ends or stops:

- From 0.5.2 until 0.5.10 (`RANGE`) such a batch never joins the running one, so with overlap its
  requests are not counted while they are in flight. When as many come as may run, slots are
  allocated that are not free, or no batch is planned any more.
- From 0.5.4 until 0.5.7 (`UNCOUNTED`), in a batch with others, such a request has a log probability
  of its prompt where none is expected, and an assertion of their number ends the scheduler
  (upstream's pull request 15922).

Here these batches are ordinary ones, and such a request has the one log probability that every
request has in 0.5.2. The manager drops the answers to its own; a client that asks for no new token
by itself gets that one.

Where SGLang itself needs batches apart, they are left so: embeddings, which have nothing to decode
(from 0.5.7 on with overlap as well), and scores of several items in one prompt, of which the logits
of the delimiters alone are computed.
"""

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

from roll_runtime import versions
from roll_runtime.marks import is_ours, mark

RANGE = ("0.5.2", "0.5.10")
"""The releases with the first fault: from, until."""

UNCOUNTED = ("0.5.4", "0.5.7")
"""Those of them with the second."""

BATCH = "ScheduleBatch"
METHOD = "prepare_for_extend"
FLAG = "is_prefill_only"
MODEL, GENERATES = "model_config", "is_generation"
"""The batch's attribute, and its own, by which a model generates tokens."""

SETTINGS, DELIMITER = "get_global_server_args", "multi_item_scoring_delimiter"
"""What the scheduler's module imports where there are scores of several items (from 0.5.4 on), and
the setting that turns them on."""


def patch_batches(module: ModuleType, version: str) -> None:
    """Wrap the preparation of a batch of prompts; idempotent.

    Args:
        module: `sglang.srt.managers.scheduler`, executed: it imports the class.
        version: SGLang's version.
    """
    if not versions.in_range(version, *RANGE):
        return
    batch = vars(module).get(BATCH)
    upstream = getattr(batch, METHOD, None)
    if callable(upstream) and not is_ours(upstream):
        uncounted = versions.in_range(version, *UNCOUNTED)
        settings = vars(module).get(SETTINGS)
        setattr(batch, METHOD, _as_any_other(upstream, uncounted, settings))


def _as_any_other(
    upstream: Callable[..., Any], uncounted: bool, settings: Callable[[], Any] | None
) -> Callable[..., Any]:
    @functools.wraps(upstream)
    def prepare_for_extend(self: Any, *arguments: Any, **named: Any) -> Any:
        if _generates(self, settings):
            setattr(self, FLAG, False)
            for request in self.reqs if uncounted else ():
                if request.sampling_params.max_new_tokens == 0:
                    _count_one(request)
        return upstream(self, *arguments, **named)

    return mark(prepare_for_extend)


def _generates(batch: Any, settings: Callable[[], Any] | None) -> bool:
    """Return whether nothing in SGLang needs the flag of this engine's batches."""
    if not getattr(getattr(batch, MODEL), GENERATES):
        return False
    return settings is None or getattr(settings(), DELIMITER) is None


def _count_one(request: Any) -> None:
    """Have the log probability of a prompt's last token counted, where none is."""
    length = len(request.origin_input_ids)
    if request.logprob_start_len == length:
        request.logprob_start_len = length - 1
