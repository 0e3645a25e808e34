"""Results made by hand, for the reports to show."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from padiff_rpc.model.model import ModelInfo
from padiff_rpc.result import Cause, Divergence, LayerRef, Metrics, Pair, Result, Stage, Unmatched

ENVIRONMENT = {
    side: asdict(
        ModelInfo(
            framework=framework,
            framework_version=version,
            device="cpu",
            python_version="3.11.7",
            packages={"numpy": "2.4.6"},
            padiff_version="0.1.0",
            host="here",
            pid=pid,
        )
    )
    for side, framework, version, pid in (("base", "torch", "2.13.0", 11), ("raw", "paddle", "3.3.1", 12))
}

PROJECTION = {"name": "projection", "options": {"seed": 0.0}, "targets": {}}

CAUSE = Cause("hyper-parameter", "hyper-parameters of the layer differ", "eps=1e-12 against epsilon=0.001", 0.8)


def asked(dtype: str | None = None) -> dict[str, Any]:
    """What the settings say of one side."""
    return {"spec": f"numpy@{dtype}.py:build", "python": "/usr/bin/python", "dtype": dtype, "args": {}}


SETTINGS: dict[str, Any] = {
    "compare": {"mode": "scaled", "atol": None, "rtol": None, "allow_dtype_difference": False},
    "assign": True,
    "training": None,
    "diff_phase": "both",
    "single_step": False,
    "api_calls": False,
    "steps": 1,
    "seed": 0,
    "base_loss": PROJECTION,
    "raw_loss": PROJECTION,
    "base_optimizer": None,
    "raw_optimizer": None,
    "layer_map": {},
    "parameter_map": {},
    "renames": {},
    "aoa_statements": (),
    "raw_statements": False,
    "base_selection": {},
    "raw_selection": {},
    "held": True,
    "fail_fast": False,
    "layers": (),
    "depth": None,
    "verify_probe": False,
    "tolerance": "table",
    "strict_inside": False,
    "allow_extra": (),
    "explain": True,
    "repeat": 1,
    "sync_random": False,
    "base": asked(),
    "raw": asked(),
    "inputs": ["in.npz", "in.npz"],
}
FIGURES: dict[str, Any] = {
    "wall_s": 1.25,
    "bytes_moved": 4096,
    "coordinator_peak_bytes": 1 << 27,
    "store": {"base": None, "raw": None},
    "transport": {"base": "shared memory", "raw": None},
    "assign_s": 0.01,
    "weights_before_s": 0.02,
    "step_s": [1.0],
    "base_forward_s": [0.25],
    "raw_forward_s": [0.25],
    "steps": [{"step": 0, "loss": {"base": 0.5, "raw": 0.5}, "gradient_norm": None, "weights_apart": None}],
}


def metrics(measured: float, allowed: float = 1e-5, **changes: Any) -> Metrics:
    """A plausible measurement; `changes` overrides any field."""
    values: dict[str, Any] = {
        "max_abs": measured * 4,
        "max_rel": measured * 30,
        "mean_abs": measured / 2,
        "rel_l2": measured,
        "cosine": 1 - measured,
        "mismatched": 0 if measured <= allowed else 812,
        "total": 98304,
        "nan": 0,
        "inf": 0,
        "index": (0, 3, 17),
        "allowed": allowed,
        "measured": measured,
        "measure": "rel_l2",
        "base_value": 0.5321,
        "raw_value": 0.5321 + measured * 4,
    }
    return Metrics(**{**values, **changes})


def pair(base: str, raw: str, measured: float | None = 1e-7, **changes: Any) -> Pair:
    """One comparison, failed where `measured` exceeds 1e-5."""
    values: dict[str, Any] = {
        "step": 0,
        "stage": "forward",
        "base_route": base,
        "raw_route": raw,
        "call": 0,
        "tensor": "output.0",
        "status": "pass",
        "metrics": None if measured is None else metrics(measured),
    }
    if measured is not None and not measured <= 1e-5:
        values |= {"status": "fail", "failure": "values", "why": "values out of tolerance"}
    return Pair(**{**values, **changes})


def result(
    pairs: list[Pair],
    divergences: list[Divergence] | None = None,
    settings: dict[str, Any] | None = None,
    **changes: Any,
) -> Result:
    """A result of these pairs, as complete as align() makes it; aligned when none of them failed."""
    values: dict[str, Any] = {
        "aligned": bool(pairs) and all(one.status != "fail" for one in pairs),
        "divergences": divergences or [],
        "pairs": pairs,
        "unmatched_base": [],
        "unmatched_raw": [],
        "notes": [],
        "settings": {**SETTINGS, **(settings or {})},
        "environment": ENVIRONMENT,
        "figures": FIGURES,
        "trees": {"base": [], "raw": []},
    }
    return Result(**{**values, **changes})


def divergence(
    found_at: Pair, base: LayerRef, raw: LayerRef, why: str = "its inputs agree, its output does not"
) -> Divergence:
    """A divergence at a layer pair, shown by `found_at`."""
    stage: Stage = found_at.stage
    return Divergence(found_at.step, stage, base, raw, found_at.call, found_at.tensor, why, found_at)


def bert_trees(layers: int = 6) -> tuple[dict[str, list[tuple[str, str]]], list[tuple[str, str]]]:
    """Trees of a torch BERT and a paddle one that names its parts otherwise, and the pairs between them."""
    names = [
        ("", "BertModel", "", "TransformerModel"),
        ("embeddings", "BertEmbeddings", "embeddings", "Embeddings"),
        ("embeddings.word_embeddings", "Embedding", "embeddings.word", "Embedding"),
        ("embeddings.LayerNorm", "LayerNorm", "embeddings.norm", "LayerNorm"),
        ("encoder", "BertEncoder", "encoder", "TransformerEncoder"),
        ("encoder.layer", "ModuleList", "encoder.layers", "LayerList"),
    ]
    for i in range(layers):
        b, r = f"encoder.layer.{i}", f"encoder.layers.{i}"
        names += [
            (b, "BertLayer", r, "TransformerEncoderLayer"),
            (f"{b}.attention", "BertAttention", f"{r}.attention", "Attention"),
            (f"{b}.attention.self", "BertSelfAttention", f"{r}.attention.self_attn", "SelfAttention"),
            (f"{b}.intermediate", "BertIntermediate", f"{r}.intermediate", "Intermediate"),
            (f"{b}.intermediate.dense", "Linear", f"{r}.intermediate.linear1", "Linear"),
            (f"{b}.output", "BertOutput", f"{r}.output", "Output"),
            (f"{b}.output.dense", "Linear", f"{r}.output.linear2", "Linear"),
            (f"{b}.output.dropout", "Dropout", f"{r}.output.dropout", "Dropout"),
            (f"{b}.output.LayerNorm", "LayerNorm", f"{r}.output.norm2", "LayerNorm"),
        ]
    trees = {"base": [(b, c) for b, c, _, _ in names], "raw": [(r, c) for _, _, r, c in names]}
    return trees, [(b, r) for b, _, r, _ in names]


def bert_differs(**changes: Any) -> Result:
    """A wrong LayerNorm epsilon in encoder layer 3, as a run without single step shows it."""
    trees, paired = bert_trees()
    bad = "encoder.layer.3.output.LayerNorm"
    at = [b for b, _ in paired].index(bad)
    pairs = [
        pair(b, r, 3.12e-2 if i >= at or bad.startswith(f"{b}.") or b == "" else 2e-7)
        for i, (b, r) in enumerate(paired)
    ]
    pairs += [pair(b, r, 0.4, stage="grads", tensor="weight") for b, r in paired if "LayerNorm" in b]
    pairs.append(pair("pooler", "pooler", None, status="skipped", why="no gradient on either side"))
    found = next(one for one in pairs if one.base_route == bad)
    first = divergence(
        found,
        LayerRef(bad, "LayerNorm", {"normalized_shape": [384], "eps": 1e-12, "bias": True}),
        LayerRef(
            "encoder.layers.3.output.norm2", "LayerNorm", {"normalized_shape": [384], "epsilon": 1e-3, "bias": True}
        ),
    )
    return result(pairs, [first], trees=trees, paired_routes=paired, **changes)


def aligned(**changes: Any) -> Result:
    """Everything agrees; some pairs were skipped."""
    _, paired = bert_trees()
    pairs = [pair(b, r, 1e-7 * (i % 5)) for i, (b, r) in enumerate(paired)]
    pairs += [pair(b, r, 3e-6, stage="grads", tensor="weight") for b, r in paired if "LayerNorm" in b]
    pairs += [
        pair(b, r, None, stage="backward", status="skipped", why="no gradient on either side") for b, r in paired[:4]
    ]
    lonely = [Unmatched("layer", "pooler.act", "base calls the function", False)]
    return result(pairs, **{"unmatched_raw": lonely, **changes})
