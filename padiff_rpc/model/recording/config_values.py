"""Read the plain values of the configuration object that a layer was built from, as model libraries hand it down."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PREFIX = "config."
"""Before the name of a configuration's value among a layer's hyper-parameters."""
_HOLDERS = ("config", "cfg")
_PLAIN = (bool, int, float, str, type(None))


@dataclass
class ConfigValues:
    """Reads each configuration once: at the first layer, from the root down, that holds it. Most layers below hold the same."""

    _seen: list[Any] = field(default_factory=list)

    def of(self, layer: Any) -> dict[str, Any]:
        """Return a layer's configuration by name, with PREFIX; empty where it has none, or one that was read before.

        An attribute counts as a configuration if it is an object with attributes of its own, or a dictionary. It is not called,
        so that no code of a user runs.
        """
        for name in _HOLDERS:
            config = vars(layer).get(name)
            values = config if isinstance(config, Mapping) else getattr(config, "__dict__", None)
            if not isinstance(values, Mapping) or isinstance(config, type) or callable(config):
                continue
            if any(config is seen for seen in self._seen):
                return {}
            self._seen.append(config)
            return {
                PREFIX + key: value
                for key, value in values.items()
                if isinstance(key, str) and not key.startswith("_") and _is_plain(value)
            }
        return {}


def _is_plain(value: Any) -> bool:
    return type(value) in _PLAIN and not (isinstance(value, float) and not math.isfinite(value))
