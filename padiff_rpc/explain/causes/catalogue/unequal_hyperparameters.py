"""Hyper-parameters that differ: of the layer itself, and of the layers and configurations around it."""

from __future__ import annotations

from collections.abc import Sequence

from padiff_rpc.compare.differing_hyperparameters import (
    Difference,
    differing_configuration,
    differing_hyperparameters,
)
from padiff_rpc.explain.causes.evidence import Evidence, SeenLayer
from padiff_rpc.per_side import PerSide
from padiff_rpc.result import Cause, LayerRef

_TOLD = 3
_CONCERNS = (
    (("norm", "ln"), ("eps", "norm")),
    (
        ("act", "gelu", "relu", "silu", "mlp", "ffn", "feed", "intermediate", "fc"),
        ("act", "intermediate", "ffn", "gate"),
    ),
    (("attn", "attention"), ("head", "rope", "rotary", "theta", "scal", "window", "softcap", "causal", "attention")),
    (("embed",), ("pad", "position", "scal", "type_vocab", "embed")),
    (("drop",), ("drop",)),
    (("expert", "moe", "router", "gate"), ("expert", "top_k", "topk", "router", "moe")),
    (("rope", "rotary"), ("rope", "rotary", "theta", "position", "scal")),
    (("head", "lm"), ("logit", "softcap", "scal", "tie")),
)
"""Words in a layer's class or name, and words in the names of a configuration's values that shape such a layer."""
_OF_BUFFERS = ("momentum", "track_running_stats", "use_global_stats")
"""Those that show in running statistics; momentum shows nowhere else."""


def hyperparameters(evidence: Evidence) -> Sequence[Cause]:
    """Name the hyper-parameters of the layer at fault that differ in their meaning and can show where the difference is."""
    found = [one for one in _differing(evidence.layers) if _can_show(evidence, one)]
    if not found:
        return ()
    score = {"buffers": 0.9, "forward": 0.8}.get(evidence.stage, 0.6)
    return (Cause("hyper-parameter", "hyper-parameters of the layer differ", _listed(found), score),)


def configuration(evidence: Evidence) -> Sequence[Cause]:
    """Name what differs in the layers inside the one at fault, else in those around it, else in a configuration object.

    What is inside has agreed within its tolerance, and may still be where the difference comes from. Of the layers around it the
    innermost counts, and of a configuration the values whose names concern a layer of this kind.
    """
    if evidence.stage not in ("forward", "backward", "grads"):
        return ()
    inside = [(layers, one) for layers in evidence.inside for one in _differing(layers) if _can_show(evidence, one)]
    if inside:
        names = dict.fromkeys(layers.base.route for layers, _ in inside)
        words = f"hyper-parameters differ in {', '.join(names)}, inside the layer"
        return (Cause("configuration", words, _listed([one for _, one in inside]), 0.75),)
    for distance, layers in enumerate(evidence.enclosing):
        found = [one for one in _differing(layers) if _can_show(evidence, one)]
        if found:
            name = layers.base.route or layers.base.class_name
            words = f"hyper-parameters differ in {name}, which the layer lies in"
            return (Cause("configuration", words, _listed(found), max(0.3, 0.5 - 0.05 * distance)),)
    for layers in (evidence.layers, *evidence.enclosing):
        base, raw = _refs(layers)
        found = [one for one in differing_configuration(base, raw) if _concerns(evidence, one)]
        if found:
            words = "the two configurations differ in what concerns a layer of this kind"
            return (Cause("configuration", words, _listed(found), 0.5),)
    return ()


def _differing(layers: PerSide[SeenLayer]) -> list[Difference]:
    base, raw = _refs(layers)
    return differing_hyperparameters(base, raw, layers.base.framework, layers.raw.framework)


def _refs(layers: PerSide[SeenLayer]) -> PerSide[LayerRef]:
    return layers.map(lambda layer: LayerRef(layer.route, layer.class_name, layer.hyperparameters))


def _concerns(evidence: Evidence, difference: Difference) -> bool:
    """Tell whether a configuration's value may shape the layer at fault: by its class and route, or by those inside it."""
    name = difference.base.partition("=")[0].lower()
    seen = (evidence.layers.base, *(layers.base for layers in evidence.inside))
    family = " ".join(f"{layer.class_name} {layer.route.rpartition('.')[2]}" for layer in seen).lower()
    return any(
        any(word in family for word in families) and any(word in name for word in names)
        for families, names in _CONCERNS
    )


def _can_show(evidence: Evidence, difference: Difference) -> bool:
    own_names = {text.partition("=")[0] for text in (difference.base, difference.raw)}
    of_buffers = bool(own_names & set(_OF_BUFFERS))
    if evidence.stage == "buffers":
        return of_buffers
    return evidence.stage in ("forward", "backward", "grads") and not (of_buffers and "momentum" in own_names)


def _listed(found: Sequence[Difference]) -> str:
    texts = [f"{one.base} against {one.raw}" + (f" ({one.note})" if one.note else "") for one in found[:_TOLD]]
    more = f" and {len(found) - _TOLD} more" if len(found) > _TOLD else ""
    return "; ".join(texts) + more
