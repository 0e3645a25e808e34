"""The zoo's pairs: one architecture as a torch library has it (base), and as a paddle library has it (raw)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Library = Literal["transformers", "diffusers", "paddlenlp", "ppdiffusers", "paddleformers"]
Values = Mapping[str, Any]

ENVIRONMENTS: Mapping[Library, str] = {
    "transformers": "zoo-torch",
    "diffusers": "zoo-torch",
    "paddlenlp": "zoo-paddle-old",
    "ppdiffusers": "zoo-paddle-old",
    "paddleformers": "zoo-paddle",
}
"""The environment that holds each library, as the Makefile names it."""


@dataclass(frozen=True)
class Twin:
    """One side's model: a small configuration with random weights, so that nothing is downloaded.

    Attributes:
        library: is the package that has the model.
        model: is the model's class.
        config: is its configuration's class; empty where the model takes the values itself.
        values: are the configuration.
        module: is the module of the library that has the class, where it is not a public one.
    """

    library: Library
    model: str
    config: str
    values: Values
    module: str = ""

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of the factories `build` in models/torch_zoo.py and models/paddle_zoo.py."""
        return {
            "library": self.library,
            "model": self.model,
            "config": self.config,
            "values": dict(self.values),
            **({"module": self.module} if self.module else {}),
        }


@dataclass(frozen=True)
class ZooPair:
    """A pair, and what is true of it.

    Attributes:
        name: is how the pair is asked for.
        base: is the torch library's model.
        raw: is the paddle library's model.
        inputs: are the arrays that both take.
        differs_at: are the base routes that may be named where the library is wrong; empty where the pair is right.
        remark: says what is to be known of the pair.
        settings: are fields of AlignSettings that the pair needs.
    """

    name: str
    base: Twin
    raw: Twin
    inputs: Values
    differs_at: tuple[str, ...] = ()
    remark: str = ""
    settings: Values = field(default_factory=dict)


_random = np.random.default_rng(0)
IDS = {"input_ids": _random.integers(3, 190, (2, 10))}
TWO_IDS = {**IDS, "decoder_input_ids": _random.integers(3, 190, (2, 7))}
IMAGE = {"pixel_values": _random.standard_normal((2, 3, 32, 32), np.float32)}
NOISE = {
    "sample": _random.standard_normal((1, 4, 16, 16), np.float32),
    "timestep": np.array(7),
    "encoder_hidden_states": _random.standard_normal((1, 5, 32), np.float32),
}

