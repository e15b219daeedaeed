"""What a CPU computes of the same weights, by transformers in float32: the engine's measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOLERANCE = 0.1
"""In natural logarithms of probabilities: bf16 rounds the tiny model's by less than half of it."""


@dataclass(frozen=True)
class Comparison:
    """How an engine's answer stands to a CPU's.

    Attributes:
        gap: by how much the CPU holds another token for more probable, at worst; 0 where all
            tokens are the CPU's own.
        error: the largest difference of a token's logarithmic probability.
        same: whether all tokens are the CPU's own.
    """

    gap: float
    error: float
    same: bool

    @property
    def close(self) -> bool:
        """Whether both computed the same weights, within rounding."""
        return self.gap <= TOLERANCE and self.error <= TOLERANCE

    def __str__(self) -> str:
        words = "the CPU's tokens" if self.same else f"gap {self.gap:.3f}"
        return f"{words}, log probabilities within {self.error:.4f}"


class Reference:
    """The model in a folder, on the CPU.

    Args:
        folder: a checkpoint.
        weights: other weights to put in its place, by name.
    """

    def __init__(self, folder: Path, weights: Mapping[str, Any] | None = None) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self._model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32)
        if weights is not None:
            floats = {name: value.float() for name, value in weights.items()}
            self._model.load_state_dict(floats, strict=False)
            self._model.tie_weights()
        self._model.eval()

    def compare(
        self, prompt: Sequence[int], tokens: Sequence[int], logprobs: Sequence[float]
    ) -> Comparison:
        """Compare a greedy answer with what this model says, token by token."""
        import torch

        with torch.no_grad():
            logits = self._model(torch.tensor([[*prompt, *tokens]])).logits[0]
        table = logits[len(prompt) - 1 : -1].log_softmax(-1)
        own = table[torch.arange(len(tokens)), torch.tensor(list(tokens))]
        best = table.max(-1)
        return Comparison(
            gap=float((best.values - own).max()),
            error=float((own - torch.tensor(list(logprobs))).abs().max()),
            same=best.indices.tolist() == list(tokens),
        )


def read_weights(folder: Path) -> dict[str, Any]:
    """The tensors of a checkpoint."""
    from safetensors.torch import load_file

    found: dict[str, Any] = {}
    for file in sorted(folder.glob("*.safetensors")):
        found.update(load_file(file))
    return found


def other_weights(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Weights of the same size that answer otherwise: each matrix turned by one row."""
    return {
        name: value.roll(1, 0).contiguous() if value.dim() > 1 else value
        for name, value in weights.items()
    }
