"""Two faults for each pair of the zoo, planted on raw's side, and the layers of base that may rightly be named for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Fault:
    """A fault.

    Attributes:
        pair: is the name of the pair that gets it.
        what: says what is wrong.
        plant: is what `planted.plant` is given.
        wanted: are base's routes that may be named. There are several where raw's layer at fault has no partner, and base has
            several layers around the code that corresponds.
    """

    pair: str
    what: str
    plant: Mapping[str, Any]
    wanted: tuple[str, ...]

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"{self.pair}-{self.plant['kind']}-{self.plant['at'] or 'root'}"


def _fault(pair: str, what: str, kind: str, at: str, *wanted: str, **arguments: Any) -> Fault:
    return Fault(pair, what, {"kind": kind, "at": at, **arguments}, wanted)


_LAYER = "down_blocks.0.attentions.0.transformer_blocks.0"
_ALBERT = "encoder.albert_layer_groups.0.albert_layers.0"

FAULTS = (
    _fault(
        "bert",
        "ReLU for GELU",
        "relu",
        "encoder.layers.0.activation",
        "encoder.layer.0",
        "encoder.layer.0.intermediate",
        "encoder.layer.0.intermediate.intermediate_act_fn",
    ),
    _fault(
        "bert",
        "LayerNorm epsilon 1e-5 for 1e-12",
        "attribute",
        "embeddings.layer_norm",
        "embeddings.LayerNorm",
        name="_epsilon",
        value=1e-5,
    ),
    _fault(
        "roberta",
        "position ids one too high",
        "shifted_ids",
        "embeddings.position_embeddings",
        "embeddings.position_embeddings",
    ),
    _fault(
        "roberta",
        "a branch is detached",
        "detached",
        "encoder.layers.1.linear1",
        "encoder.layer.1.intermediate.dense",
    ),
    _fault(
        "distilbert",
        "the last key is masked",
        "hidden_key",
        "encoder.layers.0.self_attn",
        "transformer.layer.0.attention",
    ),
    _fault(
        "distilbert",
        "heads in another order",
        "swapped_heads",
        "encoder.layers.1.self_attn.out_proj",
        "transformer.layer.1.attention.out_lin",
    ),
    _fault(
        "opt",
        "position offset 3 for 2",
        "attribute",
        "embeddings.position_embeddings",
        "decoder.embed_positions",
        name="offset",
        value=3,
    ),
    _fault(
        "opt",
        "causal mask off by one",
        "shifted_mask",
        "decoder.layers.1.self_attn",
        "decoder.layers.1.self_attn",
    ),
    _fault(
        "gpt2",
        "k and v swapped",
        "exchanged",
        "decoder.layers.0.self_attn.k_proj",
        "h.0.attn",
        "h.0.attn.c_attn",
        other="decoder.layers.0.self_attn.v_proj",
    ),
    _fault("gpt2", "ReLU for GELU", "relu", "decoder.layers.1.activation", "h.1", "h.1.mlp", "h.1.mlp.act"),
    _fault(
        "bloom",
        "ALiBi slopes in reverse order",
        "reversed_heads",
        "h.0.self_attention",
        "h.0.self_attention",
        argument=2,
        heads=4,
    ),
    _fault(
        "bloom",
        "packed [q, v, k] of each head",
        "swapped_parts",
        "h.1.self_attention.query_key_value",
        "h.1.self_attention.query_key_value",
        groups=4,
        order=[0, 2, 1],
    ),
    _fault(
        "t5",
        "4 buckets of relative positions for 8",
        "attribute",
        "encoder.block.0.layer.0.SelfAttention",
        "encoder.block.0.layer.0.SelfAttention",
        name="relative_attention_num_buckets",
        value=4,
    ),
    _fault(
        "t5",
        "a branch is detached",
        "detached",
        "decoder.block.0.layer.1.EncDecAttention.v",
        "decoder.block.0.layer.1.EncDecAttention.v",
    ),
    _fault(
        "bart",
        "a scale of 0.5",
        "scaled",
        "decoder.decoder.layers.0.cross_attn",
        "decoder.layers.0.encoder_attn",
        factor=0.5,
    ),
    _fault(
        "bart",
        "ReLU for GELU",
        "relu",
        "encoder.encoder.layers.1.activation",
        "encoder.layers.1",
        "encoder.layers.1.activation_fn",
    ),
    _fault(
        "xlnet",
        "the scale of attention is dropped",
        "attribute",
        "layer.0.rel_attn",
        "layer.0.rel_attn",
        name="scale",
        value=1.0,
    ),
    _fault("xlnet", "ReLU for GELU", "relu", "layer.1.ff.activation_function", "layer.1.ff.activation_function"),
    _fault(
        "roformer",
        "rotated in the other direction",
        "buffer",
        "encoder.layers.0.self_attn.rotary",
        "encoder.layer.0",
        "encoder.layer.0.attention",
        "encoder.layer.0.attention.self",
        name="sin",
        factor=-1.0,
    ),
    _fault(
        "roformer",
        "LayerNorm epsilon 0.1 for 1e-12",
        "attribute",
        "encoder.layers.1.norm2",
        "encoder.layer.1.output.LayerNorm",
        name="_epsilon",
        value=0.1,
    ),
    _fault("ctrl", "position ids one too high", "shifted_ids", "pos_encoding", ""),
    _fault(
        "ctrl",
        "causal mask off by one",
        "shifted_mask",
        "h.1.multi_head_attention",
        "h.1.multi_head_attention",
    ),
    _fault(
        "clip_text",
        "ReLU for QuickGELU",
        "relu",
        "text_model.transformer.layers.0.activation",
        "text_model.encoder.layers.0",
        "text_model.encoder.layers.0.mlp",
        "text_model.encoder.layers.0.mlp.activation_fn",
    ),
    _fault(
        "clip_text",
        "causal mask off by one",
        "shifted_mask",
        "text_model.transformer.layers.1.self_attn",
        "text_model.encoder.layers.1.self_attn",
    ),
    _fault(
        "clip_vision",
        "LayerNorm epsilon 0.1 for 1e-5",
        "attribute",
        "vision_model.ln_pre",
        "vision_model.pre_layrnorm",
        name="_epsilon",
        value=0.1,
    ),
    _fault(
        "clip_vision",
        "height and width exchanged",
        "transposed",
        "vision_model.conv1",
        "vision_model.embeddings.patch_embedding",
    ),
    _fault(
        "albert",
        "heads in another order",
        "swapped_heads",
        f"{_ALBERT}.attention.dense",
        f"{_ALBERT}.attention.dense",
    ),
    _fault("albert", "ReLU for GELU", "relu", f"{_ALBERT}.activation", f"{_ALBERT}.activation"),
    _fault(
        "sd_unet",
        "GroupNorm epsilon 0.1 for 1e-5",
        "attribute",
        "down_blocks.0.resnets.0.norm1",
        "down_blocks.0.resnets.0.norm1",
        name="_epsilon",
        value=0.1,
    ),
    _fault(
        "sd_unet",
        "packed [gate, value] for [value, gate]",
        "swapped_parts",
        f"{_LAYER}.ff.net.0.proj",
        f"{_LAYER}.ff.net.0.proj",
        groups=1,
        order=[1, 0],
    ),
    _fault(
        "llama_pf",
        "rotary frequencies are halved",
        "buffer",
        "model.rotary_emb",
        "model.rotary_emb",
        name="inv_freq",
        factor=0.5,
    ),
    _fault(
        "llama_pf",
        "RMSNorm epsilon 0.1 for 1e-6",
        "attribute",
        "model.layers.1.post_attention_layernorm",
        "model.layers.1.post_attention_layernorm",
        name="variance_epsilon",
        value=0.1,
    ),
    _fault(
        "qwen2_pf",
        "packed [up, gate] for [gate, up]",
        "swapped_parts",
        "model.layers.0.mlp.up_gate_proj",
        "model.layers.0.mlp",
        "model.layers.0.mlp.gate_proj",
        "model.layers.0.mlp.up_proj",
        groups=1,
        order=[1, 0],
    ),
    _fault(
        "qwen2_pf",
        "the scale of attention is dropped",
        "attribute",
        "model.layers.1.self_attn",
        "model.layers.1.self_attn",
        name="scaling",
        value=1.0,
    ),
    _fault(
        "qwen2_moe_pf",
        "a scale of 0.5",
        "scaled",
        "model.layers.0.mlp.shared_expert",
        "model.layers.0.mlp.shared_expert",
        factor=0.5,
    ),
    _fault(
        "qwen2_moe_pf",
        "the router is detached",
        "detached",
        "model.layers.1.mlp.gate",
        "model.layers.1.mlp.gate",
    ),
    _fault(
        "gpt_oss_pf",
        "heads in another order, before the library's own fault",
        "swapped_heads",
        "model.layers.0.self_attn.o_proj",
        "model.layers.0.self_attn.o_proj",
    ),
    _fault(
        "gpt_oss_pf",
        "RMSNorm epsilon 0.1 for 1e-6, before the library's own fault",
        "attribute",
        "model.layers.0.input_layernorm",
        "model.layers.0.input_layernorm",
        name="variance_epsilon",
        value=0.1,
    ),
)
