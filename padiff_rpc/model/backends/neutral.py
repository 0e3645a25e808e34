"""What the backends' neutral losses and optimisers refuse alike, without a framework."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import LossSpec
from padiff_rpc.tensor import Tensor


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