_SIZES: Values = {
    "vocab_size": 199,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
_ENCODER: Values = {**_SIZES, "max_position_embeddings": 128, "pad_token_id": 0}
_BERT: Values = {**_ENCODER, "type_vocab_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12}
_DISTILBERT: Values = {
    "vocab_size": 199,
    "dim": 64,
    "hidden_dim": 96,
    "n_layers": 2,
    "n_heads": 4,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
}
_OPT: Values = {
    "vocab_size": 199,
    "hidden_size": 64,
    "word_embed_proj_dim": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "pad_token_id": 1,
}
_GPT2: Values = {
    "vocab_size": 199,
    "n_embd": 64,
    "n_inner": 96,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 128,
    "activation_function": "gelu",
}
_BLOOM: Values = {"vocab_size": 199, "hidden_size": 64, "n_layer": 2, "n_head": 4}
_T5: Values = {
    "vocab_size": 199,
    "d_model": 64,
    "d_kv": 16,
    "d_ff": 96,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "pad_token_id": 0,
    "decoder_start_token_id": 0,
    "use_cache": False,
}
_BART: Values = {
    "vocab_size": 199,
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 96,
    "decoder_ffn_dim": 96,
    "max_position_embeddings": 128,
}
_XLNET: Values = {"vocab_size": 199, "d_model": 64, "n_layer": 2, "n_head": 4, "d_inner": 96, "ff_activation": "gelu"}
_CTRL: Values = {"vocab_size": 199, "n_embd": 64, "n_layer": 2, "n_head": 4, "dff": 96, "n_positions": 128}
_CLIP_TEXT: Values = {**_SIZES, "max_position_embeddings": 32, "projection_dim": 32, "eos_token_id": 2}
_CLIP_VISION: Values = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
    "projection_dim": 32,
}
_UNET: Values = {
    "sample_size": 16,
    "block_out_channels": [32, 64],
    "layers_per_block": 1,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "cross_attention_dim": 32,
    "attention_head_dim": 8,
    "norm_num_groups": 8,
}
_DECODER: Values = {
    **_ENCODER,
    "num_key_value_heads": 2,
    "use_cache": False,
    "tie_word_embeddings": False,
    "rms_norm_eps": 1e-6,
}
_EXPERTS: Values = {
    **_DECODER,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 48,
    "shared_expert_intermediate_size": 48,
    "decoder_sparse_step": 1,
}
_GPT_OSS: Values = {**_DECODER, "num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 16}


def _nlp(name: str, stem: str, values: Values, inputs: Values = IDS, raw_values: Values | None = None) -> ZooPair:
    """Return a pair of transformers and paddlenlp, whose classes bear one name."""
    base = Twin("transformers", f"{stem}Model", f"{stem}Config", values)
    raw = Twin("paddlenlp", f"{stem}Model", f"{stem}Config", values if raw_values is None else raw_values)
    return ZooPair(name, base, raw, inputs)


def _decoder(name: str, stem: str, values: Values, module: str = "", **more: Any) -> ZooPair:
    """Return a pair of transformers and paddleformers.

    module: holds the class that builds its layers itself; the public one needs a package that has no build for CPUs.
    """
    base = Twin("transformers", f"{stem}ForCausalLM", f"{stem}Config", values)
    model = f"{stem}ForCausalLM{'Deprecated' if module else ''}"
    return ZooPair(name, base, Twin("paddleformers", model, f"{stem}Config", values, module), IDS, **more)


_GPT2_PAIR = ZooPair(
    "gpt2",
    Twin("transformers", "GPT2Model", "GPT2Config", _GPT2),
    Twin("paddlenlp", "GPTModel", "GPTConfig", {**_SIZES, "max_position_embeddings": 128}),
    IDS,
)
_UNET_PAIR = ZooPair(
    "sd_unet",
    Twin("diffusers", "UNet2DConditionModel", "", _UNET),
    Twin("ppdiffusers", "UNet2DConditionModel", "", _UNET),
    NOISE,
)

PAIRS: Mapping[str, ZooPair] = {
    pair.name: pair
    for pair in (
        _nlp("bert", "Bert", _BERT),
        _nlp("roberta", "Roberta", {**_BERT, "pad_token_id": 1}),
        _nlp("distilbert", "DistilBert", _DISTILBERT, raw_values=_ENCODER),
        _nlp("opt", "OPT", {**_OPT, "ffn_dim": 96}, raw_values={**_OPT, "intermediate_size": 96}),
        _GPT2_PAIR,
        _nlp("bloom", "Bloom", _BLOOM),
        _nlp("t5", "T5", _T5, TWO_IDS),
        _nlp("bart", "Bart", _BART, TWO_IDS),
        _nlp("xlnet", "XLNet", _XLNET, raw_values={**_XLNET, "d_head": 16}),
        _nlp("roformer", "RoFormer", {**_BERT, "embedding_size": 64}),
        _nlp("ctrl", "CTRL", _CTRL),
        _nlp("clip_text", "CLIPText", _CLIP_TEXT),
        _nlp("clip_vision", "CLIPVision", _CLIP_VISION, IMAGE),
        _nlp("albert", "Albert", {**_BERT, "embedding_size": 32}),
        _UNET_PAIR,
        _decoder("llama_pf", "Llama", _DECODER),
        _decoder("qwen2_pf", "Qwen2", _DECODER, module="qwen2"),
        _decoder("qwen2_moe_pf", "Qwen2Moe", _EXPERTS, module="qwen2_moe"),
        _decoder(
            "gpt_oss_pf",
            "GptOss",
            _GPT_OSS,
            differs_at=("model.layers.0.mlp.experts",),
            remark="the library is wrong: transpose([0, 1]) leaves the axes of the routing weights as they are in paddle",
        ),
    )
}
