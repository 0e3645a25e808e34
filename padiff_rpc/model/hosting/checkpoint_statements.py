"""Ask a model's own class how a checkpoint of another library becomes the model's."""

from __future__ import annotations

from typing import Any

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.hosting.user_errors import user_error

_METHOD = "_gen_aoa_config"
"""Takes a configuration and returns {"aoa_statements": [...]}: a class method of paddleformers' models (1.1.1)."""


def checkpoint_statements(model: Any, framework: str) -> tuple[str, ...]:
    """Return the AOA statements that a model's class gives for the model's configuration; empty where it has none.

    Args:
        model: The framework's own model.
        framework: The framework's name.

    Raises:
        PadiffError: MODEL_FAILED where the class raises, or returns anything but statements that lead to the model.
    """
    method, config = getattr(model, _METHOD, None), getattr(model, "config", None)
    if method is None or config is None:
        return ()
    what = f"{type(model).__name__}.{_METHOD}"
    try:
        made = method(config)
    except Exception as err:
        raise user_error(f"{what} raised", err, framework, Reason.MODEL_FAILED) from err
    statements = made.get("aoa_statements") if isinstance(made, dict) else None
    if not isinstance(statements, (list, tuple)) or not all(isinstance(one, str) for one in statements):
        raise PadiffError(f"{what} returned no list of AOA statements", reason=Reason.MODEL_FAILED)
    if made.get("aoa_config_reverse"):
        raise PadiffError(
            f"{what} returned statements that lead away from the model (aoa_config_reverse)",
            reason=Reason.MODEL_FAILED,
        )
    return tuple(statements)
