"""A mutation as plain data: what is changed, and where."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Family = Literal["parameter", "value", "integers", "call", "setting", "exchange"]


@dataclass(frozen=True)
class Mutation:
    """One change of a model.

    Attributes:
        family: What is changed: a parameter as a layer reads it, a value or integers that enter or leave a layer, the
            result of a functional call in a layer's own code, a setting of a layer, or the code of two layers of a kind.
        kind: The change, as `changes` names it.
        route: The layer.
        detail: What else is needed to make the change again; JSON values.
    """

    family: Family
    kind: str
    route: str
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The family and the kind, as the table has them."""
        return f"{self.family}: {self.kind}"

    def words(self) -> str:
        """The rest in a few words."""
        return ", ".join(f"{name} {value}" for name, value in self.detail.items())
