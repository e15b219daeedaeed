"""A tiny model, its tokenizer and a data set with ROLL's columns, made on the spot.

The tokenizer's words are `w4` to `w1023`, so a prompt is written as words. What the model writes
reads as the number 1 or 2, each after an empty line, as ROLL's rule for mathematics looks for an
answer behind the last one: a rollout's reward is 1 when its last token is even. An untrained model
is right about half of the time, and there is something to learn.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from roll_runtime import smoke_model

TAG = "tiny"
PROMPTS = 32
PROMPT_WORDS = 8
SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")


def write_model(folder: Path) -> Path:
    """Write the model and its tokenizer; gives the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    smoke_model.write(folder)
    _write_tokenizer(folder)
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "do_sample": False}
    (folder / "generation_config.json").write_text(json.dumps(ends))
    return folder


def _write_tokenizer(folder: Path) -> None:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    size = smoke_model.MODEL["vocab_size"]
    words = [*SPECIAL, *(f"w{index}" for index in range(len(SPECIAL), size))]
    numbers = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(Regex(r"^w\d*[02468]$"), "\n\n1 "),
            decoders.Replace(Regex(r"^w\d*[13579]$"), "\n\n2 "),
            decoders.Fuse(),
        ]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        model_max_length=smoke_model.MODEL["max_position_embeddings"],
    )
    fast.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    fast.save_pretrained(folder)


def write_data(file: Path) -> Path:
    """Write prompts of random words, a JSON object a line, with the columns of ROLL's own data."""
    chance = random.Random(0)
    lines = []
    for index in range(PROMPTS):
        words = [f"w{chance.randrange(len(SPECIAL), 1024)}" for _ in range(PROMPT_WORDS)]
        text = " ".join(words)
        row = {
            "id": str(index),
            "source": TAG,
            "difficulty": "1",
            "prompt": text,
            "messages": json.dumps([{"role": "user", "content": text}]),
            "ground_truth": "1",
            "case_type": "",
            "test_case_function": "",
            "test_cases": "",
            "tag": TAG,
        }
        lines.append(json.dumps(row))
    file.write_text("\n".join(lines) + "\n")
    return file
