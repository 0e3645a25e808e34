"""MiniLM (a 6-layer BERT) in PaddlePaddle, with random weights: the pretrained ones come by assignment."""

from __future__ import annotations

import math

import paddle
from paddle import Tensor, nn
from paddle.nn import functional as F

VOCABULARY = 30522
POSITIONS = 512
HIDDEN = 384
FEED_FORWARD = 1536
HEADS = 12
LAYERS = 6
EPSILON = 1e-12


class BertEmbeddings(nn.Layer):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(VOCABULARY, HIDDEN)
        self.position_embeddings = nn.Embedding(POSITIONS, HIDDEN)
        self.token_type_embeddings = nn.Embedding(2, HIDDEN)
        self.LayerNorm = nn.LayerNorm(HIDDEN, epsilon=EPSILON)
        self.dropout = nn.Dropout(dropout)

    def forward(self, input_ids: Tensor) -> Tensor:
        positions = paddle.arange(input_ids.shape[1], dtype="int64")
        words = self.word_embeddings(input_ids) + self.token_type_embeddings(paddle.zeros_like(input_ids))
        return self.dropout(self.LayerNorm(words + self.position_embeddings(positions)))


class BertSelfAttention(nn.Layer):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.query = nn.Linear(HIDDEN, HIDDEN)
        self.key = nn.Linear(HIDDEN, HIDDEN)
        self.value = nn.Linear(HIDDEN, HIDDEN)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        query, key, value = (self._split(part(hidden_states)) for part in (self.query, self.key, self.value))
        scores = paddle.matmul(query, key, transpose_y=True) / math.sqrt(HIDDEN // HEADS)
        weights = self.dropout(F.softmax(scores + attention_mask, axis=-1))
        return paddle.matmul(weights, value).transpose([0, 2, 1, 3]).flatten(2)

    def _split(self, x: Tensor) -> Tensor:
        """[batch, tokens, hidden] -> [batch, heads, tokens, hidden / heads]"""
        return x.reshape([0, 0, HEADS, HIDDEN // HEADS]).transpose([0, 2, 1, 3])


class BertResidual(nn.Layer):
    def __init__(self, size: int, dropout: float, epsilon: float = EPSILON) -> None:
        super().__init__()
        self.dense = nn.Linear(size, HIDDEN)
        self.LayerNorm = nn.LayerNorm(HIDDEN, epsilon=epsilon)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden_states: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(hidden_states)) + residual)


class BertAttention(nn.Layer):
    def __init__(self, dropout: float, epsilon: float) -> None:
        super().__init__()
        self.self = BertSelfAttention(dropout)
        self.output = BertResidual(HIDDEN, dropout, epsilon)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        return self.output(self.self(hidden_states, attention_mask), hidden_states)


class BertIntermediate(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(HIDDEN, FEED_FORWARD)
        self.intermediate_act_fn = nn.GELU()

    def forward(self, hidden_states: Tensor) -> Tensor:
        return self.intermediate_act_fn(self.dense(hidden_states))


class BertLayer(nn.Layer):
    def __init__(self, dropout: float, attention_epsilon: float) -> None:
        super().__init__()
        self.attention = BertAttention(dropout, attention_epsilon)
        self.intermediate = BertIntermediate()
        self.output = BertResidual(FEED_FORWARD, dropout)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        attended = self.attention(hidden_states, attention_mask)
        return self.output(self.intermediate(attended), attended)


class BertEncoder(nn.Layer):
    def __init__(self, dropout: float, plant: str) -> None:
        super().__init__()
        epsilons = [1e-3 if plant == "layernorm_eps" and at == 3 else EPSILON for at in range(LAYERS)]
        self.layer = nn.LayerList([BertLayer(dropout, epsilon) for epsilon in epsilons])

    def forward(self, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        for layer in self.layer:
            hidden_states = layer(hidden_states, attention_mask)
        return hidden_states


class BertModel(nn.Layer):
    """Token ids and their mask (1 for a token, 0 for padding), both int64 [batch, tokens], to a dict of two tensors."""

    def __init__(self, dropout: float, plant: str) -> None:
        super().__init__()
        self.embeddings = BertEmbeddings(dropout)
        self.encoder = BertEncoder(dropout, plant)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        embedded = self.embeddings(input_ids)
        mask = attention_mask.unsqueeze([1, 2])
        additive = paddle.where(
            mask == 0, paddle.full_like(mask, -math.inf, embedded.dtype), paddle.zeros_like(mask, embedded.dtype)
        )
        hidden = self.encoder(embedded, additive)
        tokens = attention_mask.unsqueeze(-1).astype(hidden.dtype)
        mean = (hidden * tokens).sum(1) / tokens.sum(1)
        return {"last_hidden_state": hidden, "sentence_embedding": F.normalize(mean, axis=-1)}


def build(dropout: float = 0.0, plant: str = "") -> BertModel:
    """Make the model with random weights.

    plant: "layernorm_eps" gives the LayerNorm after the attention of encoder layer 3 an epsilon of 1e-3 instead of 1e-12.
    """
    if plant not in ("", "layernorm_eps"):
        raise ValueError(f"plant is '' or 'layernorm_eps', got {plant!r}")
    return BertModel(dropout, plant)
