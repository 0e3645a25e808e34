"""The framework-independent part of the backends' neutral losses and optimisers: their errors, and the kept weights."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any

import numpy as np

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import LossSpec
from padiff_rpc.tensors.tensor import Tensor

KEPT_BYTES = 32 << 20
"""The largest size, in bytes on the model's device, of one output's weights that are kept between steps."""


class KeptWeights:
    """Keep the weights of the projection loss as native tensors from step to step.

    Making them costs more than using them, and steps are alike. Only the weights of the last loss are kept, and no
    weights of more than KEPT_BYTES.
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, Any] = {}

    def begin(self) -> Callable[[Hashable, int, Callable[[], Any]], Any]:
        """Begin a loss, and return a function `get(key, size_bytes, make)` that returns the weights of one output.

        `key` holds all that the weights depend on, and `size_bytes` is their size. `get` returns the weights that the last loss
        used under this key, or calls `make()`.
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
    """Return the tensor that a loss compares the first floating output with.

    Raises:
        PadiffError: BAD_CONFIG where the loss has none.
    """
    if "target" not in wanted.targets:
        raise PadiffError(
            f"the loss {wanted.name!r} needs a target, got {sorted(wanted.targets) or 'none'}",
            reason=Reason.BAD_CONFIG,
            hint="give the tensor under the name `target`",
        )
    return wanted.targets["target"]


def is_integer(tensor: Tensor) -> bool:
    """Return True for a tensor of a signed or unsigned integer dtype."""
    return np.issubdtype(tensor.spec.dtype.storage, np.integer) and not tensor.spec.dtype.is_floating


def unknown(what: str, name: str, known: Iterable[str]) -> PadiffError:
    """Return an UNKNOWN_NAME error for a loss or optimiser that is not neutral; `what` says which of the two."""
    return PadiffError(
        f"there is no neutral {what} {name!r}", reason=Reason.UNKNOWN_NAME, hint=f"choose one of {', '.join(known)}"
    )
