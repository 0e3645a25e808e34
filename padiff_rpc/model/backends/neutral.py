"""What the backends' neutral losses and optimisers share, without a framework: what they refuse, and what they keep."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any

import numpy as np

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import LossSpec
from padiff_rpc.tensors.tensor import Tensor

KEPT_BYTES = 32 << 20
"""The most that the weights of one output may take of the model's device between steps."""


class KeptWeights:
    """Weights of the projection loss as native tensors. Making them costs more than their use, and steps are alike.

    Kept are those of the last loss alone, and none of more than KEPT_BYTES.
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, Any] = {}

    def begin(self) -> Callable[[Hashable, int, Callable[[], Any]], Any]:
        """Begin a loss. Returns what gives the weights of one output: those of this key (all that they depend on), or made.

        The number is how many bytes they take.
        """
        before, self._kept = self._kept, {}
        now = self._kept

        def get(key: Hashable, size_bytes: int, make: Callable[[], Any]) -> Any:
            weights = before.pop(key) if key in before else make()
            if size_bytes <= KEPT_BYTES:
                now[key] = weights
            return weights

        return get


def target_of(wanted: LossSpec) -> Tensor:
    """Return the loss's target; BAD_CONFIG without one."""
    if "target" not in wanted.targets:
        raise PadiffError(
            f"the loss {wanted.name!r} needs a target, got {sorted(wanted.targets) or 'none'}",
            reason=Reason.BAD_CONFIG,
            hint="give the tensor under the name `target`",
        )
    return wanted.targets["target"]


def is_integer(tensor: Tensor) -> bool:
    return np.issubdtype(tensor.spec.dtype.storage, np.integer) and not tensor.spec.dtype.is_floating


def unknown(what: str, name: str, known: Iterable[str]) -> PadiffError:
    return PadiffError(
        f"there is no neutral {what} {name!r}", reason=Reason.UNKNOWN_NAME, hint=f"choose one of {', '.join(known)}"
    )
