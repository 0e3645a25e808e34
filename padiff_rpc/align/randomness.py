"""Say which layers draw random numbers: two sides that do cannot agree, and the numbers alone do not tell why."""

from __future__ import annotations

from padiff_rpc.model.model import LayerInfo, ModelDescription

_RATES = ("p", "dropout", "drop_prob", "drop_rate", "dropout_rate", "attn_dropout", "dropout_p")
_RANDOM = ("dropout", "droppath", "drop_path", "stochasticdepth")


def random_layers(model: ModelDescription, training: bool | None) -> list[str]:
    """Return `route (Class, p=0.1)` of every layer with active dropout; training None goes by each layer's mode."""
    return [
        f"{layer.route or layer.class_name} ({layer.class_name}, {name}={rate})"
        for layer in model.layers
        if (layer.training if training is None else training)
        for name, rate in _active_rates(layer)
    ]


def _active_rates(layer: LayerInfo) -> list[tuple[str, float]]:
    """Find drop rates above zero on layers that apply them themselves."""
    family = layer.class_name.lower()
    applies = any(word in family for word in _RANDOM) or "attention" in family or family in ("lstm", "gru", "simplernn")
    if not applies:
        return []
    rates = [(name, layer.hyperparameters.get(name)) for name in _RATES]
    return [
        (name, float(rate))
        for name, rate in rates
        if isinstance(rate, (int, float)) and not isinstance(rate, bool) and rate > 0
    ][:1]
