"""Tell which layers draw random numbers, and which of these can draw the same on both sides."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from padiff_rpc.match.layer_map import LayerPair
from padiff_rpc.model.model import LayerInfo, ModelDescription
from padiff_rpc.per_side import PerSide

_RATES = ("p", "dropout", "drop_prob", "drop_rate", "dropout_rate", "attn_dropout", "dropout_p")
_RANDOM = ("dropout", "droppath", "drop_path", "stochasticdepth")
_SCALING: Mapping[str, str] = {
    f"{module}.{name}": name.lower()
    for module, names in (
        ("torch.nn.modules.dropout", ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d")),
        ("paddle.nn.layer.common", ("Dropout", "Dropout2D", "Dropout3D")),
        ("padiff_rpc.numpy_framework.nn", ("Dropout",)),
    )
    for name in names
}
"""The dropouts whose output is their input times what they draw, by the paths of their classes: the kind that they are of."""


@dataclass(frozen=True)
class SharedDraw:
    """A pair of dropouts of which raw's can take base's draws.

    Attributes:
        base: is base's route.
        raw: is raw's route.
        by_channel: tells that whole channels (the first two axes) are dropped or kept.
    """

    base: str
    raw: str
    by_channel: bool


def shareable_draws(
    described: PerSide[ModelDescription], pairs: Iterable[LayerPair], training: bool | None
) -> list[SharedDraw]:
    """Return the pairs of layers that are active dropouts of one kind, of the frameworks' own classes.

    Args:
        described: are the models.
        pairs: are their layers that correspond and are recorded.
        training: is the mode that is set; with None, each layer's own mode counts.
    """
    layers = described.map(lambda model: {layer.route: layer for layer in model.layers})
    shared: list[SharedDraw] = []
    for pair in pairs:
        kinds = [_kind(layers.base[pair.base], training), _kind(layers.raw[pair.raw], training)]
        if kinds[0] and kinds[0] == kinds[1]:
            shared.append(SharedDraw(pair.base, pair.raw, kinds[0] != "dropout"))
    return shared


def random_layers(model: ModelDescription, training: bool | None, routes: Collection[str] | None = None) -> list[str]:
    """Return `route (Class, p=0.1)` for every layer with active dropout.

    Args:
        model: is the model.
        training: is the mode that is set; with None, each layer's own mode counts.
        routes: are those of the layers to look at; None for all.
    """
    return [
        f"{layer.route or layer.class_name} ({layer.class_name}, {name}={rate})"
        for layer in model.layers
        if (routes is None or layer.route in routes) and _trains(layer, training)
        for name, rate in _active_rates(layer)
    ]


def rates_of_own_code(model: ModelDescription, training: bool | None) -> list[str]:
    """Return `route (Class, attention_dropout=0.1)` for every layer that keeps a drop rate and is no dropout itself.

    Its own code may draw by a function, which nobody sees from outside.
    """
    return [
        f"{layer.route or layer.class_name} ({layer.class_name}, {name}={value})"
        for layer in model.layers
        if _trains(layer, training) and not _active_rates(layer)
        for name, value in layer.hyperparameters.items()
        if "drop" in name.lower() and isinstance(value, float) and 0 < value < 1
    ]


def _kind(layer: LayerInfo, training: bool | None) -> str:
    """Return which dropout an active layer is; "" where it is none whose draw can be shared."""
    told = layer.hyperparameters
    if not _trains(layer, training) or not _active_rates(layer) or told.get("inplace") or told.get("axis") is not None:
        return ""
    return _SCALING.get(layer.class_path, "")


def _trains(layer: LayerInfo, training: bool | None) -> bool:
    return layer.training if training is None else training


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
