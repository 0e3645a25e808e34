"""Read PaDiff's environment variables, at each use, so that a script may set them at any time.

Each is on or off; any other value raises PadiffError (BAD_CONFIG).
"""

from __future__ import annotations

import os

from padiff_rpc.errors import PadiffError, Reason

_ON = ("1", "on", "true", "yes")
_OFF = ("", "0", "off", "false", "no")

# PaDiff's own spelling first; then a well-spelled one.
_SKIP_WRAP_LAYER = ("PADIFF_SIKP_WRAP_LAYER", "PADIFF_SKIP_WRAP_LAYER")


def skip_wrap_layers() -> bool:
    """Return True if layers without parameters of their own are left out (PADIFF_SIKP_WRAP_LAYER, or ..._SKIP_...)."""
    return any(_is_on(name) for name in _SKIP_WRAP_LAYER)


def path_log() -> bool:
    """Return True if trees in log files show each layer's route (PADIFF_PATH_LOG)."""
    return _is_on("PADIFF_PATH_LOG")


def api_check() -> bool:
    """Return True if functional calls (relu, add, ...) are recorded and compared (PADIFF_API_CHECK)."""
    return _is_on("PADIFF_API_CHECK")


def _is_on(name: str) -> bool:
    value = os.environ.get(name, "")
    if value.lower() in _ON:
        return True
    if value.lower() in _OFF:
        return False
    raise PadiffError(
        f"the environment variable {name} is {value!r}",
        reason=Reason.BAD_CONFIG,
        hint=f"set it to ON or OFF (or unset it): {name}=ON",
    )
